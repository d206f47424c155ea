"""The metadata table of the paper: one row a slice, tags and pixel statistics, kept as Parquet.

For people who explore a folder before anything is cached. Patients have pseudonyms, and no names
and no dates are taken over.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from train.data.folders import files_below, ought_to_be_dicom
from train.data.images import ReadSlice, images_of
from train.data.pool import each
from train.data.reading import pseudonym, repaired
from train.data.records import facts_as_row
from train.data.window import brain_fraction
from train.errors import TrainingError, Unusable


def metadata_table(folder: Path, *, key: bytes = b"", workers: int = 0) -> pd.DataFrame:
    """Read every image below a folder into a table.

    Each file is looked at by itself: a wrapped rescale intercept counts as repaired where the one
    slice proves it.

    Parameters
    ----------
    folder : Path
    key : bytes
        Of the pseudonyms of patients.
    workers : int
        Processes; 0 takes all cores.

    Returns
    -------
    DataFrame
        ``file, sop_uid, series_uid, study_uid, patient, instance_number, image_type, body_part``,
        the columns of `train.data.records.Facts`, position, orientation and spacing in mm,
        ``img_min, img_max, img_mean, img_std`` in HU, ``img_pct_window`` and ``problem``. A file
        that is of no use has its problem and little else.

    Raises
    ------
    TrainingError
        When there is no DICOM file.
    """
    paths = files_below(folder)
    rows = [
        row
        for found in each(partial(_rows, folder=folder, key=key), paths, "Reading slices", workers)
        for row in found
    ]
    if not any(row["sop_uid"] for row in rows):
        raise TrainingError(f"There is no CT image that can be read in {folder}.")
    return pd.DataFrame(rows)


def save_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as Parquet, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}")
    table.to_parquet(aside, index=False)
    aside.replace(path)


def _rows(path: Path, *, folder: Path, key: bytes) -> list[dict[str, Any]]:
    """Return the rows of one file."""
    relative = path.relative_to(folder).as_posix()
    rows: list[dict[str, Any]] = []
    for _, image in images_of(path):
        if isinstance(image, Unusable):
            if ought_to_be_dicom(path):
                rows.append({"file": relative, "sop_uid": "", "problem": str(image)})
        else:
            rows += [_row(relative, one, key) for one in repaired([image])]
    return rows


def _row(relative: str, one: ReadSlice, key: bytes) -> dict[str, Any]:
    header = one.header
    return {
        "file": relative,
        "sop_uid": one.sop_uid,
        "series_uid": one.series_uid,
        "study_uid": one.study_uid,
        "patient": pseudonym(one.issuer, one.patient_id, key=key) if one.patient_id else "",
        "instance_number": one.instance_number,
        "image_type": "\\".join(header.image_type),
        "body_part": header.body_part,
        **facts_as_row(one.facts),
        **_numbered("position_mm", one.position_mm, 3),
        **_numbered("orientation", one.orientation, 6),
        **_numbered("spacing_mm", one.spacing_mm, 2),
        "img_min": int(one.hu.min()),
        "img_max": int(one.hu.max()),
        "img_mean": round(float(one.hu.mean()), 3),
        "img_std": round(float(one.hu.std()), 3),
        "img_pct_window": float(brain_fraction(one.hu)),
        "problem": "",
    }


def _numbered(name: str, values: tuple[float, ...] | None, count: int) -> Mapping[str, float]:
    held = values or (float("nan"),) * count
    return {f"{name}_{index}": value for index, value in enumerate(held)}
