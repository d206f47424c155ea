"""The parts of the training: schedule, metrics, disturbances, calibration, thresholds, resuming."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from ichnode.domain.findings import LABELS
from ichnode.phantom.studies import DEMONSTRATION_SEEDS, HOLDOUT_SEEDS
from train.augment import disturb, glow, harden, move, recalibrate, thicken
from train.export import Judged, calibrate, choose
from train.fit import average, fit, kept_recipe
from train.metrics import at_threshold, auroc, auroc_interval, wilson
from train.recipe import Recipe
from train.schedule import one_cycle
from train.simulated import Head, as_slices, make_heads, splits


def toy_head(seed: int, blood: bool) -> Head:
    """Twelve slices of noise, with a bright square in four of them."""
    rng = np.random.default_rng(seed)
    hu = rng.normal(35, 5, (12, 64, 64)).astype(np.int16)
    kinds = np.zeros(hu.shape, np.uint8)
    labels = np.zeros((12, len(LABELS)), np.bool_)
    if blood:
        hu[4:8, 20:36, 20:36] += 35
        kinds[4:8, 20:36, 20:36] = 2
        labels[4:8, [0, 2]] = True
    return Head(seed, hu, kinds, labels, tuple(5.0 * i for i in range(12)))


TOY = Recipe(heads=6, tune_heads=2, size_px=64, epochs=1, batch=8, peak_rate=1e-3)


def test_the_learning_rate_rises_and_falls_once() -> None:
    """A 25th at the start, the peak after a quarter, next to nothing at the end."""
    assert one_cycle(0.0) == pytest.approx(1 / 25)
    assert one_cycle(0.25) == pytest.approx(1.0)
    assert one_cycle(1.0) == pytest.approx(1 / 2000)
    rates = [one_cycle(p / 100) for p in range(101)]
    assert rates.index(max(rates)) == 25
    assert rates[25:] == sorted(rates[25:], reverse=True)


def test_auroc_is_the_chance_to_rank_a_pair_right() -> None:
    """Ties count half; a missing class gives no number; scikit-learn agrees."""
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    truth, scores = rng.random(200) < 0.3, np.round(rng.random(200), 1)
    assert auroc(scores, truth) == pytest.approx(metrics.roc_auc_score(truth, scores))
    assert math.isnan(auroc(scores, np.zeros(200, bool)))


def test_the_interval_draws_heads_and_not_slices() -> None:
    """Ten copies of each slice in a head make the interval no narrower."""
    rng = np.random.default_rng(1)
    heads = [(rng.random(8), rng.random(8) < 0.5) for _ in range(20)]
    copied = [(np.repeat(s, 10), np.repeat(t, 10)) for s, t in heads]
    assert auroc_interval(heads) == pytest.approx(auroc_interval(copied))


def test_wilson_is_wide_for_few() -> None:
    """Ten of ten leaves room down to 72 %, a thousand of a thousand does not."""
    assert wilson(10, 10)[0] == pytest.approx(0.722, abs=0.001)
    assert wilson(1000, 1000)[0] > 0.995
    assert wilson(0, 0) == (0.0, 1.0)


def test_counts_stand_beside_every_rate() -> None:
    """Sensitivity and specificity name what they are of."""
    found = at_threshold(np.array([0.9, 0.2, 0.1]), np.array([True, True, False]), 0.5)
    assert found["sensitivity_of"] == [1, 2]
    assert found["specificity_of"] == [1, 1]


def test_splits_never_share_a_seed() -> None:
    """Training, tuning, holdout and demonstration are apart."""
    seeds = splits(300, 80, 80)
    sets = [set(seeds.train), set(seeds.tune), set(seeds.holdout), set(DEMONSTRATION_SEEDS)]
    assert len(set.union(*sets)) == sum(map(len, sets))
    assert set(seeds.holdout) <= set(HOLDOUT_SEEDS)
    with pytest.raises(ValueError, match="not so many"):
        splits(99_990, 80, 80)


def test_blood_and_its_mask_move_together() -> None:
    """After turning, scaling and mirroring, the bright pixels are the marked ones."""
    head = toy_head(1, blood=True)
    hu = torch.from_numpy(head.hu[4:7]).repeat(16, 1, 1, 1)
    kinds = torch.from_numpy(head.kinds[5]).repeat(16, 1, 1)
    moved, places = move(hu.float(), kinds, torch.Generator().manual_seed(0))
    inner = torch.nn.functional.avg_pool2d((places > 0).float(), 5, 1, 2) == 1
    assert places.unique().tolist() == [0, 2]
    assert len({int(p.sum()) for p in places}) > 1
    assert float(moved[:, 1][inner].mean()) == pytest.approx(70, abs=2)


def test_disturbing_follows_its_generator() -> None:
    """The same generator gives the same images, the next draw others."""
    head = toy_head(2, blood=True)
    hu, kinds = torch.from_numpy(head.hu[3:6])[None], torch.from_numpy(head.kinds[4])[None]
    chance = torch.Generator().manual_seed(5)
    first, again = disturb(hu, kinds, chance), disturb(hu, kinds, chance)
    same = disturb(hu, kinds, torch.Generator().manual_seed(5))
    assert torch.equal(first[0], same[0])
    assert not torch.equal(first[0], again[0])


def test_disturbing_keeps_to_hounsfield_units() -> None:
    """Gain, offset, shading and noise stay within what scanners differ by."""
    flat = torch.full((64, 3, 32, 32), 40.0)
    found = recalibrate(flat, torch.Generator().manual_seed(1))
    means = found.mean(dim=(1, 2, 3))
    assert float((means - 40).abs().max()) < 16
    assert float(found.std(dim=(1, 2, 3)).max()) < 8


def test_averaging_forgets_the_start() -> None:
    """The first steps follow the learner closely, later ones slowly."""
    kept, learner = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    torch.nn.init.constant_(kept.weight, 0.0)
    torch.nn.init.constant_(learner.weight, 1.0)
    average(kept, learner, 0.99, step=0)
    assert kept.weight.item() == pytest.approx(0.9)
    average(kept, learner, 0.99, step=100_000)
    assert kept.weight.item() == pytest.approx(0.901)


def judged(gap: float) -> Judged:
    """Ten heads with blood and ten without, whose logits lie `gap` apart."""
    slices, truths = [], []
    rng = np.random.default_rng(3)
    for index in range(20):
        blood = index % 2 == 0
        truth = np.zeros((6, len(LABELS)), np.bool_)
        truth[2:4, [0, 3]] = blood
        logits = rng.normal(-3, 0.3, truth.shape)
        logits[truth] += gap
        slices.append(logits)
        truths.append(truth)
    return Judged(slices, truths)


def test_thresholds_lie_in_the_gap() -> None:
    """Where blood and none are apart, the urgent cut is in the middle and review below it."""
    data = judged(gap=6.0)
    calibration = calibrate(data)
    cuts = choose(data, calibration)
    scores = data.series[:, 0] / calibration.series_temperature[0] + calibration.series_bias[0]
    probabilities = 1 / (1 + np.exp(-scores))
    blood = data.series_truth[:, 0]
    assert probabilities[~blood].max() < cuts.review < cuts.urgent[0] < probabilities[blood].min()


def test_a_label_without_examples_is_never_urgent() -> None:
    """What no tuning head shows has a threshold above everything that was seen."""
    data = judged(gap=6.0)
    cuts = choose(data, calibrate(data))
    assert cuts.urgent[1] == pytest.approx(0.99, abs=0.001)
    assert cuts.urgent[3] >= 0.5


def test_calibration_brings_overconfidence_down() -> None:
    """Logits that are ten times too bold get a temperature above one."""
    data = judged(gap=3.0)
    rng = np.random.default_rng(4)
    noisy = [10 * (one + 1.5 + rng.normal(0, 2.0, one.shape)) for one in data.slices]
    assert calibrate(Judged(noisy, data.truths)).slice_temperature[0] > 1.5


def test_a_run_is_repeatable_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """The same recipe gives the same weights; more epochs go on; another recipe is refused."""
    torch.set_num_threads(1)
    heads = [toy_head(seed, blood=seed % 2 == 0) for seed in range(6)]
    tune = [toy_head(90, True), toy_head(91, False)]
    once, again = (fit(TOY, heads, tune, tmp_path / name) for name in ("once", "again"))
    for one, other in zip(once.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    assert kept_recipe(tmp_path / "once") == TOY
    longer = dataclasses.replace(TOY, epochs=2)
    further = fit(longer, heads, tune, tmp_path / "once")
    assert kept_recipe(tmp_path / "once") == longer
    assert not torch.equal(further.near.weight, again.near.weight)
    with pytest.raises(ValueError, match="another recipe"):
        fit(dataclasses.replace(TOY, seed=8), heads, tune, tmp_path / "once")


def test_neighbours_never_come_from_another_head() -> None:
    """The first slice of a head has itself below, not the last slice of the head before."""
    slices = as_slices([toy_head(0, False), toy_head(1, True)], TOY.preprocess())
    assert slices.around[11].tolist() == [10, 11, 11]
    assert slices.around[12].tolist() == [12, 12, 13]


def test_a_folder_of_another_preprocessing_is_refused(tmp_path: Path) -> None:
    """Heads of two sizes are not mixed up."""
    make_heads(tmp_path, [], Recipe(size_px=64).preprocess())
    with pytest.raises(ValueError, match="another preprocessing"):
        make_heads(tmp_path, [], Recipe(size_px=96).preprocess())


def test_the_glow_of_bone_stays_beside_bone() -> None:
    """Brain next to bone is brightened by some HU, brain far from it and flat images are not."""
    hu = torch.full((64, 3, 96, 96), 30.0)
    hu[:, :, :, :10] = 1200
    shown = glow(hu, torch.Generator().manual_seed(2)) - hu
    assert 4 < float(shown[:, :, 40, 12].max()) < 30
    assert float(shown[:, :, 40, 60:].abs().max()) < 1
    flat = torch.full((4, 3, 96, 96), -1000.0)
    assert torch.equal(glow(flat, torch.Generator().manual_seed(2)), flat)


def test_thickening_mixes_the_middle_slice_alone() -> None:
    """The neighbours stay as they are; the middle moves towards the mean of the three."""
    hu = torch.stack([torch.full((8, 8), v) for v in (0.0, 90.0, 0.0)])[None].repeat(64, 1, 1, 1)
    found = thicken(hu, torch.Generator().manual_seed(1))
    assert torch.equal(found[:, 0], hu[:, 0])
    assert torch.equal(found[:, 2], hu[:, 2])
    assert 58 < float(found[:, 1].min()) < 89
    assert float(found[:, 1].max()) == 90


def test_hardened_spots_are_bone_somewhere_and_never_in_air() -> None:
    """About half of the samples get a spot, white in one of the slices; air stays air."""
    hu = torch.full((200, 3, 48, 48), 30.0)
    found = harden(hu, torch.Generator().manual_seed(1)).amax(dim=(2, 3)) - 30
    spotted = found.amax(dim=1) > 1
    assert 0.35 < float(spotted.float().mean()) < 0.65
    assert float(found[spotted].amax(dim=1).quantile(0.1)) > 150
    assert float(found[spotted][:, 1].min()) < 60
    air = torch.full((4, 3, 48, 48), -1000.0)
    assert torch.equal(harden(air, torch.Generator().manual_seed(1)), air)
