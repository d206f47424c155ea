"""The cache that training reads: whole Hounsfield units of every slab, memory-mapped.

A folder::

    cache.json        the PreprocessSpec and format; another spec is another cache
    hu.bin            int16 (slab, y, x), appended series by series
    kinds.bin         uint8, likewise; holes where there is no voxel truth
    index.jsonl       one line a series, written after its pixels; what it lacks is not there
    sources.json      each dataset's licence
    quarantine.jsonl  what could not be used, and why

What is kept is the stack of `ichnode.nets.preprocess.standardise`: the same code as in serving, so
that whatever the network learns from is what it will be shown. A build that was interrupted goes on
with the series that are missing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import itertools
import json
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from rich.progress import Progress

from ichnode.domain.findings import LABELS
from ichnode.nets.manifest import PreprocessSpec, canonical
from ichnode.nets.preprocess import cut, head_box, neighbours, standardise
from train.data.records import Licence, Source, SourceSeries, facts_as_row, series_truth
from train.errors import TrainingError, Unusable

FORMAT = 1
BRAIN_HU = (0, 80)
_AHEAD = 4  # series per worker that are read before the first is written


@dataclass(frozen=True, slots=True, eq=False)
class Standardised:
    """One series as it goes into the cache.

    Attributes
    ----------
    hu : ndarray, int16, (slab, y, x)
    kinds : ndarray, uint8, (slab, y, x), or None
    record : dict
        The line of the index: keys, facts, and per-slab lists.
    """

    hu: npt.NDArray[np.int16] = field(repr=False)
    kinds: npt.NDArray[np.uint8] | None = field(repr=False)
    record: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Cache:
    """An opened cache.

    Attributes
    ----------
    hu : ndarray, int16, (slab, y, x)
        Memory-mapped, read only.
    kinds : ndarray, uint8, (slab, y, x), or None
        Voxel truth where ``slices.masked``; 0 elsewhere.
    slices : DataFrame
        One row a slab, in the order of `hu`: ``dataset, patient, study, series, slab, slice_key,
        position_mm, brain_fraction, masked, label_source``, the six labels (1, 0, NaN), the
        series' labels as ``series_any`` and so on, and the columns of `train.data.records.Facts`.
    licences : dict
        By dataset.
    quarantine : DataFrame
        ``dataset, job, reason, detail``.
    """

    folder: Path
    spec: PreprocessSpec
    hu: npt.NDArray[np.int16] = field(repr=False)
    kinds: npt.NDArray[np.uint8] | None = field(repr=False)
    slices: pd.DataFrame = field(repr=False)
    licences: dict[str, Licence]
    quarantine: pd.DataFrame = field(repr=False)

    def neighbours(self, context_slices: int) -> npt.NDArray[np.int64]:
        """Return the rows around each slab, by physical distance; see `nets.preprocess`.

        Returns
        -------
        ndarray, int64, (slab, 2 x context_slices + 1)
            Rows of `hu`.
        """
        spec = dataclasses.replace(self.spec, context_slices=context_slices)
        around = np.empty((len(self.slices), 2 * context_slices + 1), np.int64)
        for rows in self.series_rows():
            positions_mm = self.slices["position_mm"].to_numpy()[rows].tolist()
            around[rows] = neighbours(positions_mm, spec).numpy() + rows.start
        return around

    def series_rows(self) -> list[slice]:
        """Return the rows of each series, in order."""
        number = self.slices["series_number"].to_numpy()
        edges = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(number)]
        return [slice(a, b) for a, b in itertools.pairwise(edges) if b > a]


def open_cache(folder: Path) -> Cache:
    """Open a cache.

    Raises
    ------
    TrainingError
        When there is none, or nothing in it.
    """
    if not (folder / "cache.json").is_file():
        raise TrainingError(
            f"There is no cache in {folder}; make one with `python -m train data add`."
        )
    spec = _kept_spec(folder)
    records = _read_lines(folder / "index.jsonl")
    if not records:
        raise TrainingError(f"The cache {folder} is empty; its quarantine.jsonl says why.")
    slices = _as_frame(records)
    shape = (len(slices), spec.size_px, spec.size_px)
    hu = np.memmap(folder / "hu.bin", np.int16, "r", shape=shape)
    kinds = None
    if slices["masked"].any():
        kinds = np.memmap(folder / "kinds.bin", np.uint8, "r", shape=shape)
    stored = json.loads((folder / "sources.json").read_text(encoding="utf-8"))
    left_out = _read_lines(folder / "quarantine.jsonl")
    return Cache(
        folder=folder,
        spec=spec,
        hu=hu,
        kinds=kinds,
        slices=slices,
        licences={name: Licence(**terms) for name, terms in stored.items()},
        quarantine=pd.DataFrame(left_out, columns=["dataset", "job", "reason", "detail"]),
    )


def build_cache(
    folder: Path,
    source: Source,
    spec: PreprocessSpec,
    *,
    workers: int = 0,
    jobs: Iterable[str] | None = None,
) -> Cache:
    """Add a source to a cache and return it opened; what is there already is not read again.

    Parameters
    ----------
    folder : Path
        Created where missing. One process at a time writes to it.
    spec : PreprocessSpec
        Its ``windows_hu`` and ``context_slices`` do not matter here, the rest does.
    workers : int
        Processes that read; 0 takes all cores.
    jobs : iterable of str, optional
        Only these of the source.

    Raises
    ------
    TrainingError
        When the folder was made with another `PreprocessSpec`, or somebody else writes to it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        _keep_spec(folder, spec)
        _keep_licence(folder, source)
        known = {(r["dataset"], r["job"]) for r in _read_lines(folder / "index.jsonl")}
        known |= {(r["dataset"], r["job"]) for r in _read_lines(folder / "quarantine.jsonl")}
        wanted = source.jobs() if jobs is None else list(jobs)
        missing = [job for job in wanted if (source.name, job) not in known]
        with _Writer(folder, spec) as writer, Progress() as bar:
            shown = bar.add_task(f"Reading {source.name}", total=len(missing))
            for job, outcome in _read_all(source, missing, spec, workers):
                writer.keep(source.name, job, outcome)
                bar.advance(shown)
    return open_cache(folder)


def standardise_series(job: str, series: SourceSeries, spec: PreprocessSpec) -> Standardised:
    """Make a series uniform: slabs of the usual thickness, cut to the head, sized."""
    hu = torch.from_numpy(np.ascontiguousarray(series.hu))
    stack = standardise(hu, series.spacing_mm, series.positions_mm.tolist(), spec)
    labels = np.stack([_slab_label(series.slice_labels[a:b]) for a, b in stack.slabs])
    inside = ((series.hu > BRAIN_HU[0]) & (series.hu < BRAIN_HU[1])).mean(axis=(1, 2))
    kinds = None
    if series.kinds is not None:
        kinds = _sized_kinds(series, stack.slabs, spec)
    record = {
        "job": job,
        "dataset": series.dataset,
        "patient": series.patient,
        "study": series.study,
        "series": series.series,
        "label_source": series.label_source,
        "masked": series.kinds is not None,
        "facts": facts_as_row(series.facts),
        "series_labels": _listed(series_truth(series)),
        "slabs": len(stack.slabs),
        "slice_keys": [series.slice_keys[(a + b - 1) // 2] for a, b in stack.slabs],
        "positions_mm": list(stack.positions_mm),
        "brain_fractions": [round(float(inside[a:b].mean()), 5) for a, b in stack.slabs],
        "labels": [_listed(row) for row in labels],
    }
    return Standardised(hu=stack.hu.numpy(), kinds=kinds, record=record)


def _slab_label(labels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return 1 where any slice shows it, 0 where all are known not to, NaN otherwise."""
    shown = (labels == 1).any(axis=0)
    unknown = np.isnan(labels).any(axis=0)
    return np.where(shown, 1.0, np.where(unknown, np.nan, 0.0)).astype(np.float32)


def _sized_kinds(
    series: SourceSeries, slabs: tuple[tuple[int, int], ...], spec: PreprocessSpec
) -> npt.NDArray[np.uint8]:
    if series.kinds is None:
        raise ValueError("there is no voxel truth")
    box = head_box(torch.from_numpy(np.ascontiguousarray(series.hu)), series.spacing_mm, spec)
    whole = cut(torch.from_numpy(np.ascontiguousarray(series.kinds)), box, 0)
    planes = torch.stack([whole[a:b].amax(dim=0) for a, b in slabs])
    sized = torch.nn.functional.interpolate(
        planes[:, None].float(), size=(spec.size_px, spec.size_px)
    )
    kinds: npt.NDArray[np.uint8] = sized[:, 0].to(torch.uint8).numpy()
    return kinds


def _listed(labels: npt.NDArray[np.float32]) -> list[float | None]:
    return [None if np.isnan(v) else float(v) for v in labels]


def _read_one(source: Source, job: str, spec: PreprocessSpec) -> Standardised | Unusable:
    torch.set_num_threads(1)
    try:
        return standardise_series(job, source.read(job), spec)
    except Unusable as reason:
        return reason


def _read_all(
    source: Source, jobs: list[str], spec: PreprocessSpec, workers: int
) -> Iterator[tuple[str, Standardised | Unusable]]:
    """Yield each job's outcome in the order of the jobs, with only so much read ahead.

    The order of a cache decides what a seed draws from it, so it must not depend on chance.
    """
    count = workers or os.cpu_count() or 1
    if count == 1 or len(jobs) <= 1:
        yield from ((job, _read_one(source, job, spec)) for job in jobs)
        return
    with ProcessPoolExecutor(count) as pool:
        running: deque[tuple[str, Future[Standardised | Unusable]]] = deque()
        for job in jobs:
            running.append((job, pool.submit(_read_one, source, job, spec)))
            if len(running) >= _AHEAD * count:
                first, outcome = running.popleft()
                yield first, outcome.result()
        for left, outcome in running:
            yield left, outcome.result()


class _Writer:
    """Appends to the files of a cache; a series counts once its line is in the index."""

    def __init__(self, folder: Path, spec: PreprocessSpec) -> None:
        self._folder, self._area = folder, spec.size_px**2
        self._rows = sum(r["slabs"] for r in _read_lines(folder / "index.jsonl"))
        self._files = contextlib.ExitStack()

    def __enter__(self) -> _Writer:
        opened = self._files.enter_context
        self._hu = opened(self._grown("hu.bin", 2).open("r+b"))
        self._kinds = opened(self._grown("kinds.bin", 1).open("r+b"))
        self._index = opened((self._folder / "index.jsonl").open("a", encoding="utf-8"))
        self._out = opened((self._folder / "quarantine.jsonl").open("a", encoding="utf-8"))
        return self

    def __exit__(self, *_exception: object) -> None:
        self._files.close()

    def _grown(self, name: str, width: int) -> Path:
        """Cut off what an interrupted build wrote beyond the index."""
        path = self._folder / name
        path.touch()
        os.truncate(path, self._rows * self._area * width)
        return path

    def keep(self, dataset: str, job: str, outcome: Standardised | Unusable) -> None:
        """Write a series, or why it cannot be used."""
        if isinstance(outcome, Unusable):
            line = {"dataset": dataset, "job": job, "reason": outcome.reason}
            line["detail"] = outcome.detail
            self._out.write(json.dumps(line) + "\n")
            self._out.flush()
            return
        slabs = len(outcome.hu)
        self._hu.seek(self._rows * self._area * 2)
        self._hu.write(np.ascontiguousarray(outcome.hu, "<i2").tobytes())
        self._hu.flush()
        if outcome.kinds is not None:
            self._kinds.seek(self._rows * self._area)
            self._kinds.write(np.ascontiguousarray(outcome.kinds).tobytes())
            self._kinds.flush()
        else:  # a hole: zeros that take no room
            os.truncate(self._kinds.fileno(), (self._rows + slabs) * self._area)
        self._index.write(json.dumps(outcome.record | {"dataset": dataset}) + "\n")
        self._index.flush()
        self._rows += slabs


def _as_frame(records: list[dict[str, Any]]) -> pd.DataFrame:
    """Return one row a slab."""
    counts = [r["slabs"] for r in records]
    columns: dict[str, Any] = {
        name: np.repeat(np.asarray([r[name] for r in records]), counts)
        for name in ("dataset", "patient", "study", "series", "job", "label_source", "masked")
    }
    for name in records[0]["facts"]:
        columns[name] = np.repeat(np.asarray([r["facts"][name] for r in records]), counts)
    columns["series_number"] = np.repeat(np.arange(len(records)), counts)
    columns["slab"] = np.concatenate([np.arange(count) for count in counts])
    columns["slice_key"] = [key for r in records for key in r["slice_keys"]]
    columns["position_mm"] = [p for r in records for p in r["positions_mm"]]
    columns["brain_fraction"] = [f for r in records for f in r["brain_fractions"]]
    labels = _floats([row for r in records for row in r["labels"]])
    whole = np.repeat(_floats([r["series_labels"] for r in records]), counts, axis=0)
    for index, label in enumerate(LABELS):
        columns[label] = labels[:, index]
        columns[f"series_{label}"] = whole[:, index]
    return pd.DataFrame(columns)


def _floats(rows: list[list[float | None]]) -> npt.NDArray[np.float32]:
    return np.asarray([[np.nan if v is None else v for v in row] for row in rows], np.float32)


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a file; a last one that was cut short is not there."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(line) for line in lines]


def _stored_spec(spec: PreprocessSpec) -> PreprocessSpec:
    """Return a spec with what does not touch the pixels of the cache left out."""
    return dataclasses.replace(spec, windows_hu=((0.0, 1.0),), context_slices=0)


def _keep_spec(folder: Path, spec: PreprocessSpec) -> None:
    wanted: dict[str, Any] = {"format": FORMAT}
    wanted["preprocess"] = json.loads(canonical(_stored_spec(spec)))
    kept = folder / "cache.json"
    if kept.is_file() and json.loads(kept.read_text(encoding="utf-8")) != wanted:
        raise TrainingError(
            f"{folder} was made with another size or preprocessing; choose another folder."
        )
    kept.write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")
    for name in ("index.jsonl", "quarantine.jsonl"):
        _cut_torn_line(folder / name)


def _cut_torn_line(path: Path) -> None:
    if path.is_file() and (content := path.read_bytes()) and not content.endswith(b"\n"):
        os.truncate(path, content.rfind(b"\n") + 1)


def _kept_spec(folder: Path) -> PreprocessSpec:
    content = json.loads((folder / "cache.json").read_text(encoding="utf-8"))
    if content.get("format") != FORMAT:
        raise TrainingError(f"The cache {folder} is of another version; make it again.")
    stored = content["preprocess"]
    stored["windows_hu"] = tuple(tuple(window) for window in stored["windows_hu"])
    return PreprocessSpec(**stored)


def _keep_licence(folder: Path, source: Source) -> None:
    path = folder / "sources.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    known[source.name] = dataclasses.asdict(source.licence)
    path.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TrainingError(f"Another process writes to the cache {folder}.") from None
        yield
