"""For tests of `python -m train measure`: scans to measure on, bundles, and the command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from ichnode.nets.registry import shipped_bundle
from tests.models import write_model
from tests.scan_folders import dicom_series, head, slice_folder
from train.cli import carryover

app = typer.Typer()
carryover.register(app)


@pytest.fixture(scope="session")
def png_slices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten slices with blood and ten without, of simulated heads, as PNG; to be left as they are."""
    return slice_folder(tmp_path_factory.mktemp("slices") / "eleven")


@pytest.fixture(scope="session")
def dicom_heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One series with blood and one without, as DICOM below their labels; likewise."""
    folder = tmp_path_factory.mktemp("series") / "two"
    dicom_series(folder / "subdural" / "a", head(21, bleeds=("subdural",), slices=16))
    dicom_series(folder / "normal" / "b", head(31, slices=16))
    return folder


@pytest.fixture
def shipped_copy(tmp_path: Path) -> Path:
    """A copy of the shipped model, so that its ledger is ours."""
    return Path(shutil.copytree(shipped_bundle(), tmp_path / "bundle"))


@pytest.fixture
def untrained(tmp_path: Path) -> Path:
    """A small model that nobody trained, for what does not depend on what it says."""
    write_model(tmp_path / "untrained", logit=-2.0)
    return tmp_path / "untrained"


def run(*arguments: object) -> dict:
    """Run the command as a user does, and return its JSON."""
    told = CliRunner().invoke(
        app, ["--json", *map(str, arguments)], catch_exceptions=False, standalone_mode=False
    )
    if told.exception is not None:
        raise told.exception
    return json.loads(told.stdout)
