"""The datasets that can be added by name; each is a module that is loaded when it is asked for.

A module offers ``open_source(path, labels, key) -> Source``: where the dataset lies (or which part
of it is wanted), a CSV of labels where the dataset itself has none, and the key of the pseudonyms
of patients (`train.data.reading.pseudonym`).
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from train.errors import TrainingError

if TYPE_CHECKING:
    from train.data.records import Source

SOURCES = {
    "bhsd": "train.data.sources.bhsd",
    "cq500": "train.data.sources.cq500",
    "ct-ich": "train.data.sources.ct_ich",
    "dicom-folder": "train.data.sources.dicom_folder",
    "kitamura": "train.data.sources.kitamura",
    "randomised": "train.data.sources.randomised",
    "rsna": "train.data.sources.rsna",
    "simulated": "train.data.sources.simulated",
    "site": "train.data.sources.site",
}
"""Name on the command line, and the module."""


def open_known(name: str, path: str, labels: Path | None = None, key: bytes = b"") -> Source:
    """Open a dataset by its name.

    Raises
    ------
    TrainingError
        When there is no such dataset, or it is not what its name says.
    """
    if name not in SOURCES:
        raise TrainingError(f"There is no source {name}; known are {', '.join(sorted(SOURCES))}.")
    source: Source = importlib.import_module(SOURCES[name]).open_source(path, labels, key)
    return source
