"""Appends series to the files of a cache; a series counts once its line is in the index."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ichnode.nets.manifest import PreprocessSpec
from train.data.index import INDEX, QUARANTINE, cut_torn_line, read_lines
from train.data.standardising import Standardised
from train.errors import TrainingError, Unusable


class Writer:
    """Holds the files open; a context manager.

    What an interrupted build wrote beyond the last whole line of the index is cut off first, so
    that a build that was interrupted ends with the same bytes as one that was not.
    """

    def __init__(self, folder: Path, spec: PreprocessSpec) -> None:
        self._folder, self._area = folder, spec.size_px**2
        for name in (INDEX, QUARANTINE):
            cut_torn_line(folder / name)
        self._rows = sum(r["slabs"] for r in read_lines(folder / INDEX))
        self._files = contextlib.ExitStack()

    def __enter__(self) -> Writer:
        opened = self._files.enter_context
        self._hu = opened(self._trimmed("hu.bin", 2).open("r+b", buffering=0))
        self._kinds = opened(self._trimmed("kinds.bin", 1).open("r+b", buffering=0))
        self._index = opened((self._folder / INDEX).open("a", encoding="utf-8"))
        self._out = opened((self._folder / QUARANTINE).open("a", encoding="utf-8"))
        return self

    def __exit__(self, *_exception: object) -> None:
        self._files.close()

    def _trimmed(self, name: str, width: int) -> Path:
        path = self._folder / name
        path.touch()
        wanted = self._rows * self._area * width
        if path.stat().st_size < wanted:
            raise TrainingError(f"{path} is shorter than its index says; make the cache again.")
        os.truncate(path, wanted)
        return path

    def keep(self, dataset: str, job: str, outcome: Standardised | Unusable) -> None:
        """Write a series, or why it cannot be used."""
        if isinstance(outcome, Unusable):
            line = {"dataset": dataset, "job": job, "reason": outcome.reason}
            self._out.write(json.dumps(line | {"detail": outcome.detail}) + "\n")
            self._out.flush()
            return
        slabs = len(outcome.hu)
        _write(self._hu, self._rows * self._area * 2, np.ascontiguousarray(outcome.hu, "<i2"))
        if outcome.kinds is not None:
            _write(self._kinds, self._rows * self._area, np.ascontiguousarray(outcome.kinds))
        else:  # a hole: zeros that take no room
            os.truncate(self._kinds.fileno(), (self._rows + slabs) * self._area)
        for pixels in (self._hu, self._kinds):
            os.fdatasync(pixels.fileno())  # a power cut must not leave a line without its pixels
        self._index.write(json.dumps(outcome.record | {"dataset": dataset}) + "\n")
        self._index.flush()
        self._rows += slabs


def _write(file: IO[bytes], at: int, values: npt.NDArray[Any]) -> None:
    file.seek(at)
    view = values.data.cast("B")
    while view:
        view = view[file.write(view) :]
