"""Weak labels, the sequence stage and the bundle, by the commands that people give."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from ichnode.nets.bundle import Bundle
from tests.context_kit import squares
from tests.learning_kit import write_split_key
from train.cli import context, exporting, judging
from train.errors import TrainingError
from train.learn.run_folder import open_run

pytestmark = pytest.mark.slow
FEW = ("--size-px", 32, "--epochs", 1, "--series", 4, "--batch", 32, "--augment", "none")


def train(*arguments: object) -> str:
    """Run one command as a user does; what it raises on purpose is raised here."""
    app = typer.Typer()
    for module in (context, judging, exporting):
        module.register(app)
    words = [str(one) for one in arguments]
    done = CliRunner().invoke(app, words, catch_exceptions=False, standalone_mode=False)
    assert done.exception is None
    return done.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on labels of series alone, far too short to be any good."""
    folder = tmp_path_factory.mktemp("commands")
    write_split_key(folder)
    squares(folder / "cache", 40, weak=True)
    where = ("--cache", folder / "cache", "--out", folder / "run")
    told = train("weak", *where, "--pooling", "lse", *FEW, "--device", "cpu")
    assert "Not for clinical use" in told
    return folder


def test_from_labels_of_series_to_a_bundle_with_a_sequence_stage(folder: Path) -> None:
    """Each command takes what the one before has left; serving gets both networks."""
    cache, made, joined = folder / "cache", folder / "run", folder / "run2"
    few = ("--hidden", 8, "--layers", 1, "--epochs", 1, "--batch", 8, "--device", "cpu")
    told = train("context", "--run", made, "--cache", cache, "--out", joined, *few)
    assert "blended" in told
    train("calibrate", "--run", joined, "--cache", cache, "--split", "all", "--device", "cpu")
    train("export", "--run", joined, "--cache", cache, "--out", folder / "bundle")
    bundle = Bundle.load(folder / "bundle")
    assert set(bundle.networks) == {"joint", "context"}
    assert bundle.manifest.calibration.series_rule == "log_sum_exp"
    assert bundle.manifest.context is not None
    assert bundle.manifest.context.slice_blend == (0.0,) * 6  # no slice is labelled
    measured = ("--bundle", folder / "bundle", "--cache", cache, "--split", "all")
    train(
        "evaluate", *measured, "--out", folder / "page", "--draws", 100, "--gallery", 0,
        "--device", "cpu",
    )  # fmt: skip
    found = json.loads((folder / "page" / "metrics.json").read_text())
    assert found["data"]["series"] == 40


def test_a_run_or_a_bundle_can_be_started_from(folder: Path, tmp_path: Path) -> None:
    """Its late layers go on learning at a tenth of the rate; where it came from is kept."""
    where = ("--cache", folder / "cache", "--out", tmp_path / "run", "--from", folder / "run")
    train("weak", *where, *FEW, "--device", "cpu")
    opened = open_run(tmp_path / "run")
    assert opened.recipe.rate_spread == 100.0
    assert opened.start is not None
    assert opened.recipe.start == opened.start.name


def test_wrong_words_are_answered_with_a_sentence(folder: Path, tmp_path: Path) -> None:
    """A misspelt pooling or rule, and two starts at once."""
    where = ("--cache", folder / "cache", "--out", tmp_path / "run")
    with pytest.raises(TrainingError, match="max, log_sum_exp, attention"):
        train("weak", *where, "--pooling", "mean", *FEW)
    with pytest.raises(TrainingError, match="not both"):
        train("weak", *where, "--from", folder / "run", "--pretrained", "auto", *FEW)
    with pytest.raises(TrainingError, match="adjacent_mean, max or log_sum_exp"):
        train("context", "--run", folder / "run", *where, "--rule", "mean")
