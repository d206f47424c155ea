"""The node's own export: studies of a hospital, without identities, labelled by its people.

Only what people have confirmed is read. A label that a model gave is never one to learn from: the
model would come to believe itself.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from ichnode.domain.labels import SOURCES, Contradiction, completed
from train.data.labels import Labels, as_array
from train.data.records import Facts, Licence, SourceSeries, unknown_labels
from train.errors import TrainingError, Unusable

FORMAT = 1
KIND = "ichnode export"
_HU, _SPACING, _POSITIONS = "hu", "spacing_mm", "positions_mm"


class SiteExport:
    """The labelled studies of an export.

    Parameters
    ----------
    folder : Path
        As ``ichnode`` wrote it.

    Raises
    ------
    TrainingError
        When it is no export, one of another version, or a label in it is not from people.
    """

    name = "site"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._studies: dict[str, Mapping[str, Any]] = {}
        self._labels: dict[str, Labels] = {}
        _check_kind(folder)
        for number, line in enumerate(_text(folder / "studies.jsonl").splitlines(), start=1):
            study = _study(number, line)
            stated = _labels(number, study)
            if study["confirmed"] is True and not np.isnan(stated).all():
                _check_people(number, study)
                self._studies[str(study["study"])] = study
                self._labels[str(study["study"])] = stated
        if not self._studies:
            raise TrainingError(
                f"No study of {folder} has a confirmed label; import some with "
                "`ichnode labels import`."
            )

    @property
    def labels_digest(self) -> str:
        """Of what is read of the list, and not of the rest, which each export writes anew."""
        read = ("study", "patient", "labels", "label_source", "series")
        lines = [
            json.dumps([study[name] for name in read], sort_keys=True)
            for study in self._studies.values()
        ]
        return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()

    @property
    def licence(self) -> Licence:
        """The hospital's own."""
        return Licence("the site's own data", non_commercial=False)

    def jobs(self) -> Sequence[str]:
        """Return the keys of the labelled studies, in order of arrival."""
        return list(self._studies)

    def read(self, job: str) -> SourceSeries:
        """Read the series of one study."""
        study = self._studies[job]
        series = study["series"]
        if series is None:
            raise Unusable("no series", str(study.get("reason", "")))
        hu, spacing_mm, positions_mm = _pixels(self._folder, str(series["file"]))
        return SourceSeries(
            dataset=self.name,
            patient=str(study["patient"]),
            study=job,
            series=str(series["key"]),
            hu=hu,
            spacing_mm=spacing_mm,
            positions_mm=positions_mm,
            slice_keys=tuple(f"{series['key']}-{number:04d}" for number in range(len(hu))),
            slice_labels=unknown_labels(len(hu)),
            series_labels=self._labels[job],
            facts=_facts(series.get("facts") or {}),
            label_source=str(study["label_source"]),
        )


def open_source(path: str, labels: Path | None, key: bytes) -> SiteExport:  # noqa: ARG001 - the export has pseudonyms
    """Open an export; see `SiteExport`."""
    if labels is not None:
        raise TrainingError("An export carries its labels; leave --labels out.")
    return SiteExport(Path(path))


def _check_kind(folder: Path) -> None:
    about = _object(_text(folder / "export.json"), "export.json")
    if about.get("kind") != KIND or about.get("format") != FORMAT:
        raise TrainingError(f"{folder} is no export of this version of ichnode; export it again.")


def _study(number: int, line: str) -> Mapping[str, Any]:
    study = _object(line, f"line {number} of studies.jsonl")
    needed = ("study", "patient", "labels", "label_source", "confirmed", "series")
    if missing := [name for name in needed if name not in study]:
        raise TrainingError(f"Line {number} of studies.jsonl has no {missing[0]}; export it again.")
    return study


def _check_people(number: int, study: Mapping[str, Any]) -> None:
    if study["label_source"] not in SOURCES:
        raise TrainingError(
            f"The label on line {number} of studies.jsonl is not one that people gave "
            f"({', '.join(SOURCES)}); what a model says is never learnt from."
        )


def _labels(number: int, study: Mapping[str, Any]) -> Labels:
    said = study["labels"] or {}
    try:
        return as_array(completed({k: bool(v) for k, v in said.items() if v is not None}))
    except Contradiction as wrong:
        raise TrainingError(
            f"Line {number} of studies.jsonl contradicts itself: {wrong}; export it again."
        ) from None


def _pixels(
    folder: Path, file: str
) -> tuple[np.ndarray[Any, Any], tuple[float, float, float], np.ndarray[Any, Any]]:
    if Path(file).is_absolute() or ".." in Path(file).parts:
        raise Unusable("undecodable", "its file lies outside the export")
    try:
        with np.load(folder / file, allow_pickle=False) as held:
            hu, spacing_mm, positions_mm = held[_HU], held[_SPACING], held[_POSITIONS]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
        raise Unusable("undecodable", type(error).__name__) from error
    fits = hu.ndim == 3 and hu.dtype == np.int16 and spacing_mm.shape == (3,)
    fits = fits and positions_mm.shape == (len(hu),) and bool((np.diff(positions_mm) > 0).all())
    if not fits or not _finite(spacing_mm, positions_mm) or not (spacing_mm > 0).all():
        raise Unusable("undecodable", "arrays that do not fit each other")
    down, across = float(spacing_mm[1]), float(spacing_mm[2])
    return hu, (float(spacing_mm[0]), down, across), positions_mm.astype(np.float64)


def _finite(*numbers: np.ndarray[Any, Any]) -> bool:
    return all(one.dtype.kind in "fiu" and bool(np.isfinite(one).all()) for one in numbers)


def _facts(said: Mapping[str, Any]) -> Facts:
    """Return the facts that are of their type; one that is not would spoil the whole column."""
    known: dict[str, Any] = {one.name: one.default for one in dataclasses.fields(Facts)}
    return Facts(**{n: v for n, v in said.items() if n in known and _alike(v, known[n])})


def _alike(value: object, default: object) -> bool:
    if isinstance(default, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is type(default)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise TrainingError(f"There is no {path.name} in {path.parent}: it is no export.") from None


def _object(text: str, where: str) -> Mapping[str, Any]:
    try:
        content = json.loads(text)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise TrainingError(f"{where[0].upper()}{where[1:]} is damaged; export it again.")
    return content
