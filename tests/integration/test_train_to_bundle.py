"""From simulated heads to a bundle that serving accepts, by the training's own command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ichnode.infer.device import eager
from ichnode.infer.predictor import Predictor
from ichnode.nets.bundle import Bundle
from ichnode.nets.registry import Registry
from train.__main__ import main


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a run that is far too short to be any good."""
    folder = tmp_path_factory.mktemp("run")
    few = "--heads 2 --tune-heads 4 --holdout-heads 3 --size-px 64 --small-px 64 --batch 4"
    where = ["--data", str(folder / "heads"), "--out", str(folder / "run"), "--version", "7"]
    main(["fit", *few.split(), "--epochs", "1", "--workers", "2", *where])
    return folder / "run" / "bundle"


@pytest.mark.slow
def test_the_command_writes_a_bundle_that_serving_accepts(bundle: Path, tmp_path: Path) -> None:
    """It loads, passes its self-test at full precision, and can be installed and promoted."""
    loaded = Bundle.load(bundle)
    predictor = Predictor(loaded, [lambda n: eager(n, torch.device("cpu"), torch.float32)])
    assert loaded.manifest.version == "7"
    assert loaded.manifest.preprocess.size_px == 64
    registry = Registry(tmp_path)
    registry.promote(registry.install(bundle))
    assert registry.find("champion").model_uid == predictor.model_uid
    assert registry.find("champion").card().startswith("# ichnode-simulated 7")


@pytest.mark.slow
def test_the_card_says_what_it_is_and_what_was_measured(bundle: Path) -> None:
    """Simulated only, not for clinical use, and the figures of metrics.json."""
    card = (bundle / "MODEL_CARD.md").read_text()
    metrics = json.loads((bundle / "metrics.json").read_text())
    assert "Not for clinical use" in card
    assert "simulated head CT" in card
    assert metrics["heads"] == 3
    assert metrics["model_uid"] == Bundle.load(bundle).manifest.model_uid
    assert metrics["model_uid"] in card
    assert str(metrics["labels"]["any"]["slice_auroc"]) in card
    assert sum(sum(row.values()) for row in metrics["findings"].values()) == 3


@pytest.mark.slow
def test_exporting_again_gives_the_same_bundle(bundle: Path) -> None:
    """The export follows from the run alone."""
    before = json.loads((bundle / "bundle.json").read_text())
    run = bundle.parent
    where = ["--data", str(run.parent / "heads"), "--out", str(run), "--version", "7"]
    main(["export", *where])
    after = json.loads((bundle / "bundle.json").read_text())
    assert after["networks"] == before["networks"]
    assert after["thresholds"] == before["thresholds"]
