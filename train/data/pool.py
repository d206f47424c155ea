"""Read many series in processes of their own, in order, and survive the loss of one.

Decoders are C and C++ libraries, and public datasets hold damaged files: a reader that crashes
costs its series and nothing else. The processes are started clean (forkserver), because this one
has threads, and end when it ends, however it does.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import TypeAlias, TypeVar

import torch
from rich.console import Console
from rich.progress import track

from ichnode.nets.manifest import PreprocessSpec
from train.data.records import Source
from train.data.standardising import Standardised, standardise_series
from train.errors import TrainingError, Unusable

_T = TypeVar("_T")
_R = TypeVar("_R")

_MANY = 500  # items, from which on processes of their own are worth starting
_CHUNK = 50
_AHEAD = 4  # series per worker that are read before the first is written

Outcome: TypeAlias = Standardised | Unusable

_held: dict[str, tuple[Source, PreprocessSpec]] = {}
"""What a worker reads from; given once, because a source may hold a million labels."""


def read_one(source: Source, job: str, spec: PreprocessSpec) -> Outcome:
    """Read and standardise one series, or say why it cannot be used."""
    torch.set_num_threads(1)
    try:
        return standardise_series(job, source.read(job), spec)
    except Unusable as reason:
        return reason
    except TrainingError:
        raise
    except Exception as error:  # noqa: BLE001 - one odd series must not end a build of thousands
        return Unusable("unexpected error", _where(error))


def _where(error: Exception) -> str:
    """Return the type and place of an error; its text may quote a data set, so it stays out."""
    places = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} at {Path(places[-1].filename).name}:{places[-1].lineno}"


def read_all(
    source: Source, jobs: Sequence[str], spec: PreprocessSpec, workers: int
) -> Iterator[tuple[str, Outcome]]:
    """Yield each job's outcome in the order of the jobs, with only so much read ahead.

    The order of a cache decides what a seed draws from it, so it must not depend on chance.

    Parameters
    ----------
    workers : int
        Processes; 0 takes all cores, 1 reads in this one.
    """
    count = min(workers or os.cpu_count() or 1, len(jobs))
    if count <= 1:
        yield from ((job, read_one(source, job, spec)) for job in jobs)
        return
    left = deque(jobs)
    while left:
        unsettled: deque[str] = deque()
        try:
            for job, outcome in _in_order(source, left, unsettled, spec, count):
                yield job, outcome
        except BrokenProcessPool:
            for job in unsettled:
                yield job, _alone(source, job, spec)


def _in_order(
    source: Source, left: deque[str], unsettled: deque[str], spec: PreprocessSpec, count: int
) -> Iterator[tuple[str, Outcome]]:
    """Take jobs from `left`; those that were begun and not yielded yet are in `unsettled`."""
    running: deque[Future[Outcome]] = deque()
    pool = _pool(source, spec, count)
    try:
        while left or running:
            while left and len(running) < _AHEAD * count:
                unsettled.append(left.popleft())
                running.append(pool.submit(_read_held, unsettled[-1]))
            outcome = running.popleft().result()
            yield unsettled.popleft(), outcome
    finally:
        pool.shutdown(cancel_futures=True)


def _alone(source: Source, job: str, spec: PreprocessSpec) -> Outcome:
    """Read a job that was under way when a worker died: perhaps it was the reason.

    Raises
    ------
    TrainingError
        When no worker can even be started, so that the job is not to blame.
    """
    pool = _pool(source, spec, 1)
    try:
        pool.submit(_is_ready).result()
    except BrokenProcessPool:
        raise TrainingError(
            "Processes that read cannot be started; use one worker, or put what your script does "
            'under `if __name__ == "__main__":`.'
        ) from None
    try:
        return pool.submit(_read_held, job).result()
    except BrokenProcessPool:
        return Unusable("reader crashed", "its process died, twice")
    finally:
        pool.shutdown(cancel_futures=True)


def each(
    function: Callable[[_T], _R], items: Sequence[_T], doing: str, workers: int
) -> Iterator[_R]:
    """Yield what a function makes of each item, in order, with a progress bar.

    Parameters
    ----------
    function : callable
        Of a module (or a partial of one), since it is called in other processes where there are
        many items.
    doing : str
        For the bar: "Reading headers".
    workers : int
        Processes; 0 takes all cores.
    """
    count = workers or os.cpu_count() or 1
    shown = partial(track, description=doing, total=len(items), console=Console(stderr=True))
    if len(items) < _MANY or count == 1:
        yield from shown(map(function, items))
        return
    with ProcessPoolExecutor(count, mp_context=clean_processes(), initializer=begin) as pool:
        yield from shown(pool.map(function, items, chunksize=_CHUNK))


def clean_processes() -> multiprocessing.context.ForkServerContext:
    """Return the way in which processes are started: without the threads of this one."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["train.data.pool"])
    return context


def begin() -> None:
    """Make a worker ready: Ctrl-C is the parent's, and nobody outlives the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _pool(source: Source, spec: PreprocessSpec, count: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(
        count, mp_context=clean_processes(), initializer=_begin_reading, initargs=(source, spec)
    )


def _begin_reading(source: Source, spec: PreprocessSpec) -> None:
    begin()
    _held["reads"] = (source, spec)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _is_ready() -> bool:
    return "reads" in _held


def _read_held(job: str) -> Outcome:
    source, spec = _held["reads"]
    return read_one(source, job, spec)
