"""From simulated heads to a bundle that serving accepts, by the commands that people give."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ichnode.infer.device import eager
from ichnode.infer.predictor import Predictor
from ichnode.nets.bundle import Bundle
from ichnode.nets.registry import Registry
from tests.learning_kit import write_split_key

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def train(*arguments: str, code: int = 0) -> str:
    """Run one command of the training and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "train", *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is far too short to be any good, with its bundle, measured."""
    folder = tmp_path_factory.mktemp("train")
    write_split_key(folder)
    cache, run, bundle = (str(folder / name) for name in ("cache", "run", "bundle"))
    train("data", "add", "simulated", "0:36", "--cache", cache, "--size", "64", "--workers", "2")
    few = "--preset local --size-px 64 --epochs 1 --batch 16 --reestimate-batches 0"
    train("fit", "--cache", cache, "--out", run, *few.split(), "--device", "cpu")
    train("calibrate", "--run", run, "--cache", cache, "--device", "cpu", "--split", "all")
    where = ["--cache", cache, "--out", bundle]
    train("export", "--run", run, *where, "--name", "short", "--version", "7")
    page = ["--out", str(folder / "page"), "--draws", "200", "--gallery", "2", "--card"]
    measured = ["--bundle", bundle, "--cache", cache, "--run", run, "--split", "all"]
    train("evaluate", *measured, *page, "--device", "cpu")
    return folder


def test_the_commands_make_a_bundle_that_serving_accepts(folder: Path, tmp_path: Path) -> None:
    """It loads, passes its self-test at full precision, and can be installed and promoted."""
    loaded = Bundle.load(folder / "bundle")
    predictor = Predictor(loaded, [lambda n: eager(n, torch.device("cpu"), torch.float32)])
    assert loaded.manifest.version == "7"
    assert loaded.manifest.preprocess.size_px == 64
    assert "simulated head CT only" in loaded.manifest.provenance.data
    assert loaded.manifest.provenance.restrictions is None
    registry = Registry(tmp_path)
    registry.promote(registry.install(folder / "bundle"))
    assert registry.find("champion").model_uid == predictor.model_uid


def test_card_and_page_say_what_it_is_and_what_was_measured(folder: Path) -> None:
    """Simulated, not for clinical use, and the figures of metrics.json."""
    card = (folder / "bundle" / "MODEL_CARD.md").read_text()
    metrics = json.loads((folder / "page" / "metrics.json").read_text())
    uid = Bundle.load(folder / "bundle").manifest.model_uid
    assert "Not for clinical use" in card
    assert "simulated" in card
    assert uid in card
    assert metrics["model_uid"] == uid
    assert metrics["data"]["kind"] != "scans"
    assert uid in (folder / "page" / "evaluation.html").read_text()


def test_a_run_that_is_done_is_not_done_again(folder: Path) -> None:
    """The same command says so and leaves the weights as they are."""
    weights = folder / "run" / "network.safetensors"
    before = weights.stat().st_mtime_ns
    few = "--preset local --size-px 64 --epochs 1 --batch 16 --reestimate-batches 0"
    where = ["--cache", str(folder / "cache"), "--out", str(folder / "run")]
    train("fit", *where, *few.split(), "--device", "cpu")
    assert weights.stat().st_mtime_ns == before


def test_another_recipe_in_the_same_folder_is_refused_in_one_sentence(folder: Path) -> None:
    """It names what differs."""
    where = ["--cache", str(folder / "cache"), "--out", str(folder / "run")]
    few = "--preset local --size-px 64 --epochs 2 --batch 16 --reestimate-batches 0"
    said = train("fit", *where, *few.split(), "--device", "cpu", code=1)
    assert "epochs" in said
    assert "Traceback" not in said


def test_a_run_that_is_not_calibrated_is_not_exported(folder: Path, tmp_path: Path) -> None:
    """The sentence says which command is missing."""
    run = tmp_path / "run"
    run.mkdir()
    for file in (folder / "run").iterdir():
        if file.is_file() and file.name != "calibration.json":
            (run / file.name).write_bytes(file.read_bytes())
    where = ["--cache", str(folder / "cache"), "--out", str(tmp_path / "bundle")]
    assert "python -m train calibrate" in train("export", "--run", str(run), *where, code=1)


def test_a_cache_without_what_was_learnt_from_is_refused(folder: Path, tmp_path: Path) -> None:
    """The terms of that source would be left out of the bundle."""
    run = tmp_path / "run"
    shutil.copytree(folder / "run", run)
    data = json.loads((run / "data.json").read_text())
    (run / "data.json").write_text(json.dumps(data | {"datasets": ["rsna", "simulated"]}))
    where = ["--cache", str(folder / "cache"), "--out", str(tmp_path / "bundle")]
    assert "has no rsna" in train("export", "--run", str(run), *where, code=1)


def test_every_command_has_help_with_an_example() -> None:
    """Nobody has to guess how a command is called."""
    from typer.main import get_command

    from train.cli.app import app, register_all

    register_all()
    group = get_command(app)
    leaves = {}
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        leaves |= {f"{name} {k}": v for k, v in inner.items()} if inner else {name: command}
    assert {"fit", "paper", "calibrate", "evaluate", "export", "retrain", "data add"} <= set(leaves)
    for name, command in leaves.items():
        assert command.help, name
        assert f"python -m train {name}" in (command.epilog or ""), name
