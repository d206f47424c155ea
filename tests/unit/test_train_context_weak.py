"""Learning from labels of whole series: what learns, what stays, and that it is learning."""

from __future__ import annotations

import dataclasses
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.context_kit import SPEC, as_slices, squares, untrained
from train.context.bag_reader import start_at_prevalence
from train.context.bags import (
    bags_of,
    embed_parts,
    parts_of,
    plan_bags,
    read_bags,
    single_members,
    whole_members,
)
from train.context.features import state_digest
from train.context.joining import rule_of
from train.context.pooling import PoolingName
from train.context.weak import fit_weak, kept_weak_recipe
from train.context.weak_recipe import WeakRecipe, check_weak, read_weak_recipe
from train.data.cache import Cache
from train.errors import TrainingError
from train.judge.metrics import auroc
from train.learn.predicting import predict
from train.learn.recipe import Recipe
from train.learn.run_folder import kept_result, open_run

QUICK = Recipe(
    architecture="resnet18_local",
    windows_hu=SPEC.windows_hu,
    context_slices=0,
    cleaning="none",
    augment="none",
    epochs=4,
    batch=64,
    peak_rate=2e-3,
    averaging=0.0,
    precision="float32",
).like(SPEC)
QUICK = dataclasses.replace(QUICK, size_px=SPEC.size_px)
FOUR = WeakRecipe(series=4)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def weak(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """Twenty-four series of which only the whole is labelled."""
    return squares(tmp_path_factory.mktemp("weak"), 24, weak=True)


def parted(cache: Cache, learnt: int = 16):
    """The slices of the first patients, and those of the others."""
    slices = as_slices(cache)
    first = {f"p{number}" for number in range(learnt)}
    return slices.of_patients(first), slices.of_patients(set(slices.table["patient"]) - first)


@pytest.mark.slow
def test_slices_are_found_from_labels_of_series_alone(tmp_path: Path) -> None:
    """Nothing is known of any slice, and on unseen series the network tells which ones show it."""
    taught = squares(tmp_path / "weak", 40, weak=True)
    labelled = squares(tmp_path / "labelled", 64)
    train, watch = parted(taught, 32)
    assert np.isnan(train.labels).all()
    recipe = dataclasses.replace(QUICK, epochs=7)
    network = fit_weak(recipe, FOUR, train, watch, tmp_path / "run", device="cpu", quiet=True)
    unseen = as_slices(labelled).of_patients({f"p{number}" for number in range(40, 64)})
    said = predict(network, unseen, SPEC, rule="log_sum_exp")
    assert auroc(said.series_logits[:, 0], said.series_truth[:, 0]) > 0.9
    assert auroc(said.slice_logits[:, 0], said.slice_truth[:, 0]) > 0.85


@pytest.mark.parametrize("pooling", ["max", "attention"])
def test_every_pooling_makes_a_run_like_any_other(
    weak: Cache, tmp_path: Path, pooling: PoolingName
) -> None:
    """The folder opens as a run, says by which rule its slices speak, and is not trained again."""
    train, watch = parted(weak)
    recipe = dataclasses.replace(QUICK, epochs=1, averaging=0.9)
    how = WeakRecipe(pooling=pooling, series=4)
    network = fit_weak(recipe, how, train, watch, tmp_path, device="cpu", quiet=True)
    opened = open_run(tmp_path)
    assert state_digest(opened.network) == state_digest(network)
    assert opened.recipe == recipe
    assert kept_weak_recipe(tmp_path) == how
    assert rule_of(tmp_path) == "max"
    assert {"metrics.csv", "plots", "data.json"} <= {path.name for path in tmp_path.iterdir()}
    before = (tmp_path / "result.json").stat().st_mtime_ns
    fit_weak(recipe, how, train, watch, tmp_path, device="cpu", quiet=True)
    assert before == (tmp_path / "result.json").stat().st_mtime_ns


def test_a_series_in_parts_has_the_gradient_of_the_whole() -> None:
    """What is computed again on the way back gives the same gradient, and statistics count once."""
    images = torch.rand(10, SPEC.channels, 32, 32, generator=torch.Generator().manual_seed(1))
    gradients, statistics = [], []
    for parts in ([images], [images[:4], images[4:8], images[8:]]):
        network = untrained().eval()
        embed_parts(network, parts).square().sum().backward()
        gradients.append(network.early[0].weight.grad)
        network.train()
        found = embed_parts(network, [images[:5], images[5:]])
        once = network.early[1].running_mean.clone()
        found.sum().backward()
        statistics.append((once, network.early[1].running_mean))
        assert network.early[1].momentum == 0.1
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-5)
    for once, afterwards in statistics:
        assert torch.equal(once, afterwards)


@pytest.mark.parametrize("architecture", ["resnet18_local", "resnet18", "resnet18_concat"])
def test_an_untrained_network_says_how_common_each_label_is(architecture: str) -> None:
    """Whatever its head: the mean logit of each label is about the log odds of its prevalence."""
    network = untrained(architecture=architecture).eval()
    truth = np.full((40, 6), np.nan, np.float32)
    truth[:, 0], truth[:, 1] = np.arange(40) % 2, np.arange(40) < 2
    start_at_prevalence(network, truth)
    with torch.no_grad():
        said = network(torch.zeros(1, SPEC.channels, 32, 32))[0]
    untold = said[2:].mean()
    assert abs(float(said[0] - untold)) < 1.5
    assert -4.5 < float(said[1] - untold) < -1.0


def test_parts_are_mixed_and_come_back_in_order(weak: Cache) -> None:
    """Each part holds slices of several series; the order of the series is found again."""
    bags = bags_of(as_slices(weak), QUICK)
    batch = read_bags(bags, whole_members(bags, np.arange(4)))
    small = dataclasses.replace(QUICK, batch=10)
    parts, places = parts_of(batch, small, 32, torch.Generator().manual_seed(3))
    assert [len(part) for part in parts] == [10, 10, 4]
    expected = (batch.hu.float() / 80).clamp(0, 1)
    torch.testing.assert_close(expected, torch.cat(parts)[places])
    origin = places.argsort() // 6
    assert all(len(set(part.tolist())) > 1 for part in origin.split(10))


@pytest.mark.parametrize(("learns", "still"), [("head", 2), ("late", 1)])
def test_what_does_not_learn_does_not_move(
    weak: Cache, tmp_path: Path, learns: str, still: int
) -> None:
    """A frozen body keeps every weight and every statistic; the rest learns."""
    start = untrained(architecture="resnet18_local")
    before = [[state_digest(module) for module in group] for group in start.groups()]
    train, watch = parted(weak)
    how = WeakRecipe(series=4, learns=learns)  # type: ignore[arg-type]
    recipe = dataclasses.replace(QUICK, epochs=1)
    network = fit_weak(recipe, how, train, watch, tmp_path, start=start, device="cpu", quiet=True)
    after = [[state_digest(module) for module in group] for group in network.groups()]
    assert before[:still] == after[:still]
    assert all(old != new for old, new in zip(before[still:], after[still:], strict=True))
    assert open_run(tmp_path).recipe.rate_spread == 100.0


def test_a_run_that_was_stopped_ends_as_one_that_was_not(weak: Cache, tmp_path: Path) -> None:
    """Ctrl-C within an epoch leaves a checkpoint; the same command comes to the same weights."""
    train, watch = parted(weak)
    recipe = dataclasses.replace(QUICK, epochs=2, augment="paper", averaging=0.9)
    attention = WeakRecipe(pooling="attention", series=4)
    whole = fit_weak(recipe, attention, train, watch, tmp_path / "a", device="cpu", quiet=True)

    @dataclasses.dataclass(frozen=True, eq=False)
    class Pressing(type(train)):  # type: ignore[misc]
        """Slices that press Ctrl-C when they are read for the second time."""

        reads: list = dataclasses.field(default_factory=list)

        def stacks(self, chosen):
            self.reads.append(len(chosen))
            if len(self.reads) == 2:
                os.kill(os.getpid(), signal.SIGINT)
            return super().stacks(chosen)

    fields = {one.name: getattr(train, one.name) for one in dataclasses.fields(train)}
    with pytest.raises(KeyboardInterrupt):
        fit_weak(
            recipe, attention, Pressing(**fields), watch, tmp_path / "b", device="cpu", quiet=True
        )
    assert kept_result(tmp_path / "b") is None
    stopped = torch.load(tmp_path / "b" / "checkpoint.pt", weights_only=True)["numbers"][2]
    assert 0 < stopped < 8
    again = fit_weak(recipe, attention, train, watch, tmp_path / "b", device="cpu", quiet=True)
    assert state_digest(whole) == state_digest(again)


def test_the_clock_can_end_a_run(weak: Cache, tmp_path: Path) -> None:
    """With next to no time it makes one step, looks, and keeps what it has."""
    train, watch = parted(weak)
    recipe = dataclasses.replace(QUICK, minutes=1e-6)
    fit_weak(recipe, FOUR, train, watch, tmp_path, device="cpu", quiet=True)
    assert open_run(tmp_path).result["steps"] == 1
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 2


def test_a_folder_of_another_run_is_refused(weak: Cache, tmp_path: Path) -> None:
    """Another pooling, or other labels of the same series, is another run."""
    train, watch = parted(weak)
    recipe = dataclasses.replace(QUICK, epochs=1)
    fit_weak(recipe, FOUR, train, watch, tmp_path, device="cpu", quiet=True)
    with pytest.raises(TrainingError, match="another kind"):
        fit_weak(recipe, WeakRecipe(pooling="max", series=4), train, watch, tmp_path, device="cpu")
    flipped = dataclasses.replace(train, series_labels=1 - train.series_labels)
    with pytest.raises(TrainingError, match="other slices"):
        fit_weak(recipe, FOUR, flipped, watch, tmp_path, device="cpu")


def test_series_are_drawn_as_they_come_or_evenly(weak: Cache) -> None:
    """Balanced epochs take all series with blood and as many without, drawn anew."""
    slices = as_slices(weak)
    truth = slices.series_labels.copy()
    rare = np.isin(slices.table["patient"], ["p1", "p3", "p5", "p7"])
    truth[~rare] = 0
    bags = bags_of(dataclasses.replace(slices, series_labels=truth), QUICK)
    even = plan_bags(bags, dataclasses.replace(QUICK, sampling="balanced"), 4)
    assert (even.per_epoch, even.negatives_kept) == (2, 0.2)
    assert (bags.truth[even.epoch(0), 0] == 1).sum() == 4
    assert plan_bags(bags, QUICK, 4).per_epoch == 6


def test_at_first_each_slice_is_a_series(weak: Cache) -> None:
    """Apart, the slices of the series come mixed, each once, with the label of its series."""
    bags = bags_of(as_slices(weak), QUICK)
    steps = single_members(bags, np.arange(3, 7), np.random.default_rng(1), 3)
    assert sorted(int(one[0]) for step in steps for _, one in step) == list(range(18, 42))
    batch = read_bags(bags, steps[0])
    assert batch.lengths == (1,) * 8
    numbers = np.array([int(one[0]) // 6 for _, one in steps[0]])
    assert len(set(numbers)) > 1
    np.testing.assert_array_equal(numbers % 2, batch.truth[:, 0].numpy())


def test_unknown_series_are_left_out(weak: Cache) -> None:
    """A series of which nothing is known teaches nothing."""
    slices = as_slices(weak)
    truth = slices.series_labels.copy()
    truth[slices.table["patient"] == "p2"] = np.nan
    plan = plan_bags(bags_of(dataclasses.replace(slices, series_labels=truth), QUICK), QUICK, 1)
    assert 2 not in plan.epoch(0)
    assert len(plan.epoch(0)) == 23


def test_what_makes_no_sense_is_refused_with_a_sentence(weak: Cache, tmp_path: Path) -> None:
    """One class alone, too few series, a frozen body of chance weights, a misspelt pooling."""
    train, watch = parted(weak)
    bags = bags_of(train, QUICK)
    for value, missing in ((1.0, "without blood"), (0.0, "with blood")):
        whole = dataclasses.replace(bags, truth=np.full_like(bags.truth, value))
        with pytest.raises(TrainingError, match=missing):
            plan_bags(whole, QUICK, 4)
    with pytest.raises(TrainingError, match="do not fill a step"):
        plan_bags(bags, QUICK, 17)
    with pytest.raises(TrainingError, match="learns as a whole"):
        fit_weak(QUICK, WeakRecipe(learns="head"), train, watch, tmp_path, device="cpu")
    with pytest.raises(TrainingError, match="A patient is among"):
        fit_weak(QUICK, FOUR, train, train, tmp_path, device="cpu")
    with pytest.raises(TrainingError, match="max, log_sum_exp, attention"):
        check_weak(WeakRecipe(pooling="mean"), QUICK)  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match="place_weight"):
        check_weak(FOUR, dataclasses.replace(QUICK, place_weight=1.0))
    assert read_weak_recipe(FOUR.to_json()) == FOUR
