"""What a folder of slices or series holds, by its layout: nothing is ever written there."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from train.carryover.truth import NEGATIVE, Stated, is_negative, match_truth, read_truth
from train.data.folders import files_below, ought_to_be_dicom
from train.errors import TrainingError

_PICTURES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"))
_MAGIC_AT, _MAGIC = 128, b"DICM"


@dataclass(frozen=True, slots=True)
class Sample:
    """What is measured: the file of one slice, or the files of one series.

    Attributes
    ----------
    name : str
        Its path below the folder that was given.
    label : str
        Of the folder or the table; "" where nothing says it.
    truth : bool or None
        Whether it shows haemorrhage.
    """

    name: str
    label: str
    truth: bool | None
    files: tuple[Path, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What could not be measured, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Held:
    """What a folder holds.

    Attributes
    ----------
    other_files : int
        Files that are no pictures by their name and content, such as a licence.
    """

    folder: Path
    samples: tuple[Sample, ...] = field(repr=False)
    left_out: tuple[LeftOut, ...] = ()
    other_files: int = 0

    def digest(self) -> str:
        """Return what tells this set from any other, whatever its files are called."""
        files = [file for sample in self.samples for file in sample.files]
        each = sorted(_sha256(file) for file in files)
        return hashlib.sha256("".join(each).encode()).hexdigest()


def find_slices(folder: Path) -> Held:
    """Return the slices of a folder with one subfolder per label.

    Raises
    ------
    TrainingError
        When there is no such folder, no label, none called ``normal``, or no slice.
    """
    labels = _subfolders(folder)
    if not labels:
        raise TrainingError(
            f"{folder} has no subfolders: one for each label is needed, {NEGATIVE} among them."
        )
    parts = {printable(label.name): _images_below(label) for label in labels}
    empty = [LeftOut(name, "no PNG or DICOM file") for name, part in parts.items() if not part[0]]
    parts = {name: part for name, part in parts.items() if part[0]}
    if parts:
        _check_negative(parts, folder)
    loose, others = _images_in(folder)
    samples = [
        Sample(_below(file, folder), label, not is_negative(label), (file,))
        for label, (files, _) in parts.items()
        for file in files
    ]
    if not samples:
        raise TrainingError(f"No PNG or DICOM file was found below the subfolders of {folder}.")
    beside = [LeftOut(_below(file, folder), "lies beside the folders of labels") for file in loose]
    return Held(
        folder, tuple(samples), (*empty, *beside), others + sum(n for _, n in parts.values())
    )


def find_series(folder: Path, truth: Path | None = None) -> Held:
    """Return the series of a folder: DIR/series, DIR/label/series, or DIR itself.

    Parameters
    ----------
    truth : Path, optional
        A table with the columns series and label, or series and any.

    Raises
    ------
    TrainingError
        When there is no such folder, no series in it, or the labels are not understood.
    """
    told = {} if truth is None else read_truth(truth)
    left_out: list[LeftOut] = []
    found: list[tuple[Path, str, list[Path]]] = []
    others = 0
    for part in _subfolders(folder):
        files, more = _images_in(part)
        others += more
        inner = [(one, *_images_below(one)) for one in _subfolders(part)]
        inner = [one for one in inner if one[1]]
        if files:
            found.append((part, "", files))
            left_out += [LeftOut(_below(one[0], folder), "a folder in a series") for one in inner]
        elif inner:
            found += [(one, printable(part.name), images) for one, images, _ in inner]
        else:
            left_out.append(LeftOut(_below(part, folder), "no PNG or DICOM file"))
    loose, more = _images_in(folder)
    if loose and not found:
        found, left_out = [(folder, "", loose)], []
    elif loose:
        left_out += [
            LeftOut(_below(file, folder), "lies beside the folders of series") for file in loose
        ]
    if not found:
        raise TrainingError(f"No folder with PNG or DICOM files was found in {folder}.")
    labels = {label: () for _, label, _ in found if label}
    if labels and not told:
        _check_negative(labels, folder)
    names = [_named(place, folder) for place, _, _ in found]
    stated = match_truth(names, told)
    samples = tuple(
        _told(name, label, files, stated.get(name) if told else Stated.of_folder(label))
        for name, (_, label, files) in zip(names, found, strict=True)
    )
    if told and all(sample.truth is None for sample in samples):
        raise TrainingError(f"No series of {folder} is named in {truth}.")
    return Held(folder, samples, tuple(left_out), others + more)


def natural(path: Path) -> list[tuple[bool, int, str]]:
    """Return by what file names are ordered as people do: 2 before 10."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]


def printable(name: str) -> str:
    """Return a file name as text: bytes in it that are not UTF-8 become replacement signs."""
    return os.fsencode(name).decode("utf-8", "replace")


def _told(name: str, label: str, files: Sequence[Path], stated: Stated | None) -> Sample:
    if stated is None:
        return Sample(name, label, None, tuple(files))
    return Sample(name, stated.label or label, stated.truth, tuple(files))


def _check_negative(labels: Mapping[str, object], folder: Path) -> None:
    if not any(map(is_negative, labels)):
        raise TrainingError(
            f"{folder} has no subfolder {NEGATIVE} with images, so nothing in it is known to be "
            f"without haemorrhage; there are: {', '.join(sorted(labels)[:8])}."
        )


def _subfolders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise TrainingError(f"{folder} is no folder.")
    return sorted(_listed(folder, Path.is_dir), key=natural)


def _images_in(folder: Path) -> tuple[list[Path], int]:
    """Return the images of a folder itself, and how many other files there are."""
    return _images_of(_listed(folder, Path.is_file))


def _listed(folder: Path, kind: Callable[[Path], bool]) -> list[Path]:
    try:
        return [one for one in folder.iterdir() if kind(one) and one.name[0] != "."]
    except OSError as error:
        raise TrainingError(f"{folder} cannot be read ({type(error).__name__}).") from None


def _images_below(folder: Path) -> tuple[list[Path], int]:
    return _images_of(files_below(folder))


def _images_of(files: Sequence[Path]) -> tuple[list[Path], int]:
    images = [one for one in files if _ought_to_be_image(one)]
    return sorted(images, key=natural), len(files) - len(images)


def _ought_to_be_image(path: Path) -> bool:
    if path.suffix.lower() in _PICTURES or ought_to_be_dicom(path):
        return True
    try:
        with path.open("rb") as file:
            file.seek(_MAGIC_AT)
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def _below(path: Path, folder: Path) -> str:
    return printable(path.relative_to(folder).as_posix())


def _named(path: Path, folder: Path) -> str:
    return printable(folder.resolve().name) if path == folder else _below(path, folder)


def _sha256(file: Path) -> str:
    try:
        with file.open("rb") as source:
            return hashlib.file_digest(source, "sha256").hexdigest()
    except OSError:
        return f"{printable(file.name)} cannot be read"
