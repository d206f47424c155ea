"""Mixed precision, averaged weights, and normalisation that is measured again."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from tests.learning_kit import TINY, square_slices
from train.errors import TrainingError
from train.learn.averaging import average
from train.learn.batches import Feeder, plan
from train.learn.checkpoint import Learning, new_learning
from train.learn.distributed import Team
from train.learn.lesson import Teacher
from train.learn.precision import arithmetic, choose_device
from train.learn.recipe import Recipe
from train.learn.schedule import pace
from train.learn.sizes import has_statistics, reestimate

ALONE = Team(0, 1, torch.device("cpu"))


def test_bfloat16_needs_no_scaler_and_float16_does() -> None:
    """The small gradients of float16 would vanish."""
    found = {name: arithmetic(name, ALONE.device) for name in ("float32", "bfloat16", "float16")}
    assert {name: one.scaler.is_enabled() for name, one in found.items()} == {
        "float32": False,
        "bfloat16": False,
        "float16": True,
    }
    assert {name: one.name for name, one in found.items()} == {n: n for n in found}


def test_auto_never_takes_float16_on_a_cpu() -> None:
    """It takes what the hardware multiplies quickly."""
    assert arithmetic("auto", ALONE.device).dtype in (torch.float32, torch.bfloat16)


def test_a_device_that_is_not_there_is_said() -> None:
    """One sentence, not a traceback; auto takes what there is."""
    assert choose_device("auto").type in ("cpu", "cuda")
    with pytest.raises(TrainingError, match="auto, cpu or cuda"):
        choose_device("tpu")


def lesson(recipe: Recipe) -> tuple[Learning, Teacher, Feeder]:
    slices = square_slices(range(6))
    learning = new_learning(recipe, ALONE, None)
    feeder = Feeder(slices, plan(slices, recipe), recipe, ALONE.device)
    return learning, Teacher(learning, recipe, ALONE), feeder


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_step_learns_in_every_precision(precision: str) -> None:
    """The loss is float32 and finite, and weights stay float32."""
    learning, teacher, feeder = lesson(dataclasses.replace(TINY, precision=precision))
    batch = next(feeder.batches(0, 1))
    losses = [teacher.teach(batch, pace(TINY, 0.25)) for _ in range(4)]
    assert losses[0].dtype == torch.float32
    assert float(losses[-1]) < float(losses[0])
    assert {p.dtype for p in learning.network.parameters()} == {torch.float32}
    assert learning.step == 4


def test_an_overflow_is_tried_again_and_counts_no_step() -> None:
    """The scale is halved until the gradients fit; the schedule does not notice."""
    learning, teacher, feeder = lesson(dataclasses.replace(TINY, precision="float16"))
    learning.arithmetic.scaler.load_state_dict(
        learning.arithmetic.scaler.state_dict() | {"scale": 2.0**22}
    )
    loss = teacher.teach(next(feeder.batches(0, 1)), pace(TINY, 0.25))
    assert learning.step == 1
    assert learning.arithmetic.scaler.get_scale() < 2.0**22
    assert bool(loss.isfinite())
    assert all(bool(p.isfinite().all()) for p in learning.network.parameters())


def test_averaging_forgets_the_start() -> None:
    """The first steps follow the learner closely, later ones slowly."""
    kept, learner = nn.Linear(1, 1), nn.Linear(1, 1)
    nn.init.constant_(kept.weight, 0.0)
    nn.init.constant_(learner.weight, 1.0)
    average(kept, learner, 0.99, step=0)
    assert kept.weight.item() == pytest.approx(0.9)
    average(kept, learner, 0.99, step=100_000)
    assert kept.weight.item() == pytest.approx(0.901)


def test_averaging_takes_statistics_and_counters_along() -> None:
    """Averaged weights with the statistics of others would be another network."""
    kept, learner = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    learner.running_mean.fill_(10.0)
    learner.num_batches_tracked.fill_(7)
    average(kept, learner, 0.5, step=100_000)
    assert kept.running_mean.tolist() == [5.0, 5.0]
    assert int(kept.num_batches_tracked) == 7


def test_normalisation_is_the_plain_mean_over_the_batches() -> None:
    """Whatever was there before; weights, modes and momentum are as they were."""
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5))
    network[0].running_mean.fill_(99.0)
    batches = [torch.randn(8, 3, 4, 4) + shift for shift in (0.0, 1.0, 5.0)]
    assert reestimate(network, batches) == 3
    expected = torch.stack([b.mean(dim=(0, 2, 3)) for b in batches]).mean(dim=0)
    torch.testing.assert_close(network[0].running_mean, expected)
    assert network[0].momentum == 0.1
    assert not any(module.training for module in network.modules())


def test_without_batches_nothing_changes() -> None:
    """And a network without statistics has none to measure."""
    network = nn.Sequential(nn.BatchNorm2d(3))
    network[0].running_mean.fill_(99.0)
    assert reestimate(network, []) == 0
    assert network[0].running_mean.tolist() == [99.0] * 3
    assert has_statistics(network)
    assert not has_statistics(nn.Sequential(nn.Conv2d(1, 1, 1), nn.LayerNorm(3)))
