"""dciodvfy finds no error in what the phantom writes, but for the false alarms named here."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ichnode.phantom.dicom import (
    Identity,
    write_dose_report,
    write_localizer,
    write_non_head,
    write_series,
)
from ichnode.phantom.head import simulate_head

# Laterality is required only of paired body parts (PS3.3 C.7.3.1); the checker cannot know that a
# Secondary Capture shows no such part.
FALSE_ALARMS = ("Laterality(0020,0060)",)
IDENTITY = Identity.simulated(900_601)


def _written(what: str, folder: Path) -> list[Path]:
    if what in ("ct", "enhanced"):
        head = simulate_head(900_601, bleeds=("subdural",), slices=3, size_px=64)
        return write_series(head, folder, identity=IDENTITY, sop_class=what)
    if what == "localizer":
        return write_localizer(folder, identity=IDENTITY)
    if what == "trunk":
        return write_non_head(folder, identity=IDENTITY, slices=1, size_px=64)
    return write_dose_report(folder, identity=IDENTITY, form="sr" if what == "dose_sr" else "sc")


@pytest.mark.peer
@pytest.mark.parametrize("what", ["ct", "enhanced", "localizer", "trunk", "dose_sr", "dose_page"])
def test_dciodvfy_finds_no_error(what: str, tmp_path: Path, require_program) -> None:
    """Every object that the phantom writes is valid DICOM."""
    checker = require_program("dciodvfy")
    for path in _written(what, tmp_path):
        told = subprocess.run([checker, "-new", path], capture_output=True, text=True, check=False)
        errors = [
            line
            for line in told.stderr.splitlines()
            if line.startswith("Error") and not any(alarm in line for alarm in FALSE_ALARMS)
        ]
        assert errors == []
