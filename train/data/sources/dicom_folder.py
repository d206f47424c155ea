"""A plain folder of DICOM files, nested in any way, with a CSV of labels.

Labels of slices and series belong where they say. Labels of a study, an accession number or a
patient are about all of its series, of which one is read: the one that the node would trust.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ichnode.domain.findings import LABELS
from ichnode.domain.series import Header
from train.data.choosing import most_suitable
from train.data.folders import files_below, ought_to_be_dicom, read_head, scan
from train.data.images import ReadSlice
from train.data.labels import Labels, LabelTable, Level, read_labels
from train.data.reading import pseudonym, read_files, series_of
from train.data.records import UNKNOWN, Licence, SourceSeries, unknown_labels
from train.errors import TrainingError, Unusable

_BROKEN = "file-"  # begins the job of a file that belongs to no series


@dataclass(frozen=True, slots=True)
class Found:
    """A DICOM file, in the few facts by which labels find it."""

    path: Path
    sop_uid: str
    series_uid: str
    study_uid: str
    accession_number: str
    patient_id: str
    issuer: str


@dataclass(frozen=True, slots=True)
class DicomFolder:
    """What is labelled of a folder.

    Attributes
    ----------
    units : mapping
        Job to the files that it reads: those of a series, or of a whole study, accession number
        or patient, as the level of the labels has it.
    labels_of : mapping
        For labels of slices SOP Instance UID to labels (label,); otherwise job to labels.
    sources : mapping
        Likewise, to who labelled.
    key : bytes
        Of the pseudonyms of patients.
    broken : mapping
        Job to the name of a file that ought to be an image and cannot be read.
    """

    level: Level
    units: Mapping[str, tuple[Found, ...]] = field(repr=False)
    labels_of: Mapping[str, Labels] = field(repr=False)
    sources: Mapping[str, str] = field(repr=False)
    key: bytes = field(repr=False)
    labels_digest: str
    broken: Mapping[str, str] = field(repr=False)
    name: str = "dicom-folder"

    @property
    def licence(self) -> Licence:
        """Your own; what holds for your data holds for what is trained on it."""
        return Licence("the user's own data", non_commercial=False)

    def jobs(self) -> Sequence[str]:
        """Return the series or studies that have labels, and the files that cannot be read."""
        return [*self.units, *self.broken]

    def read(self, job: str) -> SourceSeries:
        """Read one series; of a study the one that suits best."""
        if job in self.broken:
            raise Unusable("undecodable", self.broken[job])
        if _of_several_people(self.units[job]):
            raise Unusable("several patients", f"under one {self.level}")
        if self.level in ("sop_uid", "file", "series_uid"):
            return self._series(job)
        return self._study(job)

    def _series(self, job: str) -> SourceSeries:
        files = self.units[job]
        by_slice = self.level != "series_uid"
        labelled = [one.sop_uid for one in files if one.sop_uid in self.labels_of]
        unknown = np.full(len(LABELS), UNKNOWN)

        def labels_of(one: ReadSlice) -> Labels:
            stated = self.labels_of.get(one.header.sop_uid, unknown) if by_slice else unknown
            if one.sop_uid == one.header.sop_uid:
                return stated
            return np.where(stated == 1, UNKNOWN, stated)  # some frame of it shows blood, not all

        return series_of(
            read_files(one.path for one in files),
            dataset=self.name,
            patient=self._patient(files[0]),
            study=files[0].study_uid,
            series=job,
            labels_of=labels_of,
            series_labels=self._shown(labelled) if by_slice else self.labels_of[job],
            label_source=self.sources[labelled[0] if by_slice else job],
        )

    def _shown(self, labelled: Sequence[str]) -> Labels:
        """Return 1 where any of the labelled images of a series shows it, NaN otherwise."""
        shown = np.stack([self.labels_of[uid] for uid in labelled]) == 1
        return np.where(shown.any(axis=0), np.float32(1), UNKNOWN)

    def _study(self, job: str) -> SourceSeries:
        files = self.units[job]
        if self.level == "patient_id" and len({one.study_uid for one in files}) > 1:
            raise Unusable("several studies", "the label of a patient says not which one it is of")
        series: dict[str, list[tuple[Header, Path]]] = defaultdict(list)
        for one in files:
            series[one.series_uid].append((read_head(one.path), one.path))
        chosen = most_suitable(series)
        volume = chosen.volume
        first = next(one for one in files if one.series_uid == chosen.series_uid)
        return SourceSeries(
            dataset=self.name,
            patient=self._patient(first),
            study=first.study_uid,
            series=chosen.series_uid,
            hu=volume.hu,
            spacing_mm=volume.spacing_mm,
            positions_mm=volume.positions_mm,
            slice_keys=volume.slice_uids,
            # That no slice of a negative study shows blood is known, and is yet not said here:
            # slices would then have labels of one class only.
            slice_labels=unknown_labels(len(volume.hu)),
            series_labels=self.labels_of[job],
            facts=chosen.facts,
            label_source=self.sources[job],
        )

    def _patient(self, one: Found) -> str:
        """Return the patient's pseudonym; without a Patient ID every study is a patient."""
        if not one.patient_id:
            return pseudonym("study", one.study_uid, key=self.key)
        return pseudonym(one.issuer, one.patient_id, key=self.key)


def _of_several_people(files: Sequence[Found]) -> bool:
    """Say whether files that one label is about belong to several people.

    Numbers are used again: accession numbers by two departments, patient numbers by two hospitals.
    """
    return any(
        len({getattr(one, name) for one in files} - {""}) > 1 for name in ("patient_id", "issuer")
    )


def open_source(path: str, labels: Path | None, key: bytes) -> DicomFolder:
    """Find the files of a folder and the labels that belong to them.

    Raises
    ------
    TrainingError
        When there are no labels, the CSV is wrong, or it names what is not in the folder.
    """
    if labels is None:
        raise TrainingError("A DICOM folder needs --labels CSV; see `data add --help`.")
    folder, table = Path(path), read_labels(labels)
    found, broken = find(folder)
    if not found:
        raise TrainingError(f"There is no DICOM file in {folder}.")
    by_identifier = _identified(folder, found, table.level)
    _check_known(labels, table, by_identifier)
    if table.level in ("sop_uid", "file"):
        return _of_slices(table, found, by_identifier, key, broken)
    personal = table.level in ("accession_number", "patient_id")
    jobs = {one: pseudonym(table.level, one, key=key) if personal else one for one in table.labels}
    return DicomFolder(
        level=table.level,
        units={job: tuple(by_identifier[one]) for one, job in jobs.items()},
        labels_of={job: table.labels[one] for one, job in jobs.items()},
        sources={job: table.sources[one] for one, job in jobs.items()},
        key=key,
        labels_digest=table.digest,
        broken=broken,
    )


def find(folder: Path, workers: int = 0) -> tuple[list[Found], dict[str, str]]:
    """Return the DICOM files below a folder, and job and name of those that are none.

    Raises
    ------
    TrainingError
        When there is no such folder.
    """
    paths = files_below(folder)
    found: list[Found] = []
    broken: dict[str, str] = {}
    for path, outcome in zip(paths, scan(paths, _found, workers), strict=True):
        if isinstance(outcome, Found):
            found.append(outcome)
        elif ought_to_be_dicom(path):
            relative = path.relative_to(folder).as_posix()
            broken[_BROKEN + pseudonym(relative)] = path.name
    return found, broken


def _found(path: Path, header: Header) -> Found:
    return Found(
        path=path,
        sop_uid=header.sop_uid,
        series_uid=header.series_uid,
        study_uid=header.study_uid,
        accession_number=header.accession_number,
        patient_id=header.patient_id,
        issuer=header.issuer_of_patient_id,
    )


def _identified(folder: Path, found: Sequence[Found], level: Level) -> dict[str, list[Found]]:
    """Return the files under each identifier of a level."""
    by_identifier: dict[str, list[Found]] = defaultdict(list)
    for one in found:
        if level != "file":
            by_identifier[getattr(one, level)].append(one)
            continue
        relative = one.path.relative_to(folder).as_posix()
        for name in {relative, one.path.name}:
            by_identifier[name].append(one)
    by_identifier.pop("", None)
    return by_identifier


def _check_known(
    path: Path, table: LabelTable, by_identifier: Mapping[str, Sequence[Found]]
) -> None:
    lost = [table.rows[one] for one in table.labels if one not in by_identifier]
    if lost:
        raise TrainingError(
            f"{len(lost)} of {len(table.labels)} rows of {path.name} name a {table.level} that is "
            f"not in the folder, the first on line {min(lost)}; correct or remove them."
        )
    if table.level == "file":
        unsure = [table.rows[one] for one in table.labels if len(by_identifier[one]) > 1]
        if unsure:
            raise TrainingError(
                f"Line {min(unsure)} of {path.name} names a file that is in the folder more than "
                "once; write its path from the folder."
            )


def _of_slices(
    table: LabelTable,
    found: Sequence[Found],
    by_identifier: Mapping[str, Sequence[Found]],
    key: bytes,
    broken: Mapping[str, str],
) -> DicomFolder:
    """Return the series that hold labelled slices."""
    labels_of = {by_identifier[one][0].sop_uid: labels for one, labels in table.labels.items()}
    sources = {by_identifier[one][0].sop_uid: who for one, who in table.sources.items()}
    wanted = {by_identifier[one][0].series_uid for one in table.labels}
    units: dict[str, list[Found]] = defaultdict(list)
    for one in found:
        if one.series_uid in wanted:
            units[one.series_uid].append(one)
    return DicomFolder(
        level=table.level,
        units={job: tuple(files) for job, files in units.items()},
        labels_of=labels_of,
        sources=sources,
        key=key,
        labels_digest=table.digest,
        broken=broken,
    )
