"""Find the DICOM files below a folder and read their headers, of which there may be a million."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from ichnode.domain.series import Header
from ichnode.imaging.elements import PER_FRAME_GROUPS, NotPart10, Part10, read_part10
from ichnode.imaging.header import HEADER_TAGS, MOST_ELEMENTS, unchecked_header
from train.data.pool import each
from train.errors import TrainingError, Unusable

_HEAD_BYTES = 1 << 16  # the header of an image is a few kilobytes
_ENDINGS = frozenset((".dcm", ".dicom", ".ima"))
_ROWS, _FRAMES = 0x00280010, 0x00280008

_T = TypeVar("_T")


def files_below(folder: Path) -> list[Path]:
    """Return every file below a folder, in a stable order; hidden ones are left out.

    Raises
    ------
    TrainingError
        When there is no such folder.
    """
    if not folder.is_dir():
        raise TrainingError(f"{folder} is no folder.")
    found: list[Path] = []
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(place, name) for name in sorted(names) if not name.startswith(".")]
    return found


def ought_to_be_dicom(path: Path) -> bool:
    """Say by its name whether a file is to be missed where it cannot be read.

    Files on discs are numbered and have no ending (``IM000012``), or a UID for a name.
    """
    ending = path.suffix.lower()
    numbered = any(character.isdigit() for character in path.name)
    return ending in _ENDINGS or (numbered and (not ending or ending[1:].isdigit()))


def read_head(path: Path) -> Header:
    """Read the header of a file, whatever its identifiers look like, and of its bytes only a few.

    Raises
    ------
    Unusable
        When it is no DICOM file.
    TrainingError
        When the disk does not let us read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
            short = len(head) < _HEAD_BYTES
            if head[128:132] != b"DICM":
                raise Unusable("undecodable", "no DICOM file")
            part10 = _part10(head)
            if not short and (part10 is None or _needs_more(part10)):
                part10 = _part10(head + file.read())
    except OSError as error:
        raise TrainingError(
            f"A file in {path.parent} cannot be read ({type(error).__name__})."
        ) from None
    if part10 is None:
        raise Unusable("undecodable", "damaged DICOM file")
    return unchecked_header(part10.dataset)


def scan(
    paths: Sequence[Path], keep: Callable[[Path, Header], _T], workers: int = 0
) -> Iterator[_T | Unusable]:
    """Return what `keep` makes of the header of each file, in order, or why there is none.

    Parameters
    ----------
    paths : sequence of Path
    keep : callable
        Picks what is wanted of a header, in another process where there are many files: a
        function of a module. A million headers fit into no memory.
    workers : int
        Processes; 0 takes all cores.
    """
    return each(partial(_kept, keep=keep), paths, "Reading headers", workers)


def _kept(path: Path, keep: Callable[[Path, Header], _T]) -> _T | Unusable:
    try:
        return keep(path, read_head(path))
    except Unusable as reason:
        return reason


def _part10(source: bytes) -> Part10 | None:
    try:
        return read_part10(source, HEADER_TAGS, last=PER_FRAME_GROUPS, items=1, most=MOST_ELEMENTS)
    except NotPart10:
        return None


def _needs_more(part10: Part10) -> bool:
    """Say whether the wanted elements may lie further on: a long header, or frames with theirs."""
    return _ROWS not in part10.dataset or _FRAMES in part10.dataset
