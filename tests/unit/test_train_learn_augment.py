"""Disturbances stay within what scanners and patients differ by, and move the truth along."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.learning_kit import square_slices
from train.learn.augment import (
    AIR_HU,
    PRESETS,
    Augmentation,
    blur,
    cut_out,
    disturb,
    drop_windows,
    move,
    recalibrate,
    reorder,
)
from train.learn.contact_sheet import draw_contact_sheet
from train.learn.drawing import generator, key
from train.learn.scanner_effects import glow, harden, resharpen, thicken

CPU = torch.device("cpu")


def chance(*parts: int) -> torch.Generator:
    return generator(CPU, *(parts or (0,)))


def square(count: int = 16, size: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """A bright square off the middle, and where it is."""
    hu = torch.full((count, 3, size, size), 35.0)
    kinds = torch.zeros(count, size, size, dtype=torch.uint8)
    hu[:, :, 20:36, 20:36] += 35
    kinds[:, 20:36, 20:36] = 2
    return hu, kinds


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_keeps_shape_type_and_device(name: str) -> None:
    """Whole HU in, float32 HU out, and the same kinds of blood."""
    hu, kinds = square()
    found, places = disturb(hu.to(torch.int16), kinds, chance(), PRESETS[name])
    assert (found.shape, found.dtype, found.device) == (hu.shape, torch.float32, hu.device)
    assert (places.shape, places.dtype) == (kinds.shape, torch.uint8)
    assert places.unique().tolist() == [0, 2]
    assert bool(found.isfinite().all())


def test_none_is_none() -> None:
    """The same numbers come out."""
    hu, kinds = square()
    found, places = disturb(hu, kinds, chance(), PRESETS["none"])
    assert torch.equal(found, hu)
    assert torch.equal(places, kinds)


@pytest.mark.parametrize("name", ["paper", "recipe", "simulated"])
def test_a_seed_and_a_step_decide_everything(name: str) -> None:
    """The same parts give the same images; another step gives others."""
    hu, kinds = square(4)
    first, again, other = (disturb(hu, kinds, chance(7, step), PRESETS[name]) for step in (1, 1, 2))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


@pytest.mark.parametrize("name", ["paper", "recipe", "simulated"])
def test_samples_are_disturbed_each_in_its_own_way(name: str) -> None:
    """Sixteen equal samples become sixteen different ones."""
    found, _ = disturb(*square(16), chance(), PRESETS[name])
    assert len({one.numpy().tobytes() for one in found}) == 16


def test_seeds_of_several_numbers_do_not_collide() -> None:
    """Seed 1 at step 2 is not seed 2 at step 1; all fit into torch's seeds."""
    keys = {key(seed, step) for seed in range(30) for step in range(30)}
    assert len(keys) == 900
    assert all(0 <= one < 2**63 for one in keys)


def test_blood_and_its_place_move_together() -> None:
    """After turning, scaling and mirroring, the bright pixels are the marked ones."""
    hu, kinds = square()
    moved, places = move(hu, kinds, chance(), PRESETS["simulated"])
    inner = torch.nn.functional.avg_pool2d((places > 0).float(), 5, 1, 2) == 1
    outer = torch.nn.functional.max_pool2d((places > 0).float(), 5, 1, 2) == 0
    assert len({int(p.sum()) for p in places}) > 1
    assert float(moved[:, 1][inner].mean()) == pytest.approx(70, abs=2)
    assert float(moved[:, 1][outer].max()) <= 40


def test_what_comes_in_from_outside_is_air() -> None:
    """A corner that turns in is -1024 HU, not 0: 0 is water and looks like tissue."""
    hu, kinds = square()
    moved, _ = move(hu, kinds, chance(), Augmentation(turn_degrees=15.0))
    assert float(moved.min()) == pytest.approx(AIR_HU)
    assert float(moved[:, :, 0, 0].min()) == pytest.approx(AIR_HU)


def test_half_of_the_samples_are_mirrored() -> None:
    """Mirrored ones are exact mirror images, the others untouched."""
    hu, kinds = square(200)
    moved, _ = move(hu, kinds, chance(), Augmentation(mirror=0.5))
    mirrored = (moved - hu.flip(3)).abs().amax(dim=(1, 2, 3)) < 1e-3
    same = (moved - hu).abs().amax(dim=(1, 2, 3)) < 1e-3
    assert bool((mirrored ^ same).all())
    assert 0.4 < float(mirrored.float().mean()) < 0.6


def test_the_paper_turns_by_fifteen_degrees_at_most() -> None:
    """The direction from one bright corner to the other stays within it, and comes close to it."""
    hu = torch.full((300, 1, 65, 65), -1000.0)
    hu[:, :, 31:34, 48:51] = 1000.0
    moved, _ = move(hu, torch.zeros(0), chance(), Augmentation(turn_degrees=15.0))
    weight = (moved[:, 0] + 1000).clamp_min(0)
    axis = torch.arange(65) - 32.0
    down = (weight * axis[:, None]).sum(dim=(1, 2)) / weight.sum(dim=(1, 2))
    across = (weight * axis[None, :]).sum(dim=(1, 2)) / weight.sum(dim=(1, 2))
    degrees = torch.rad2deg(torch.atan2(down, across)).abs()
    assert 14 < float(degrees.max()) <= 15.3


def test_blur_differs_from_sample_to_sample_and_keeps_the_mean() -> None:
    """Some are sharp still; the blurred lose contrast at the edge and no brightness."""
    hu, _ = square(64, size=128)
    found = blur(hu, chance(), PRESETS["paper"])
    change = (found - hu).abs().amax(dim=(1, 2, 3))
    assert 0.3 < float((change > 0.1).float().mean()) < 0.7
    assert len({round(float(c), 3) for c in change}) > 15
    torch.testing.assert_close(found.mean(dim=(1, 2, 3)), hu.mean(dim=(1, 2, 3)), atol=0.05, rtol=0)


def test_recalibration_stays_within_what_scanners_differ_by() -> None:
    """At most twice the standard deviation of gain and offset, and noise of a few HU."""
    flat = torch.full((64, 1, 256, 256), 40.0)
    found = recalibrate(flat, chance(1), PRESETS["recipe"])
    means = found.mean(dim=(1, 2, 3)) - 40
    assert float(means.abs().max()) < 2 * (2.0 + 40 * 0.02) + 1
    assert 3 < float(found.std(dim=(1, 2, 3)).max()) < 8
    assert len({round(float(m), 2) for m in means}) > 30


def test_smaller_images_have_less_noise() -> None:
    """As averaging neighbouring pixels takes it away."""
    how = Augmentation(noise_hu=8.0)
    spreads = [recalibrate(torch.zeros(16, 1, s, s), chance(1), how).std() for s in (256, 64)]
    assert float(spreads[0] / spreads[1]) == pytest.approx(4, rel=0.1)


def test_above_and_below_change_places() -> None:
    """The middle slice never moves, and all its neighbours go together."""
    hu = torch.arange(3.0)[None, :, None, None].expand(200, 3, 4, 4)
    found = reorder(hu, chance(), Augmentation(turned_over=0.25, alone=0.1))[:, :, 0, 0]
    kinds = [tuple(row) for row in found.tolist()]
    assert set(kinds) == {(0, 1, 2), (2, 1, 0), (1, 1, 1)}
    assert 0.15 < kinds.count((2, 1, 0)) / 200 < 0.35


def test_a_stack_of_one_slice_has_nothing_to_reorder() -> None:
    """The paper's input has no neighbours."""
    hu = torch.rand(4, 1, 8, 8)
    assert torch.equal(reorder(hu, chance(), PRESETS["recipe"]), hu)


def test_holes_are_air_in_all_slices_and_small() -> None:
    """About half of the samples have some; none loses more than a twentieth of its area."""
    hu = torch.full((200, 3, 64, 64), 35.0)
    gone = cut_out(hu, chance(), 3) == AIR_HU
    assert torch.equal(gone[:, 0], gone[:, 2])
    area = gone[:, 0].float().mean(dim=(1, 2))
    assert 0.35 < float((area > 0).float().mean()) < 0.6
    assert 0 < float(area.max()) < 0.05


def test_a_lost_window_is_lost_in_every_slice() -> None:
    """Windows vary fastest among the channels."""
    images = torch.ones(400, 9, 2, 2)
    found = drop_windows(images, 3, 0.5, chance())[:, :, 0, 0].reshape(400, 3, 3)
    assert torch.equal(found[:, 0], found[:, 2])
    kept = found[:, 0].sum(dim=1)
    assert set(kept.tolist()) == {2.0, 3.0}
    assert 0.4 < float((kept == 2).float().mean()) < 0.6


def test_the_glow_of_bone_stays_beside_bone() -> None:
    """Brain next to bone is brightened by some HU, brain far from it and flat images are not."""
    hu = torch.full((64, 3, 96, 96), 30.0)
    hu[:, :, :, :10] = 1200
    shown = glow(hu, chance(2)) - hu
    assert 4 < float(shown[:, :, 40, 12].max()) < 30
    assert float(shown[:, :, 40, 60:].abs().max()) < 1
    flat = torch.full((4, 3, 96, 96), -1000.0)
    assert torch.equal(glow(flat, chance(2)), flat)


def test_thickening_mixes_the_middle_slice_alone() -> None:
    """The neighbours stay as they are; the middle moves towards the mean of the three."""
    hu = torch.stack([torch.full((8, 8), v) for v in (0.0, 90.0, 0.0)])[None].repeat(64, 1, 1, 1)
    found = thicken(hu, chance(1))
    assert torch.equal(found[:, 0], hu[:, 0])
    assert torch.equal(found[:, 2], hu[:, 2])
    assert 58 < float(found[:, 1].min()) < 89
    assert float(found[:, 1].max()) == 90


def test_hardened_spots_are_bone_somewhere_and_never_in_air() -> None:
    """About half of the samples get a spot, white in one of the slices; air stays air."""
    hu = torch.full((200, 3, 48, 48), 30.0)
    found = harden(hu, chance(1)).amax(dim=(2, 3)) - 30
    spotted = found.amax(dim=1) > 1
    assert 0.35 < float(spotted.float().mean()) < 0.65
    assert float(found[spotted].amax(dim=1).quantile(0.1)) > 150
    assert float(found[spotted][:, 1].min()) < 60
    air = torch.full((4, 3, 48, 48), -1000.0)
    assert torch.equal(harden(air, chance(1)), air)


def test_sharpening_raises_and_softening_lowers_an_edge() -> None:
    """Both occur, and flat parts stay as they are."""
    hu, _ = square(64)
    found = resharpen(hu, chance(), 1.0)
    peak = found.amax(dim=(1, 2, 3))
    assert float(peak.max()) > 75
    assert float((found[:, 0, 28, 20] - 70).min()) < -5
    torch.testing.assert_close(found[:, :, 5, 5], hu[:, :, 5, 5])


def test_the_contact_sheet_is_a_picture(tmp_path: Path) -> None:
    """A row for each slice; it is not blank."""
    slices = square_slices(range(6))
    for rows, name in ((2, "paper"), (4, "paper")):
        draw_contact_sheet(tmp_path / f"{rows}.png", slices, name, rows=rows)
    few, more = (Image.open(tmp_path / f"{rows}.png").convert("L") for rows in (2, 4))
    assert more.height > 1.5 * few.height
    assert few.width == more.width
    assert few.getextrema()[0] < 50 < 200 < few.getextrema()[1]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("name", PRESETS)
def test_it_runs_on_the_device_of_the_batch(name: str) -> None:
    """On a GPU nothing is moved to the CPU and back."""
    hu, kinds = (t.cuda() for t in square(4))
    found, places = disturb(hu, kinds, generator(hu.device, 1), PRESETS[name])
    assert found.is_cuda
    assert places.is_cuda
