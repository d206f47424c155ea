"""The cache that training reads: whole Hounsfield units of every slab, memory-mapped.

A folder::

    cache.json        the PreprocessSpec and format; another spec is another cache
    hu.bin            int16 (slab, y, x), appended series by series
    kinds.bin         uint8, likewise; holes where there is no voxel truth
    index.jsonl       one line a series, written after its pixels; what it lacks is not there
    sources.json      each dataset's licence
    quarantine.jsonl  series that could not be used, and why
    slices.parquet    the index as a table, for people; written at the end of a build

What is kept is the stack of `ichnode.nets.preprocess.standardise`: the same code as in serving, so
that whatever the network learns from is what it will be shown. A build that was interrupted goes on
with the series that are missing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from rich.console import Console
from rich.progress import Progress

from ichnode.nets.manifest import PreprocessSpec
from ichnode.nets.preprocess import neighbours
from train.data.index import (
    INDEX,
    QUARANTINE,
    as_frame,
    cut_torn_line,
    forget_quarantined,
    keep_spec,
    keep_terms,
    kept_licences,
    kept_spec,
    left_out_frame,
    read_lines,
)
from train.data.pool import read_all
from train.data.records import Licence, Source
from train.data.writer import Writer
from train.errors import TrainingError

TABLE = "slices.parquet"


@dataclass(frozen=True, slots=True, eq=False)
class Cache:
    """An opened cache.

    Attributes
    ----------
    hu : ndarray, int16, (slab, y, x)
        Memory-mapped, read only; or an array, of a cache that is held in memory.
    kinds : ndarray, uint8, (slab, y, x), or None
        Voxel truth where ``slices.masked``; 0 elsewhere.
    slices : DataFrame
        One row a slab, in the order of `hu`: ``dataset, patient, study, series, slab, slice_key,
        position_mm, brain_fraction, masked, label_source``, the six labels (1, 0, NaN), the
        series' labels as ``series_any`` and so on, and the columns of `train.data.records.Facts`;
        for volumes ``image_mm2`` (what an image shows), ``extent_mm`` (what the slab stands for
        along the normal) and the series' true ``true_ml_any`` and so on, NaN where not known.
    licences : dict
        By dataset.
    quarantine : DataFrame
        ``dataset, job, slice, reason, detail``; ``slice`` is "" where the whole series is out.
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
        positions_mm = self.slices["position_mm"].to_numpy()
        for rows in self.series_rows():
            around[rows] = neighbours(positions_mm[rows].tolist(), spec).numpy() + rows.start
        return around

    def planes(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int16]:
        """Read some rows of `hu`, whatever they are, in any shape.

        Neighbours lie side by side and are read in one go, not page by page as through the memory
        map: from a disk that is eight times as fast, from memory it is the same.

        Parameters
        ----------
        rows : ndarray, int64, (n, channel slices)

        Returns
        -------
        ndarray, int16, (n, channel slices, y, x)
        """
        if not isinstance(self.hu, np.memmap):
            return self.hu[rows]
        planes = np.empty((*rows.shape, *self.hu.shape[1:]), np.int16)
        with (self.folder / "hu.bin").open("rb", buffering=0) as file:
            for place, wanted in zip(planes, rows, strict=True):
                edges = [0, *(np.flatnonzero(np.diff(wanted) != 1) + 1).tolist(), len(wanted)]
                for first, end in itertools.pairwise(edges):
                    part = place[first:end]
                    read = os.preadv(
                        file.fileno(), [part.data], int(wanted[first]) * place[0].nbytes
                    )
                    if read != part.nbytes:
                        raise TrainingError(f"The cache {self.folder} is damaged or out of reach.")
        return planes

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
        When there is none, nothing is in it, or it is damaged.
    """
    spec = kept_spec(folder)
    records = read_lines(folder / INDEX)
    if not records:
        raise TrainingError(
            f"The cache {folder} is empty; `python -m train data quarantine` says why."
        )
    slices = as_frame(records)
    shape = (len(slices), spec.size_px, spec.size_px)
    kinds = None
    try:
        hu = np.memmap(folder / "hu.bin", np.int16, "r", shape=shape)
        if slices["masked"].any():
            kinds = np.memmap(folder / "kinds.bin", np.uint8, "r", shape=shape)
    except (ValueError, OSError):
        raise TrainingError(f"The cache {folder} is damaged: pixels are missing.") from None
    return Cache(
        folder=folder,
        spec=spec,
        hu=hu,
        kinds=kinds,
        slices=slices,
        licences=kept_licences(folder),
        quarantine=left_out_frame(records, read_lines(folder / QUARANTINE)),
    )


def open_quarantine(folder: Path) -> pd.DataFrame:
    """Return what was left out of a cache, also of one with nothing in it; see `Cache`."""
    kept_spec(folder)
    return left_out_frame(read_lines(folder / INDEX), read_lines(folder / QUARANTINE))


def build_cache(
    folder: Path,
    source: Source,
    spec: PreprocessSpec,
    *,
    workers: int = 0,
    jobs: Iterable[str] | None = None,
    retry: bool = False,
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
    retry : bool
        Try what is in quarantine once more.

    Raises
    ------
    TrainingError
        When the folder was made with another `PreprocessSpec`, the labels of the source were
        changed since, or somebody else writes to it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        keep_spec(folder, spec)
        keep_terms(folder, source)
        cut_torn_line(folder / QUARANTINE)
        if retry:
            forget_quarantined(folder, source.name)
        with Writer(folder, spec) as writer:
            missing = _missing(folder, source, jobs)
            with Progress(console=Console(stderr=True)) as bar:
                shown = bar.add_task(f"Reading {source.name}", total=len(missing))
                for job, outcome in read_all(source, missing, spec, workers):
                    writer.keep(source.name, job, outcome)
                    bar.advance(shown)
        cache = open_cache(folder)
        _write_table(cache)
    return cache


def _missing(folder: Path, source: Source, jobs: Iterable[str] | None) -> list[str]:
    known = {
        (line["dataset"], line["job"])
        for name in (INDEX, QUARANTINE)
        for line in read_lines(folder / name)
    }
    wanted = source.jobs() if jobs is None else jobs
    return [job for job in wanted if (source.name, job) not in known]


def _write_table(cache: Cache) -> None:
    aside = cache.folder / f".{TABLE}"
    cache.slices.to_parquet(aside, index=False)
    aside.replace(cache.folder / TABLE)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TrainingError(f"Another process writes to the cache {folder}.") from None
        yield
