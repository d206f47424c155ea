"""What measuring writes: the ledger of the bundle and a folder of its own, never where it reads."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from ichnode.nets.bundle import Bundle
from ichnode.nets.manifest_file import read_manifest
from ichnode.nets.registry import MEASUREMENTS, Registry
from tests.measuring_kit import app, run
from tests.scan_folders import fingerprint
from train.carryover import ledger
from train.errors import TrainingError

torch.set_num_threads(1)


def test_every_use_is_in_the_bundles_ledger(png_slices: Path, untrained: Path, tmp_path):
    """What, when, which model, rounded figures; the same data are known again under any name."""
    same = tmp_path / "renamed"
    shutil.copytree(png_slices, same)
    (same / "normal" / "ID_0_3.png").rename(same / "normal" / "z.png")
    first = run("--slices", png_slices, "--bundle", untrained, "--out", tmp_path / "one")
    again = run("--slices", same, "--bundle", untrained, "--out", tmp_path / "two")
    assert first["ledger"] == {"file": MEASUREMENTS, "same_data_before": 0}
    assert again["ledger"]["same_data_before"] == 1
    one, two = ledger.entries(untrained)
    assert (one["data"], one["n"], one["kind"]) == ("eleven", 20, "slices")
    assert (two["data"], two["digest"]) == ("renamed", one["digest"])
    assert one["model_uid"] == read_manifest(untrained).model_uid
    assert one["figures"]["auroc"] == pytest.approx(first["auroc"], abs=0.0026)
    assert Bundle.load(untrained).manifest.name == "untrained"
    registry = Registry(tmp_path / "models")
    installed = registry.find(registry.install(untrained)).folder
    assert ledger.entries(installed) == [one, two]
    path = untrained / MEASUREMENTS
    path.write_text(path.read_text().replace('"n": 20', '"n": 21', 1))
    with pytest.raises(TrainingError, match="Line 1 of measurements"):
        run("--slices", png_slices, "--bundle", untrained, "--out", tmp_path / "three")


@pytest.mark.parametrize("line", [b"[]\n", b"\xff\xfe\n", b'{"hash": "\xff"}\n'])
def test_a_ledger_of_something_else_is_called_altered(tmp_path: Path, line: bytes):
    """JSON of another kind, and bytes that are no text."""
    (tmp_path / MEASUREMENTS).write_bytes(line)
    with pytest.raises(TrainingError, match="Line 1 of measurements"):
        ledger.entries(tmp_path)


def test_a_bundle_that_cannot_be_written_is_measured_all_the_same(
    png_slices: Path, untrained: Path, tmp_path
):
    """Its ledger cannot be kept, which is said: here a folder is in the way, as root may write."""
    (untrained / MEASUREMENTS).mkdir()
    told = CliRunner().invoke(
        app,
        ["--slices", *map(str, (png_slices, "--bundle", untrained, "--out", tmp_path / "o"))],
        catch_exceptions=False,
    )
    assert told.exit_code == 0
    assert "ledger of the bundle cannot be written (IsADirectoryError)" in told.stdout
    assert "AUROC" in told.stdout


def test_nothing_is_written_where_it_is_read(
    png_slices: Path, untrained: Path, tmp_path, monkeypatch
):
    """--out and the ledger are refused there; without --out a new folder comes into being."""
    before = fingerprint(png_slices)
    with pytest.raises(TrainingError, match="--out lies in the folder that is read"):
        run("--slices", png_slices, "--bundle", untrained, "--out", png_slices / "out")
    with pytest.raises(TrainingError, match="bundle lies in the folder that is read"):
        run("--slices", tmp_path, "--bundle", untrained)
    with pytest.raises(TrainingError, match="--out lies in the bundle"):
        run("--slices", png_slices, "--bundle", untrained, "--out", untrained / "out")
    held = sorted(untrained.iterdir())
    monkeypatch.chdir(untrained)
    assert run("--slices", png_slices, "--bundle", untrained, "--device", "cpu")["n"] == 20
    assert {one.name for one in set(untrained.iterdir()) - set(held)} <= {MEASUREMENTS}
    monkeypatch.chdir(png_slices)
    assert run("--slices", png_slices, "--bundle", untrained)["n"] == 20
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    run("--slices", png_slices, "--bundle", untrained)
    run("--slices", png_slices, "--bundle", untrained, "--no-picture")
    written = sorted(str(file.relative_to(Path.cwd())) for file in Path.cwd().rglob("*.*"))
    assert written == [
        "measured-eleven-2/measured.json", "measured-eleven/measured.json",
        "measured-eleven/worst.png",
    ]  # fmt: skip
    assert fingerprint(png_slices) == before


def test_a_folder_without_permission_to_write_is_read(png_slices: Path, untrained: Path, tmp_path):
    """Folders 0555 and files 0444, as a mounted archive is."""
    folder = tmp_path / "archive"
    shutil.copytree(png_slices, folder)
    for path in (*folder.rglob("*"), folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        found = run("--slices", folder, "--bundle", untrained, "--out", tmp_path / "out")
    finally:
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755)
    assert found["n"] == 20
