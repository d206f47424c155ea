"""Whole runs: the same again, interrupted and resumed, refused, and broken."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import os
import signal
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import load_file

from ichnode.nets.architectures import SliceNetwork, build
from tests.learning_kit import TINY, parts, square_slices
from train.data.splits import open_key
from train.data.views import Slices
from train.errors import TrainingError
from train.learn.checkpoint import load_checkpoint
from train.learn.journal import COLUMNS, rows
from train.learn.loop import Conditions, fit
from train.learn.recipe import PRESETS, Recipe
from train.learn.run_folder import kept_recipe, open_run, split_key

QUIET = Conditions(device="cpu", quiet=True)


class Interrupted(Slices):
    """Slices during whose reading somebody presses Ctrl-C, once."""

    __slots__ = ("_number", "_signal")

    @classmethod
    def of(cls, slices: Slices, after: int, number: signal.Signals) -> Interrupted:
        """Send a signal to this process when so many batches were read."""
        own = cls(**{name: getattr(slices, name) for name in Slices.__slots__})
        object.__setattr__(own, "_number", itertools.count(1))
        object.__setattr__(own, "_signal", (after, number))
        return own

    def where(self, kept: npt.NDArray[np.bool_]) -> Slices:
        """Stay what it is: nothing is left out here."""
        assert kept.all()
        return self

    def stacks(self, chosen: npt.NDArray[np.int64]) -> torch.Tensor:
        """Read, and maybe send the signal."""
        after, number = self._signal
        if next(self._number) == after:
            os.kill(os.getpid(), number)
        return super().stacks(chosen)


def digest(network: SliceNetwork) -> str:
    whole = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        whole.update(name.encode() + tensor.numpy().tobytes())
    return whole.hexdigest()


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Sums are the same bit by bit only with the same number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nobody disturbed."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    reference = split_key(run.parent / "split.key")
    fit(TINY, *parts(), run, conditions=QUIET, split=reference)
    return run


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_with_the_weights_of_an_uninterrupted_one(
    whole: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """Ctrl-C and SIGTERM leave a checkpoint in the middle of an epoch; the rest is as it was."""
    train, watch = parts()
    handler = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        fit(TINY, Interrupted.of(train, 8, number), watch, tmp_path / "run", conditions=QUIET)
    assert signal.getsignal(number) is handler
    kept = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert 0 < kept["step"] < 9
    with pytest.raises(TrainingError, match="not finished"):
        open_run(tmp_path / "run")
    network = fit(TINY, train, watch, tmp_path / "run", conditions=QUIET)
    assert digest(network) == digest(open_run(whole).network)
    steps = [row["step"] for row in rows(tmp_path / "run")]
    assert steps == [row["step"] for row in rows(whole)]


@pytest.mark.slow
def test_the_seed_decides_the_weights(whole: Path, tmp_path: Path) -> None:
    """The same recipe gives the same weights, bit by bit; another seed gives others."""
    chance = torch.get_rng_state()
    again = fit(TINY, *parts(), tmp_path / "again", conditions=QUIET)
    assert torch.equal(torch.get_rng_state(), chance)
    other = dataclasses.replace(TINY, seed=8)
    assert digest(again) == digest(open_run(whole).network)
    assert digest(fit(other, *parts(), tmp_path / "other", conditions=QUIET)) != digest(again)


def test_the_folder_says_what_was_done(whole: Path) -> None:
    """Recipe, data, split, environment, course, pictures, and a network that opens."""
    opened = open_run(whole)
    assert kept_recipe(whole) == opened.recipe == TINY
    assert opened.data["datasets"] == ["squares"]
    assert (opened.data["patients"], opened.data["watched_patients"]) == (12, 4)
    assert opened.negatives_kept == pytest.approx(18 / 78)
    assert opened.split_key == open_key(whole.parent / "split.key")
    assert set(rows(whole)[0]) == set(COLUMNS)
    last = rows(whole)[-1]
    assert last["epoch"] == 2
    assert 0 <= last["watch_auroc"] <= 1
    assert all((whole / "plots" / f"{name}.png").stat().st_size > 5000 for name in ("loss", "rate"))
    assert opened.result["weights"] in opened.result["watched"]
    assert opened.result["steps"] == 18
    assert not opened.network.training
    assert set(torch.load(whole / "checkpoint.pt", weights_only=True)) > {"network", "optimizer"}


def test_a_finished_run_is_not_done_again(whole: Path) -> None:
    """The same command returns the network that is there."""
    before = (whole / "network.safetensors").stat().st_mtime_ns
    network = fit(TINY, *parts(), whole, conditions=QUIET)
    assert digest(network) == digest(open_run(whole).network)
    assert (whole / "network.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize("content", [b"", b"buy milk", b"PK\x03\x04 and no more", bytes(200)])
def test_a_damaged_checkpoint_is_said(tmp_path: Path, content: bytes) -> None:
    """Whatever is in the file: one sentence with what to do."""
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(TrainingError, match="damaged; remove it"):
        load_checkpoint(tmp_path / "checkpoint.pt")


def test_another_recipe_in_the_folder_is_refused(whole: Path) -> None:
    """The sentence names what differs; nothing is touched."""
    other = dataclasses.replace(TINY, peak_rate=5e-4)
    with pytest.raises(TrainingError, match=r"peak_rate is 0\.001 there and 0\.0005 here"):
        fit(other, *parts(), whole, conditions=QUIET)
    assert kept_recipe(whole) == TINY


def test_other_slices_in_the_folder_are_refused(whole: Path) -> None:
    """A run that went on with other data would be of neither."""
    train, watch = parts()
    fewer = train.of_patients({f"p{n}" for n in range(10)})
    with pytest.raises(TrainingError, match="other slices"):
        fit(TINY, fewer, watch, whole, conditions=QUIET)


def test_a_run_with_another_key_is_noticed(whole: Path, tmp_path: Path) -> None:
    """With another key a patient would move from what was learnt to what is measured on."""
    split = open_run(whole).split
    assert split is not None
    open_key(tmp_path / "split.key")
    with pytest.raises(TrainingError, match="another key"):
        split.key(tmp_path / "split.key")
    with pytest.raises(TrainingError, match="give --key"):
        split.key(tmp_path / "missing.key")


def test_a_patient_on_both_sides_is_refused(tmp_path: Path) -> None:
    """So are parts without slices."""
    train, _ = parts()
    with pytest.raises(TrainingError, match="patient"):
        fit(TINY, train, train, tmp_path / "run", conditions=QUIET)
    nobody = train.of_patients(set())
    for pair in ((train, nobody), (nobody, train)):
        with pytest.raises(TrainingError, match="There are no slices to"):
            fit(TINY, *pair, tmp_path / "run", conditions=QUIET)
    assert not (tmp_path / "run").exists()


def test_a_recipe_that_does_not_fit_the_cache_is_refused(tmp_path: Path) -> None:
    """Neither larger images than are kept nor another box around the head."""
    for change, sentence in (({"size_px": 64}, "32 px"), ({"crop": "head"}, "cut out the head")):
        with pytest.raises(TrainingError, match=sentence):
            fit(dataclasses.replace(TINY, **change), *parts(), tmp_path, conditions=QUIET)


def test_a_start_of_another_network_is_refused(tmp_path: Path) -> None:
    """Its weights would not fit."""
    start = build("resnet18", 9, 6)
    with pytest.raises(TrainingError, match="of another network"):
        fit(TINY, *parts(), tmp_path / "run", start=start, conditions=QUIET)


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path) -> None:
    """One sentence with the way out; what is kept is finite."""
    wild = dataclasses.replace(TINY, peak_rate=1e30, clip=0.0)
    careful = dataclasses.replace(QUIET, save_every_s=0.0)
    with pytest.raises(TrainingError, match=r"no numbers? any more .* lower --peak-rate"):
        fit(wild, *parts(), tmp_path / "run", conditions=careful)
    if (tmp_path / "run" / "checkpoint.pt").exists():
        kept = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
        assert all(bool(t.isfinite().all()) for t in kept["network"].values())


@pytest.mark.slow
def test_the_clock_ends_a_run_with_a_result(tmp_path: Path) -> None:
    """A limit that is over after the first steps still gives a network, and the schedule's end."""
    short = dataclasses.replace(TINY, epochs=1000, minutes=0.02)
    fit(short, *parts(), tmp_path / "run", conditions=QUIET)
    assert 0 < open_run(tmp_path / "run").result["steps"] < 200


@pytest.mark.slow
@pytest.mark.parametrize("damaged", [False, True])
def test_weights_that_were_better_on_the_way_are_kept(tmp_path: Path, damaged: bool) -> None:
    """Where later steps ruin what was learnt: here a checkpoint gets weights that know nothing.

    Where the better ones are damaged, the run ends with its last weights all the same.
    """
    recipe = dataclasses.replace(TINY, epochs=6, averaging=0.0)
    train, watch = parts()
    with pytest.raises(KeyboardInterrupt):
        stopped = Interrupted.of(train, 48, signal.SIGINT)
        fit(recipe, stopped, watch, tmp_path / "run", conditions=QUIET)
    checkpoint = load_checkpoint(tmp_path / "run" / "checkpoint.pt")
    assert 36 <= checkpoint["step"] < 54
    torch.manual_seed(1)
    beginner = build(recipe.architecture, recipe.preprocess().channels, 6)
    torch.save(checkpoint | {"network": beginner.state_dict()}, tmp_path / "run" / "checkpoint.pt")
    if damaged:
        (tmp_path / "run" / "best.safetensors").write_bytes(b"no weights")
        never = dataclasses.replace(QUIET, look_every_s=1e6)
        fit(recipe, train, watch, tmp_path / "run", conditions=never)
        assert open_run(tmp_path / "run").result["weights"] == "learner"
        return
    network = fit(recipe, train, watch, tmp_path / "run", conditions=QUIET)
    result = open_run(tmp_path / "run").result
    assert result["weights"] == "best"
    assert result["watched"]["best"]["loss"] < result["watched"]["learner"]["loss"]
    best = load_file(tmp_path / "run" / "best.safetensors")
    weights = [name for name, _ in network.named_parameters()]
    assert all(torch.equal(network.state_dict()[name], best[name]) for name in weights)


@pytest.mark.slow
def test_looks_may_be_further_apart_than_epochs(tmp_path: Path) -> None:
    """Where epochs are short; the weights are the same, and the end is looked at all the same."""
    networks = []
    for name, seconds in (("each", 0.0), ("never", 1e6)):
        rare = dataclasses.replace(QUIET, look_every_s=seconds)
        networks.append(fit(TINY, *parts(), tmp_path / name, conditions=rare))
        looks = [line for line in rows(tmp_path / name) if line["watch_auroc"] >= 0]
        assert len(looks) == (TINY.epochs if name == "each" else 0)
        result = open_run(tmp_path / name).result
        assert result["weights"] != "best"
        assert result["watched"]["averaged"]["auroc"] > 0
    assert digest(networks[0]) == digest(networks[1])


@pytest.mark.slow
@pytest.mark.parametrize("steps", [6, 11])
def test_a_number_of_steps_ends_a_run_with_its_schedule(tmp_path: Path, steps: int) -> None:
    """Within an epoch or beyond two, whatever the epochs say; the rate has come down by then."""
    counted = dataclasses.replace(TINY, epochs=1, steps=steps)
    fit(counted, *parts(), tmp_path / "run", conditions=QUIET)
    assert open_run(tmp_path / "run").result["steps"] == steps
    rates = [row["rate"] for row in rows(tmp_path / "run")]
    assert max(rates) == pytest.approx(TINY.peak_rate, rel=0.2)
    assert rates[-1] < TINY.peak_rate / 5


@pytest.mark.slow
@pytest.mark.parametrize(
    "recipe",
    [
        dataclasses.replace(
            PRESETS["paper"],
            **{
                name: getattr(TINY, name)
                for name in ("size_px", "crop", "slab_below_mm", "batch", "precision")
            },
            cleaning="none",
            epochs=1,
            first_sizes=((32, 0.5),),
        ),
        dataclasses.replace(TINY, labels="subtypes", epochs=1, context_slices=0),
        dataclasses.replace(
            TINY,
            architecture="resnet18_local",
            place_weight=1.0,
            augment="simulated",
            window_dropout=0.3,
            epochs=1,
        ),
        dataclasses.replace(TINY, architecture="resnet18_mask", labels="any", epochs=1),
    ],
    ids=["paper, frozen first", "subtypes", "local, with places", "masks of any blood"],
)
def test_each_kind_of_recipe_runs_to_its_end(recipe: Recipe, tmp_path: Path) -> None:
    """Frozen and thawed, subtypes of slices with blood, evidence with voxel truth."""
    whole = square_slices(range(16), recipe.context_slices)
    watched = {f"p{number}" for number in range(12, 16)}
    train = whole.of_patients({f"p{n}" for n in range(12)})
    fit(recipe, train, whole.of_patients(watched), tmp_path / "run", conditions=QUIET)
    opened = open_run(tmp_path / "run")
    assert opened.network.outputs == len(opened.labels)
    assert np.isfinite([row["loss"] for row in rows(tmp_path / "run")]).all()
