"""What a scanner says of a series, for subgroups and the leakage alarm: no names, no dates.

The keys are those of `train.data.records.Facts`, which ichnode does not import.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ichnode.domain.errors import NotAnalysable
from ichnode.domain.series import Header
from ichnode.imaging.decoding import pixel_form, read_picture
from ichnode.imaging.hounsfield import rescale
from ichnode.imaging.selection import age_years
from ichnode.imaging.values import number

OLDEST_YEARS = 90.0
"""Higher ages are rare enough to say who it is (HIPAA, 45 CFR 164.514(b)(2)(i)(C))."""
_LONGEST = 64
_WINDOW_CENTER, _WINDOW_WIDTH = 0x00281050, 0x00281051
SIMULATED = ("ichnode phantom", "simulated CT")
"""Manufacturer and model of simulated scans, whose patients are called so, too."""
_WORD = re.compile(r"[^\W_]{2,}")


def facts_of(header: Header, path: Path) -> dict[str, Any]:
    """Return the facts of a series by one of its slices; None where the scanner does not say.

    Parameters
    ----------
    header : Header
        Of the slice.
    path : Path
        Its file.
    """
    age = age_years(header)
    sex = header.patient_sex.strip().upper()
    return {
        "manufacturer": innocent(header.manufacturer, header),
        "model_name": innocent(header.model_name, header),
        "kernel": innocent(header.kernel, header),
        "thickness_mm": header.slice_thickness_mm,
        "age_years": None if age is None else min(float(int(age)), OLDEST_YEARS),
        "sex": sex if sex in {"M", "F", "O"} else "",
        **_form(path),
    }


def _form(path: Path) -> dict[str, Any]:
    try:
        picture = read_picture(path, frozenset({_WINDOW_CENTER, _WINDOW_WIDTH}))
        form = pixel_form(picture.dataset)
        slope, intercept_hu = rescale(picture.dataset)
    except NotAnalysable:
        return {}
    return {
        "bits_stored": form.bits_stored,
        "pixel_representation": int(form.signed),
        "intercept_hu": intercept_hu,
        "slope": slope,
        "rows": form.rows,
        "columns": form.columns,
        "window_center": number(picture.dataset, _WINDOW_CENTER),
        "window_width": number(picture.dataset, _WINDOW_WIDTH),
    }


def innocent(text: str, header: Header) -> str:
    """Return a word of the scanner's, or "" where it has anything of the patient in it.

    Free text fields hold whatever somebody typed at the console, for once a name.
    """
    shown = "".join(c for c in text if c.isprintable())[:_LONGEST].strip()
    if shown in SIMULATED:
        return shown
    personal = " ".join(
        (
            header.patient_name,
            header.patient_id,
            header.accession_number,
            header.patient_birth_date,
            header.study_date,
        )
    )
    theirs = {word.casefold() for word in _WORD.findall(personal)}
    mine = {word.casefold() for word in _WORD.findall(shown)}
    return "" if theirs & mine else shown
