"""Which file belongs to which series, where only the headers say so; asked once and remembered.

A public dataset may have three quarters of a million files in one folder. Their headers take many
minutes to read, so what was found is kept as Parquet among the user's caches (``XDG_CACHE_HOME``,
by default ``~/.cache``), under a digest of the folder and the names in it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ichnode.domain.series import Header
from train.data.folders import scan
from train.data.table import save_table
from train.errors import Unusable

COLUMNS = ("name", "patient_id", "study_uid", "series_uid", "problem")
_PLACE = "ichnode"


def header_table(folder: Path, names: Sequence[str], workers: int = 0) -> pd.DataFrame:
    """Return what the headers of some files say of patient, study and series.

    Parameters
    ----------
    folder : Path
        Of a public dataset, whose identifiers are pseudonyms already: they are kept on disk.
    names : sequence of str
        Of the files.
    workers : int
        Processes; 0 takes all cores.

    Returns
    -------
    DataFrame
        `COLUMNS`, all text; ``problem`` says why there is nothing else, "" where there is.
    """
    kept = _place(folder, names)
    known = _remembered(kept, names)
    if known is None:
        table = _read(folder, names, workers)
    elif (bad := known["problem"] != "").any():
        # A file that was damaged may have been fetched again since.
        table = known.astype(object)
        table.loc[bad] = _read(folder, known["name"][bad].tolist(), workers).to_numpy()
    else:
        return known
    with contextlib.suppress(OSError):  # a read-only home costs the next scan, and nothing else
        save_table(table, kept)
    return table


def _remembered(kept: Path, names: Sequence[str]) -> pd.DataFrame | None:
    with contextlib.suppress(OSError, ValueError):
        table = pd.read_parquet(kept)
        if tuple(table.columns) == COLUMNS and table["name"].tolist() == list(names):
            return table
    return None


def _read(folder: Path, names: Sequence[str], workers: int) -> pd.DataFrame:
    found = scan([folder / name for name in names], _identity, workers)
    rows = [
        (name, "", "", "", str(one)) if isinstance(one, Unusable) else (name, *one, "")
        for name, one in zip(names, found, strict=True)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS), dtype=str)


def _identity(path: Path, header: Header) -> tuple[str, str, str]:  # noqa: ARG001 - the form that `scan` asks for
    return header.patient_id, header.study_uid, header.series_uid


def _place(folder: Path, names: Sequence[str]) -> Path:
    digest = hashlib.sha256("\n".join([str(folder.resolve()), *names]).encode()).hexdigest()
    home = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    return Path(home) / _PLACE / f"headers-{digest[:24]}.parquet"
