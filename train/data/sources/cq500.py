"""CQ500: 491 studies from New Delhi, each read by three radiologists; nothing is said of slices.

The folder holds ``reads.csv`` and the unpacked archives: folders ``CQ500CT<n> CQ500CT<n>`` at any
depth, in each ``Unknown Study`` with a folder for every series. Of the series of a patient one is
read, the one that the node would trust; those with contrast medium are told by the names of their
folders, because their tags say little.

A label is what at least two of the three say. "Any" is their ICH, in which a chronic bleed counts
(RSNA's labels are of acute blood): studies in which most saw one are marked by their label source,
"readers (chronic)". Where most see blood and do not agree on its kind, the kinds that one of them
saw are not known.

References
----------
Chilamkurthy S et al., Deep learning algorithms for detection of critical findings in head CT scans,
Lancet 2018.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ichnode.domain.findings import LABELS
from ichnode.domain.series import Header
from train.data.choosing import most_suitable
from train.data.folders import files_below, read_head
from train.data.labels import Labels
from train.data.reading import pseudonym
from train.data.records import UNKNOWN, Licence, SourceSeries, contradictory, unknown_labels
from train.data.sources.labels_csv import (
    CONTRADICTORY,
    Row,
    digest_of,
    existing,
    read_rows,
    refuse_labels,
)
from train.errors import TrainingError, Unusable

LABELS_FILE = "reads.csv"
READERS = ("R1", "R2", "R3")
MAJORITY = 2
COLUMNS: Mapping[str, str] = dict(
    zip(LABELS, ("ICH", "EDH", "IPH", "IVH", "SAH", "SDH"), strict=True)
)
"""Our labels and theirs."""
CHRONIC = "ChronicBleed"
LICENCE = Licence(
    "CC BY-NC-SA 4.0",
    non_commercial=True,
    cite="Chilamkurthy S et al., Lancet 2018;392:2388 (CQ500, Qure.ai).",
)
_STUDY = re.compile(r"CQ500-CT-(\d+)")
_FOLDER = re.compile(r"CQ500-?CT-?(\d+)( CQ500-?CT-?\d+)?", re.IGNORECASE)
_CONTRAST = re.compile(
    r"\d+\s?CC\b|\bCONTRAST\b|\bPOST\b|\bCECT\b|\bCT C\b|\bC\+|\bORAL\b|\bIV\b"
    r"|ANGIO|PERF|BOLUS|MONIT"
)
_PLAIN = re.compile(r"\bPRE CONTRAST\b|\bPLAIN\b|\bNON CONTRAST\b|\bNCCT\b|\bWITHOUT\b")


@dataclass(frozen=True, slots=True)
class Cq500:
    """The studies whose images are there.

    Attributes
    ----------
    labels : mapping
        Study ("CQ500-CT-12") to labels (label,).
    chronic : frozenset of str
        Studies in which most readers saw a chronic bleed.
    folders : mapping
        Study to the folders with its images.
    """

    labels: Mapping[str, Labels] = field(repr=False)
    chronic: frozenset[str] = field(repr=False)
    folders: Mapping[str, tuple[Path, ...]] = field(repr=False)
    key: bytes = field(repr=False)
    labels_digest: str
    remarks: tuple[str, ...] = ()
    name: str = "cq500"

    @property
    def licence(self) -> Licence:
        """Non-commercial."""
        return LICENCE

    def jobs(self) -> Sequence[str]:
        """Return the studies."""
        return list(self.folders)

    def read(self, job: str) -> SourceSeries:
        """Read the plain series of a study that suits best."""
        if contradictory(self.labels[job]):
            raise Unusable(CONTRADICTORY, "what most readers say of ICH and of its kinds")
        chosen = most_suitable(plain_series(self.folders[job]))
        volume = chosen.volume
        return SourceSeries(
            dataset=self.name,
            patient=pseudonym(self.name, job, key=self.key),
            study=job,
            series=chosen.series_uid,
            hu=volume.hu,
            spacing_mm=volume.spacing_mm,
            positions_mm=volume.positions_mm,
            slice_keys=volume.slice_uids,
            slice_labels=unknown_labels(len(volume.hu)),
            series_labels=self.labels[job],
            facts=chosen.facts,
            label_source="readers (chronic)" if job in self.chronic else "readers",
        )


def open_source(path: str, labels: Path | None, key: bytes) -> Cq500:
    """Find the studies of the dataset and what the readers said.

    Raises
    ------
    TrainingError
        When the folder is not that of the dataset, or its CSV is not as it was published.
    """
    refuse_labels(labels, "CQ500")
    folder = Path(path)
    stated, chronic = _readings(folder / LABELS_FILE)
    folders = _study_folders(folder)
    there = {study: folders[study] for study in stated if study in folders}
    if not there:
        raise TrainingError(
            f"None of the studies of {LABELS_FILE} is in {folder}; unpack the archives there."
        )
    missing = len(stated) - len(there)
    return Cq500(
        labels=stated,
        chronic=frozenset(chronic),
        folders=there,
        key=key,
        labels_digest=digest_of(folder / LABELS_FILE),
        remarks=(f"{missing} studies of {LABELS_FILE} are not unpacked there.",) if missing else (),
    )


def majority(votes: Sequence[bool | None]) -> float:
    """Return what at least two of the readers say, 1 or 0; NaN where no two agree."""
    if sum(vote is True for vote in votes) >= MAJORITY:
        return 1.0
    return 0.0 if sum(vote is False for vote in votes) >= MAJORITY else float(UNKNOWN)


def consensus(row: Row) -> Labels:
    """Return the labels (label,) of a study from what the three readers say of it."""
    votes = {
        label: [row.flag(f"{reader}:{theirs}") for reader in READERS]
        for label, theirs in COLUMNS.items()
    }
    labels = np.asarray([majority(votes[label]) for label in LABELS], np.float32)
    if labels[0] == 1 and not (labels[1:] == 1).any():
        for index, label in enumerate(LABELS[1:], start=1):
            if any(votes[label]):
                labels[index] = UNKNOWN
    return labels


def plain_series(folders: Sequence[Path]) -> dict[str, list[tuple[Header, Path]]]:
    """Return the series of a study by UID, without those whose folder tells of contrast medium.

    A folder's name stands in for a series description that is missing, so that the node's own
    gates read it.

    Raises
    ------
    Unusable
        When nothing is left.
    """
    series: dict[str, list[tuple[Header, Path]]] = defaultdict(list)
    contrast: set[Path] = set()
    for path in (path for folder in folders for path in files_below(folder)):
        if has_contrast(path.parent.name):
            contrast.add(path.parent)
            continue
        try:
            header = read_head(path)
        except Unusable:
            continue  # a file beside the images; one that is missing leaves a gap, which is judged
        said = header.series_description or path.parent.name
        series[header.series_uid].append(
            (dataclasses.replace(header, series_description=said), path)
        )
    if not series:
        raise Unusable("no plain series", f"{len(contrast)} with contrast medium")
    return series


def has_contrast(folder_name: str) -> bool:
    """Say whether the name of a series' folder tells of contrast medium or perfusion.

    Names are such as "CT 4cc sec 150cc D3D on-2", "CT POST CONTRAST" or "CT C THIN"; "CT PRE
    CONTRAST 5MM STD" is plain.
    """
    name = re.sub(r"[\s_-]+", " ", folder_name.upper())
    return _CONTRAST.search(name) is not None and _PLAIN.search(name) is None


def _readings(path: Path) -> tuple[dict[str, Labels], set[str]]:
    columns = [f"{reader}:{name}" for reader in READERS for name in (*COLUMNS.values(), CHRONIC)]
    stated: dict[str, Labels] = {}
    chronic: set[str] = set()
    for row in read_rows(path, ("name", "Category", *columns)):
        study = row.cells["name"]
        if _STUDY.fullmatch(study) is None or study in stated:
            raise TrainingError(
                f"Line {row.line} of {row.file} names no study such as CQ500-CT-12, or one that "
                "was named before; take the file as it was published."
            )
        stated[study] = consensus(row)
        if majority([row.flag(f"{reader}:{CHRONIC}") for reader in READERS]) == 1:
            chronic.add(study)
    return stated, chronic


def _study_folders(folder: Path) -> dict[str, tuple[Path, ...]]:
    """Return the outermost folders that are named after a study, by study."""
    found: dict[str, list[Path]] = defaultdict(list)
    for place, inside, _ in os.walk(existing(folder)):
        for name in sorted(inside):
            if named := _FOLDER.fullmatch(name):
                found[f"CQ500-CT-{int(named[1])}"].append(Path(place, name))
        inside[:] = sorted(name for name in inside if _FOLDER.fullmatch(name) is None)
    return {study: tuple(sorted(places)) for study, places in found.items()}
