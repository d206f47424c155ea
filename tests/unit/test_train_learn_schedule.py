"""Rate, momentum and size as functions of the progress."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from train.learn.recipe import Recipe
from train.learn.schedule import cycles, one_cycle, pace, size_px


def test_the_rate_rises_and_falls_once() -> None:
    """A 25th at the start, the peak after a quarter, a hundred-thousandth at the end."""
    assert one_cycle(0.0) == pytest.approx(1 / 25)
    assert one_cycle(0.25) == pytest.approx(1.0)
    assert one_cycle(1.0) == pytest.approx(1e-5)
    rates = [one_cycle(p / 100) for p in range(101)]
    assert rates.index(max(rates)) == 25
    assert rates[25:] == sorted(rates[25:], reverse=True)


def test_it_is_torchs_one_cycle_with_fastais_parameters() -> None:
    """Rate and momentum of every step agree with OneCycleLR, whose own defaults are others."""
    steps, recipe = 41, Recipe(peak_rate=3e-3)
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter], lr=3e-3, betas=(0.95, 0.99))
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=3e-3,
        total_steps=steps,
        pct_start=0.25,
        div_factor=25,
        final_div_factor=4000,
        base_momentum=0.85,
        max_momentum=0.95,
    )
    # torch's peak is at pct_start * total - 1 steps of total - 1; ours at exactly a quarter.
    warm = (0.25 * steps - 1) / (steps - 1)
    recipe = dataclasses.replace(recipe, warm_share=warm)
    for step in range(steps):
        ours = pace(recipe, step / (steps - 1))
        group = optimizer.param_groups[0]
        assert ours.rates[-1] == pytest.approx(group["lr"], rel=1e-9)
        assert ours.momentum == pytest.approx(group["betas"][0], rel=1e-9)
        optimizer.step()
        if step < steps - 1:
            theirs.step()


def test_momentum_is_low_while_the_rate_is_high() -> None:
    """0.95, 0.85 at the peak, 0.95 again."""
    found = [pace(Recipe(), p).momentum for p in (0.0, 0.25, 1.0)]
    assert found == pytest.approx([0.95, 0.85, 0.95])


def test_first_layers_learn_slower_by_even_ratios() -> None:
    """A spread of 100 over three groups is 1, 10, 100."""
    rates = pace(Recipe(peak_rate=1e-3, rate_spread=100.0), 0.25).rates
    assert rates == pytest.approx((1e-5, 1e-4, 1e-3))


def test_a_frozen_part_comes_first_and_is_as_fastai_has_it() -> None:
    """The head alone at the peak, then all at half of it, from a fifth of that."""
    recipe = Recipe(frozen_epochs=1, epochs=3, peak_rate=1e-3, rate_spread=100.0)
    frozen, whole = cycles(recipe)
    assert (frozen.start, frozen.end, whole.end) == (0.0, 0.25, 1.0)
    assert pace(recipe, 0.0).frozen
    assert pace(recipe, 0.99 * 0.25).rates == pytest.approx((1e-3, 1e-3, 1e-3))
    assert not pace(recipe, 0.25).frozen
    assert pace(recipe, 0.25).rates[-1] == pytest.approx(1e-4)
    assert pace(recipe, 0.25 + 0.3 * 0.75).rates == pytest.approx((5e-6, 5e-5, 5e-4))


def test_progress_beyond_the_ends_is_the_end() -> None:
    """A clock may run a little past it."""
    assert pace(Recipe(), 1.2) == pace(Recipe(), 1.0)
    assert pace(Recipe(), -0.1) == pace(Recipe(), 0.0)


def test_images_grow_at_their_shares_of_the_run() -> None:
    """64 px for three tenths, 128 for three tenths, then the recipe's size."""
    recipe = Recipe(size_px=256, first_sizes=((64, 0.3), (128, 0.3)))
    found = [size_px(recipe, p) for p in (0.0, 0.29, 0.31, 0.59, 0.61, 1.0)]
    assert found == [64, 64, 128, 128, 256, 256]
