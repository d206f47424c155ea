"""The learning-rate finder on curves whose answer is known, and on a network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ichnode.nets.architectures import build
from tests.learning_kit import TINY, square_slices
from train.errors import TrainingError
from train.learn.finder import STEPS, Sweep, draw_sweep, find_rate, suggest, sweep


def curve(low_at: float, breaks_at: float) -> Sweep:
    """A loss that falls until one rate and explodes at another."""
    rates = 1e-7 * (10 / 1e-7) ** (np.arange(STEPS) / STEPS)
    falling = 1 / (1 + (rates / (low_at / 10)) ** 0.8)
    losses = 0.3 + falling + np.where(rates > breaks_at, (rates / breaks_at) ** 2 - 1, 0)
    return Sweep(rates, losses)


def test_rates_grow_by_ratio_from_first_to_last() -> None:
    """A hundred steps from 1e-7 to 10."""
    asked: list[float] = []
    sweep(lambda rate: asked.append(rate) or 1.0)
    assert len(asked) == STEPS
    assert asked[0] == pytest.approx(1e-7)
    assert np.diff(np.log(asked)) == pytest.approx(np.log(1e8) / 100)


def test_the_loss_is_smoothed_without_a_bias_towards_zero() -> None:
    """A constant loss stays what it is; a jump counts 2 %, corrected for the number of steps."""
    assert sweep(lambda _rate: 3.0).losses == pytest.approx(3.0)
    losses = iter([1.0] * 50 + [2.0] * 50)
    seen = sweep(lambda _rate: next(losses)).losses
    assert seen[50] == pytest.approx(1 + 0.02 / (1 - 0.98**51))


def test_it_stops_when_the_loss_is_four_times_its_best() -> None:
    """Or is no number at all."""
    losses = iter([1.0] * 20 + [500.0] * 80)
    assert len(sweep(lambda _rate: next(losses)).rates) == 21
    numbers = iter([1.0] * 20 + [float("nan")] * 80)
    assert len(sweep(lambda _rate: next(numbers)).rates) == 21


def test_suggestions_lie_where_they_should() -> None:
    """All on the way down, before it breaks."""
    found = suggest(curve(low_at=1e-2, breaks_at=3e-2))
    assert 1e-5 < found.valley < 1e-2
    assert 1e-4 < found.steep < 1e-2
    assert found.minimum == pytest.approx(3e-3, rel=0.3)


def test_the_valley_is_in_the_middle_of_the_longest_descent() -> None:
    """Counted by hand: 15 falling points after ten flat ones; a third and a sixth of the way on."""
    losses = np.concatenate([np.full(20, 1.0), np.linspace(0.95, 0.25, 15), np.full(10, 0.9)])
    rates = np.geomspace(1e-6, 1.0, len(losses))
    found = suggest(Sweep(rates, losses))
    # Usable points begin at 10 and the descent ends at 34 with a length of 16 (one flat point).
    first, length = 24 - 16, 16
    index = first + int(length / 3) + int(length / 3 / 2)
    assert found.valley == pytest.approx(rates[10 + index])


def test_a_sweep_that_breaks_off_at_once_is_refused() -> None:
    """There is nothing to see in five points."""
    with pytest.raises(TrainingError, match="broke off"):
        suggest(Sweep(np.geomspace(1e-7, 1e-6, 12), np.full(12, np.nan)))


def test_the_valley_teaches_and_lies_below_divergence() -> None:
    """Least squares by small batches: at that rate the loss falls; at a hundred times, it explodes.

    The greatest curvature is 8, so that plain descent diverges at a rate of a quarter.
    """
    rng = np.random.default_rng(1)
    inputs = rng.normal(size=(2000, 20)) * np.linspace(0.5, 2, 20)
    outputs = inputs @ rng.normal(size=20)
    weights = np.zeros(20)

    def teach(rate: float) -> float:
        chosen = rng.choice(2000, 64, replace=False)
        off = inputs[chosen] @ weights - outputs[chosen]
        weights[:] -= rate * 2 * (inputs[chosen].T @ off) / 64
        return float(np.mean(off**2))

    valley = suggest(sweep(teach)).valley
    assert 0.25 / 100 < valley < 0.25
    weights[:] = 0
    losses = [teach(valley) for _ in range(200)]
    assert losses[-1] < 0.1 * losses[0]


def test_the_network_and_chance_are_as_before(tmp_path: Path) -> None:
    """Weights, buffers and torch's generator, bit by bit; the same seed gives the same sweep."""
    slices, start = square_slices(range(6)), build("resnet18", 6, 6)
    before = {name: value.clone() for name, value in start.state_dict().items()}
    torch.manual_seed(5)
    chance = torch.get_rng_state()
    seen = find_rate(TINY, slices, start=start, device="cpu", steps=20, quiet=True)
    assert torch.equal(torch.get_rng_state(), chance)
    assert all(torch.equal(value, before[name]) for name, value in start.state_dict().items())
    assert 10 < len(seen.rates) <= 20
    draw_sweep(tmp_path / "lr.png", seen, suggest(seen))
    assert Image.open(tmp_path / "lr.png").size[0] > 400
