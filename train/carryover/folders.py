"""What a folder of slices or series holds, by its layout: nothing is ever written there."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from train.data.folders import files_below, ought_to_be_dicom
from train.errors import TrainingError

NEGATIVE = "normal"
"""The name of the label without haemorrhage."""
_PICTURES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"))
_MAGIC_AT, _MAGIC = 128, b"DICM"
_TRUE, _FALSE = frozenset(("1", "true", "yes")), frozenset(("0", "false", "no"))


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
    parts = {label.name: _images_below(label) for label in labels}
    empty = [LeftOut(name, "no PNG or DICOM file") for name, part in parts.items() if not part[0]]
    parts = {name: part for name, part in parts.items() if part[0]}
    if parts:
        _check_negative(parts, folder)
    loose, others = _images_in(folder)
    samples = [
        Sample(_below(file, folder), label, not _is_negative(label), (file,))
        for label, (files, _) in parts.items()
        for file in files
    ]
    if not samples:
        raise TrainingError(f"No PNG or DICOM file was found below the subfolders of {folder}.")
    beside = [LeftOut(file.name, "lies beside the folders of labels") for file in loose]
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
            found += [(one, part.name, images) for one, images, _ in inner]
        else:
            left_out.append(LeftOut(part.name, "no PNG or DICOM file"))
    loose, more = _images_in(folder)
    if loose and not found:
        found, left_out = [(folder, "", loose)], []
    elif loose:
        left_out += [LeftOut(file.name, "lies beside the folders of series") for file in loose]
    if not found:
        raise TrainingError(f"No folder with PNG or DICOM files was found in {folder}.")
    labels = {label: () for _, label, _ in found if label}
    if labels and not told:
        _check_negative(labels, folder)
    samples = tuple(_told(_named(one[0], folder), one[1], one[2], told) for one in found)
    if told and all(sample.truth is None for sample in samples):
        raise TrainingError(f"No series of {folder} is named in {truth}.")
    return Held(folder, samples, tuple(left_out), others + more)


def read_truth(table: Path) -> dict[str, tuple[str, bool | None]]:
    """Return label and truth of the series that a table names.

    Raises
    ------
    TrainingError
        When the table cannot be read or says something else than it should.
    """
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error):
        raise TrainingError(f"{table} cannot be read as a table with commas.") from None
    names = set(rows[0]) if rows else set()
    if "series" not in names or not names & {"label", "any"}:
        raise TrainingError(f"{table} needs the columns series and label, or series and any.")
    found: dict[str, tuple[str, bool | None]] = {}
    for row in rows:
        said = (row.get("any") or row.get("label") or "").strip()
        label = (row.get("label") or "").strip()
        if said.lower() in _TRUE | _FALSE:
            there: bool | None = said.lower() in _TRUE
        else:
            there = None if not said or "any" in names else not _is_negative(said)
        found[(row["series"] or "").strip()] = (label, there)
    return found


def natural(path: Path) -> list[tuple[bool, int, str]]:
    """Return by what file names are ordered as people do: 2 before 10."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]


def _told(
    name: str, label: str, files: Sequence[Path], told: Mapping[str, tuple[str, bool | None]]
) -> Sample:
    last = name.rpartition("/")[2]
    if told:
        stated, truth = told.get(name, told.get(last, (label, None)))
        return Sample(name, stated or label, truth, tuple(files))
    return Sample(name, label, not _is_negative(label) if label else None, tuple(files))


def _is_negative(label: str) -> bool:
    return label.strip().lower() == NEGATIVE


def _check_negative(labels: Mapping[str, object], folder: Path) -> None:
    if not any(map(_is_negative, labels)):
        raise TrainingError(
            f"{folder} has no subfolder {NEGATIVE} with images, so nothing in it is known to be "
            f"without haemorrhage; there are: {', '.join(sorted(labels)[:8])}."
        )


def _subfolders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise TrainingError(f"{folder} is no folder.")
    try:
        found = [one for one in folder.iterdir() if one.is_dir() and one.name[0] != "."]
    except OSError as error:
        raise TrainingError(f"{folder} cannot be read ({type(error).__name__}).") from None
    return sorted(found, key=natural)


def _images_in(folder: Path) -> tuple[list[Path], int]:
    """Return the images of a folder itself, and how many other files there are."""
    files = [one for one in folder.iterdir() if one.is_file() and one.name[0] != "."]
    return _images_of(files)


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
    return path.relative_to(folder).as_posix()


def _named(path: Path, folder: Path) -> str:
    return folder.resolve().name if path == folder else _below(path, folder)


def _sha256(file: Path) -> str:
    try:
        with file.open("rb") as source:
            return hashlib.file_digest(source, "sha256").hexdigest()
    except OSError:
        return f"{file.name} cannot be read"
