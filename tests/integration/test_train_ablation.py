"""Ablations by the command: arms that learn on simulated heads, read real slices, are compared."""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from ichnode.nets.manifest_file import read_manifest
from tests.judged import made_up
from tests.scan_folders import fingerprint
from tests.training_data import write_template
from train.ablation.arms import ARMS, FULL, chosen_arms
from train.ablation.comparing import compared
from train.ablation.settings import Settings
from train.ablation.table import markdown
from train.carryover import ledger
from train.cli import ablating
from train.data.cache import open_cache
from train.data.records import SourceSeries
from train.data.sources.randomised import open_source
from train.errors import TrainingError
from train.learn.run_folder import open_run
from train.predictions import Predictions, write_predictions

torch.set_num_threads(1)
app = typer.Typer()
ablating.register(app)
SMALL = ("--series", 16, "--holdout", 4, "--size-px", 32, "--steps", 3, "--workers", 1)
SEEDS, SIZE_PX = range(12), 72
DRAWN, TEMPLATED = "4", "7"  # both with blood as read from a picture


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """An average head."""
    return write_template(tmp_path_factory.mktemp("template"), voxel_mm=4.0)


def run(*arguments: object) -> str:
    """Run the command as a user does, and return what it prints."""
    told = CliRunner().invoke(
        app, ["--device", "cpu", *map(str, arguments)],
        catch_exceptions=False, standalone_mode=False,
    )  # fmt: skip
    if told.exception is not None:
        raise told.exception
    return told.stdout


@dataclasses.dataclass(frozen=True)
class Done:
    """An ablation of three arms; the first of them was there before there were real slices."""

    out: Path
    command: tuple[object, ...]
    first: str
    told: str

    def found(self) -> dict:
        """Its figures."""
        return json.loads((self.out / "ablations.json").read_text())


@pytest.fixture(scope="module")
def done(template: Path, png_slices: Path, tmp_path_factory) -> Done:
    """Made by two commands: the first arm alone, then three on slices."""
    out = tmp_path_factory.mktemp("ablation") / "out"
    command = ("--template", template, "--out", out, *SMALL)
    first = run(*command, "--only", "full")
    arms = ("--only", "no-distractors", "--only", "full", "--only", "brain-window")
    command = (*command, *arms, "--slices", png_slices)
    return Done(out, command, first, run(*command))


@pytest.mark.slow
def test_arms_are_compared_with_the_whole_simulator(done: Done) -> None:
    """AUROC and difference on both data follow from what was said of each slice."""
    found = done.found()
    assert [arm["name"] for arm in found["arms"]] == ["full", "no-distractors", "brain-window"]
    areas = {}
    for arm in found["arms"]:
        items = json.loads((done.out / "arms" / arm["name"] / "measured.json").read_text())["items"]
        truth, scores = ([item[name] for item in items] for name in ("truth", "score"))
        areas[arm["name"]] = roc_auc_score(truth, scores)
        assert arm["real"]["auroc"]["value"] == pytest.approx(areas[arm["name"]], abs=1e-5)
        for data in ("simulated", "real"):
            assert 0 <= arm[data]["auroc"]["low"] <= arm[data]["auroc"]["high"] <= 1
    whole, *others = found["arms"]
    assert whole["real"]["difference"]["value"] is None
    for arm in others:
        off = arm["real"]["difference"]
        assert off["value"] == pytest.approx(areas[arm["name"]] - areas["full"], abs=1e-5)
        assert off["low"] <= off["value"] <= off["high"]
        assert arm["simulated"]["difference"]["value"] is not None
    assert (found["real"]["name"], found["real"]["positives"]) == ("eleven", 10)
    assert (done.out / "ablations.md").read_text() in done.told


@pytest.mark.slow
def test_the_table_says_what_there_is_and_what_is_simulated(done: Done) -> None:
    """Without real slices their columns are empty; nothing is claimed of them."""
    row = next(line for line in done.first.splitlines() if line.startswith("| full |"))
    assert row.endswith("| - | - | - |")
    assert "Real slices: none yet." in done.first
    assert "learnt from simulated scans alone" in done.told
    assert "10 slices with haemorrhage and 10 without" in done.told
    assert "3 steps, on 16 series" in done.told


@pytest.mark.slow
def test_arms_differ_by_what_they_leave_out_alone(done: Done) -> None:
    """The same seeds, series to watch, steps and holdout; one cache serves two."""
    runs = {name: open_run(done.out / "arms" / name / "run") for name in ("full", "brain-window")}
    other = open_run(done.out / "arms" / "no-distractors" / "run")
    assert {one.result["steps"] for one in (*runs.values(), other)} == {3}
    assert runs["full"].recipe == other.recipe
    assert runs["full"].data == runs["brain-window"].data
    assert runs["brain-window"].recipe.windows_hu == ((0.0, 80.0),)
    caches = sorted(path.name for path in (done.out / "caches").iterdir())
    assert caches == ["full", "holdout", "no-distractors"]
    whole, less = (open_cache(done.out / "caches" / name) for name in ("full", "no-distractors"))
    assert list(whole.slices["series"]) == list(less.slices["series"])
    assert not np.array_equal(whole.hu, less.hu)
    assert set(open_cache(done.out / "caches" / "holdout").slices["dataset"]) == {
        "randomised-holdout"
    }


@pytest.mark.slow
def test_each_use_of_the_slices_is_in_the_ledger_of_the_arm(done: Done) -> None:
    """One each, with the model that was used; the bundle says that it is not calibrated."""
    for name in ("full", "no-distractors", "brain-window"):
        bundle = done.out / "arms" / name / "bundle"
        (use,) = ledger.entries(bundle)
        manifest = read_manifest(bundle)
        assert (use["data"], use["n"], use["model_uid"]) == ("eleven", 20, manifest.model_uid)
        assert manifest.name == f"ablation-{name}"
        assert "Not at all" in manifest.calibration.how
        assert "simulated head CT only" in manifest.provenance.data


@pytest.mark.slow
def test_what_is_done_is_not_done_again(done: Done) -> None:
    """Nothing of an arm is touched; what is missing of one is made, and no more."""
    arms, run_of = done.out / "arms", "full/run/network.safetensors"
    before = fingerprint(arms)
    again = run(*done.command)
    assert fingerprint(arms) == before
    assert again.endswith((done.out / "ablations.md").read_text())
    (arms / "full" / "predictions.jsonl").unlink()
    figures = done.found()
    run(*done.command)
    assert done.found() == figures
    assert fingerprint(arms)[str(arms / run_of)] == before[str(arms / run_of)]
    assert len(ledger.entries(arms / "full" / "bundle")) == 1


@pytest.mark.slow
def test_results_of_other_settings_or_slices_are_not_mixed(
    done: Done, png_slices: Path, template: Path, tmp_path: Path
) -> None:
    """One sentence each, before anything is made."""
    before = fingerprint(done.out)
    for option, words in (
        (("--steps", 4), "another steps"),
        (("--seed", 8), "another seed"),
        (("--simulated-px", 48), "another scan px"),
        (("--hu-range", 0, 100), "measured on other slices"),
    ):
        with pytest.raises(TrainingError, match=words):
            run(*done.command, *option)
    shutil.copytree(png_slices, tmp_path / "fewer")
    next((tmp_path / "fewer" / "normal").iterdir()).unlink()
    with pytest.raises(TrainingError, match="full was measured on other slices"):
        run(*done.command, "--slices", tmp_path / "fewer")
    write_template(tmp_path, voxel_mm=5.0)
    with pytest.raises(TrainingError, match="another template"):
        run(*done.command, "--template", tmp_path)
    assert fingerprint(done.out) == before


def test_what_makes_no_sense_is_refused_in_one_sentence(
    template: Path, png_slices: Path, tmp_path: Path
) -> None:
    """Numbers, names and folders; nothing is written."""
    asked = ("--template", template, "--out", tmp_path / "out")
    for wrong, words in (
        (("--series", 3), "--series is 10 to"),
        (("--holdout", 1), "--holdout is 2 to"),
        (("--size-px", 16), "--size-px is 32"),
        (("--simulated-px", 64), "--simulated-px is 0, or not below"),
        (("--minutes", 0), "--minutes are above 0"),
        (("--only", "colours"), "no arm colours; there are full, template-only"),
        (("--template", tmp_path), "holds no template: it needs scct_hu"),
        (("--slices", png_slices, "--out", png_slices / "out"), "lies in the folder that is read"),
        (("--slices", tmp_path / "none"), "is no folder"),
    ):
        with pytest.raises(TrainingError, match=words):
            run(*asked, *wrong)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_minutes_become_steps_once(done: Done, template: Path, tmp_path: Path) -> None:
    """They are timed at the first start and kept, so that later arms learn as long as the first."""
    out = tmp_path / "out"
    shutil.copytree(done.out / "caches", out / "caches")
    sized = [one for one in SMALL if one not in ("--steps", 3)]
    command = ("--template", template, "--out", out, *sized, "--minutes", 0.02, "--only")
    run(*command, "brain-window")
    kept = json.loads((out / "steps.json").read_text())["steps"]
    run(*command, "full")
    for name in ("brain-window", "full"):
        assert open_run(out / "arms" / name / "run").result["steps"] == kept > 0


def test_every_arm_is_in_the_help() -> None:
    """By its name, so that `--only` can be given."""
    for arm in ARMS:
        assert arm.name in (ablating.ablate.__doc__ or "")


@functools.cache
def of_the_whole(template: Path, job: str) -> SourceSeries:
    """A series as the whole simulator makes it."""
    return FULL.source(SEEDS, template, SIZE_PX).read(job)


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
def test_an_arm_simulates_what_it_says(arm, template: Path) -> None:
    """Each source makes other series than the whole simulator, but for the arm of the windows."""
    own = arm.source(SEEDS, template, SIZE_PX)
    same = []
    for job in DRAWN, TEMPLATED:
        less, whole = own.read(job), of_the_whole(template, job)
        same.append(
            np.array_equal(less.hu, whole.hu)
            and np.array_equal(less.slice_labels, whole.slice_labels, equal_nan=True)
        )
    assert all(same) == (arm.cache == FULL.name)


def test_the_whole_is_what_people_train_on(template: Path) -> None:
    """The source of `data add randomised`, but for the size."""
    usual = open_source(f"{template}:0:12", None, b"")
    assert FULL.source(SEEDS, template, usual.size_px) == usual


def test_arms_are_named_once_and_come_in_their_order() -> None:
    """Whatever order they are asked for in."""
    assert len({arm.name for arm in ARMS}) == len(ARMS)
    assert chosen_arms(()) == ARMS
    assert [arm.name for arm in chosen_arms(("all-blood", "full"))] == ["full", "all-blood"]


def written(folder: Path, predictions: Predictions) -> None:
    """Put down what an arm says."""
    folder.mkdir(parents=True)
    write_predictions(folder / "predictions.jsonl", predictions)


def worse(predictions: Predictions) -> Predictions:
    """The same series, said at random."""
    rng = np.random.default_rng(2)
    return Predictions(
        tuple(
            dataclasses.replace(one, slice_logits=rng.normal(size=one.slice_logits.shape))
            for one in predictions.series
        )
    )


def test_a_difference_has_the_interval_of_pairs(tmp_path: Path) -> None:
    """None of the same model, however uncertain each AUROC is; one of a worse model is below 0."""
    whole = made_up(40)
    for name, said in (("full", whole), ("white-noise", whole), ("no-pictures", worse(whole))):
        written(tmp_path / name, said)
    arms = {arm["name"]: arm["simulated"] for arm in compared(tmp_path)["arms"]}
    same, less = (arms[name]["difference"] for name in ("white-noise", "no-pictures"))
    assert (same["value"], same["low"], same["high"]) == (0, 0, 0)
    assert arms["full"]["auroc"]["low"] < arms["full"]["auroc"]["high"]
    assert -0.6 < less["low"] < less["value"] < less["high"] < -0.2


def test_without_the_whole_there_is_no_difference(template: Path, tmp_path: Path) -> None:
    """And arms that read different slices are not put side by side."""
    written(tmp_path / "no-pictures", made_up(12))
    (arm,) = compared(tmp_path)["arms"]
    assert arm["simulated"]["auroc"]["value"] is not None
    assert arm["simulated"]["difference"]["value"] is None
    settings = Settings(template, steps=5).as_json()
    assert settings["scan_px"] == 104
    told = markdown(compared(tmp_path) | {"settings": settings})
    assert "| no-pictures |" in told
    assert "compact_mask at 96 px, 5 steps, on 250 series" in told
    written(tmp_path / "full", made_up(12, first=5))
    with pytest.raises(TrainingError, match="no-pictures and full were measured on different"):
        compared(tmp_path)
