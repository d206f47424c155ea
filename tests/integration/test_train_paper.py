"""Everything in the paper by one command, on data as small as can be."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ichnode.nets.bundle import Bundle
from ichnode.nets.manifest import PreprocessSpec
from tests.learning_kit import Squares
from train.data.cache import build_cache
from train.errors import TrainingError
from train.learn.run_folder import open_run
from train.paper.figures import figures
from train.paper.networks import SUBTYPE_NETWORKS
from train.paper.running import run_paper
from train.paper.settings import Settings
from train.paper.table import ROWS, markdown

pytestmark = pytest.mark.timeout(300)  # the first test makes eight networks

SETTINGS = Settings(quick=True, device="cpu", pretrained="none")
ONE_RUN = {
    "accuracy": {"value": 0.8, "low": 0.7, "high": 0.9},
    "nothing": 0.725,
    "area": {"value": 0.85, "low": None, "high": None},
    "slices": 40,
    "patients": 8,
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty series of squares at 64 px, the least that AlexNet takes."""
    folder = tmp_path_factory.mktemp("paper")
    spec = PreprocessSpec(size_px=64, windows_hu=((0.0, 1.0),), crop="middle", slab_below_mm=0.0)
    build_cache(folder / "cache", Squares(30, side=64), spec, workers=1)
    return folder / "cache"


@pytest.fixture(scope="module")
def done(cache: Path) -> Path:
    """The folder of a whole run, with one thread, as two cores are shared by others."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    run_paper(str(cache), cache.parent / "out", SETTINGS)
    torch.set_num_threads(before)
    return cache.parent / "out"


@pytest.mark.slow
def test_the_table_has_every_line_of_the_paper(done: Path) -> None:
    """The paper's figure, ours, and what one gets that has learnt nothing."""
    text = (done / "paper.md").read_text()
    assert all(f"| {row.what} |" in text for row in ROWS)
    for stated in ("88.9 %", "91.3 %", "91.7 %", "91.8 %", "weights not to be had", "72.5 %"):
        assert stated in text
    assert "Not for clinical use" in text
    results = json.loads((done / "paper.json").read_text())
    for name in ("resnet18", "no-decay", "resizing", *(f"subtypes-{n}" for n in SUBTYPE_NETWORKS)):
        assert 0 <= results[name]["accuracy"]["value"] <= 1
    assert results["subtypes-resnet50"]["nothing"] == pytest.approx(0.8)  # one kind of five
    assert (done / "exploration" / "exploration.html").stat().st_size > 1000
    assert (done / "plots" / "paper.png").stat().st_size > 1000


@pytest.mark.slow
def test_each_network_is_trained_as_the_paper_says(done: Path) -> None:
    """Fastai's head, one slice, its augmentation, its sampling, weight decay, half batches."""
    opened = {name: open_run(done / "runs" / name).recipe for name in ("resnet18", "no-decay")}
    kinds = {n: open_run(done / "runs" / f"subtypes-{n}").recipe for n in SUBTYPE_NETWORKS}
    binary = opened["resnet18"]
    assert (binary.labels, binary.context_slices, binary.weight_decay) == ("any", 0, 0.01)
    assert (binary.augment, binary.sampling, binary.cleaning) == ("paper", "paper", "paper")
    assert opened["no-decay"] == dataclasses.replace(binary, weight_decay=0.0)
    assert {r.labels for r in kinds.values()} == {"subtypes"}
    assert all(r.architecture == f"{n}_concat" for n, r in kinds.items())
    assert kinds["densenet121"].batch <= kinds["resnet50"].batch
    assert open_run(done / "runs" / "resizing").recipe.first_sizes == ((32, 0.3), (48, 0.3))


@pytest.mark.slow
def test_the_pair_is_a_bundle_that_the_node_loads(done: Path) -> None:
    """Blood or not, then its kinds; calibrated on patients of its own."""
    loaded = Bundle.load(done / "bundle")
    assert [network.role for network in loaded.manifest.networks] == ["hemorrhage", "subtypes"]
    assert loaded.manifest.networks[0].architecture == "resnet18_concat"
    pair = json.loads((done / "paper.json").read_text())["pair"]
    assert pair["model_uid"] == loaded.manifest.model_uid
    assert (done / pair["page"]).is_file()


@pytest.mark.slow
def test_what_is_done_is_not_done_again(
    cache: Path, done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same command writes the same table, and makes only the step that is missing."""
    before = (done / "paper.md").read_bytes()
    (done / "steps" / "precision.json").unlink()
    capsys.readouterr()
    run_paper(str(cache), done, SETTINGS)
    said = [line for line in capsys.readouterr().out.splitlines() if line.endswith("...")]
    assert said == ["Timing mixed precision ..."]
    after = (done / "paper.md").read_bytes()
    lines = [text.splitlines() for text in (before, after)]
    assert [line for line in lines[0] if b"images/s" not in line] == [
        line for line in lines[1] if b"images/s" not in line
    ]


@pytest.mark.slow
def test_other_settings_in_the_folder_are_refused(cache: Path, done: Path) -> None:
    """Their results are not to be mixed."""
    with pytest.raises(TrainingError, match="other settings"):
        run_paper(str(cache), done, dataclasses.replace(SETTINGS, seed=2))


def test_what_is_no_data_is_said(tmp_path: Path) -> None:
    """Neither a cache nor a dataset."""
    with pytest.raises(TrainingError, match="SOURCE:PATH"):
        run_paper(str(tmp_path / "nowhere"), tmp_path / "out", SETTINGS)
    with pytest.raises(TrainingError, match="no source floppy"):
        run_paper("floppy:disks", tmp_path / "other", SETTINGS)


def test_simulated_and_quick_are_said_before_any_figure() -> None:
    """Whoever reads the table reads that first."""
    part = {"patients": 8, "slices": 40, "with_blood": 10}
    results = dict.fromkeys((row.step for row in ROWS), ONE_RUN) | {
        "data": {
            "datasets": ["simulated"],
            "simulated": True,
            "cleaning": [],
            "parts": {"a": part},
        },
        "finder": {"taken": 1e-3},
        "metadata": {"why_not": "too few", "sentence": "Not tried."},
        "precision": {
            "device": "cpu",
            "mixed": "bfloat16",
            "hardware": False,
            "images_per_s": {"float32": 2.0, "bfloat16": 1.0},
            "saved": -1.0,
        },
        "pair": {"skipped": "The pair is not calibrated: too few."},
    }
    text = markdown(results, quick=True)
    assert text.index("All scans are simulated") < text.index("| ResNet-18")
    assert text.index("**Quick**") < text.index("| ResNet-18")
    assert "80.0 % [70.0, 90.0 %] | 72.5 % | 0.850 | 40, 8" in text
    assert "has no hardware for it" in text
    results["data"] = results["data"] | {"simulated": False}
    assert "simulated" not in markdown(results, quick=False).split("|")[0]


def test_figures_beside_nothing_learnt() -> None:
    """Two slices in three with blood: always yes is right in two of three."""
    truth = np.array([[1.0], [1.0], [0.0]] * 20)
    logits = np.where(truth == 1, 1.0, -1.0)
    logits[:6] *= -1
    found = figures(logits, truth, np.repeat(np.arange(20), 3))
    assert found.nothing == pytest.approx(2 / 3)
    assert found.accuracy.value == pytest.approx(0.9)
    assert found.accuracy.low < 0.9 < found.accuracy.high
    assert (found.slices, found.patients) == (60, 20)


def test_subtypes_count_every_entry_and_leave_out_the_unknown() -> None:
    """Calling none is right wherever there is none."""
    truth = np.tile([[1.0, 0.0, 0.0, 0.0, np.nan]], (10, 1))
    truth[5:, :2] = [0.0, 1.0]
    found = figures(np.where(truth == 1, 1.0, -1.0), truth, np.arange(10))
    assert found.accuracy.value == 1.0
    assert found.nothing == pytest.approx(0.75)
    assert found.area.value == 1.0
