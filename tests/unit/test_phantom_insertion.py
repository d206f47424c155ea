"""Bleeds inserted into scans without haemorrhage: only the bleed and what it does are new."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from ichnode.domain.findings import LABELS, Label
from ichnode.phantom import SimulatedHead, simulate_head
from ichnode.phantom.randomised.bleeds import KINDS
from ichnode.phantom.randomised.insertion import find_cavity, insert_bleeds
from ichnode.phantom.randomised.series import RandomisedSeries


@functools.cache
def scan() -> SimulatedHead:
    """A scan without haemorrhage."""
    return simulate_head(900_050, bleeds=(), size_px=128)


@functools.cache
def bled(seed: int, kinds: tuple[Label, ...]) -> RandomisedSeries:
    return insert_bleeds(scan().hu, scan().spacing_mm, seed, kinds=kinds)


def test_without_a_bleed_the_scan_stays_as_it_is() -> None:
    """Not a voxel changes, and nothing is labelled."""
    same = bled(1, ())
    assert np.array_equal(same.hu, scan().hu)
    assert not same.labels.any()
    assert not same.kinds.any()


@pytest.mark.parametrize("kind", KINDS)
def test_blood_lies_in_the_cavity_and_is_denser(kind: Label) -> None:
    """Seen where it is labelled; bone, scalp and air are those of the scan."""
    cavity = find_cavity(scan().hu, scan().spacing_mm)
    shown = 0
    for seed in range(6):
        one = bled(seed, (kind,))
        change = one.hu.astype(int) - scan().hu
        assert not change[~cavity].any()
        index = LABELS.index(kind)
        assert set(np.unique(one.kinds)) <= {0, index}
        plain = one.labels[:, index] == 1
        shown += int(plain.any())
        if kind == "intraparenchymal" and one.volumes_ml[kind] > 5:
            assert plain.any()  # what is as plain as that is labelled
        where = (one.kinds > 0) & plain[:, None, None]
        if where.sum() > 200:
            assert np.median(change[where]) > 8
    assert shown >= 3


def test_noise_goes_on_through_the_bleed() -> None:
    """A clot is as grainy as the brain was there: a smooth one would give itself away."""
    for seed in range(30):
        one = bled(seed, ("intraparenchymal",))
        inside = one.kinds > 0
        if one.volumes_ml["intraparenchymal"] > 15:
            break

    def grain(hu: np.ndarray, where: np.ndarray) -> float:
        steps = np.diff(hu.astype(float), axis=2)
        pairs = where[:, :, 1:] & where[:, :, :-1]
        return float(np.median(np.abs(steps[pairs])))

    assert inside.sum() > 500
    assert grain(one.hu, inside) > 0.7 * grain(scan().hu, inside)


def test_the_cavity_is_what_the_skull_encloses() -> None:
    """Of the size of a brain, without bone; a head without brain is refused."""
    cavity = find_cavity(scan().hu, scan().spacing_mm)
    volume_ml = cavity.sum() * np.prod(scan().spacing_mm) / 1000
    assert 900 < volume_ml < 1900
    assert np.percentile(scan().hu[cavity], 99) < 150
    with pytest.raises(ValueError, match=r"no whole brain|no brain"):
        find_cavity(np.full((8, 64, 64), -1000, np.int16), (5.0, 2.0, 2.0))
    with pytest.raises(ValueError, match="not square"):
        insert_bleeds(scan().hu, (5.0, 2.0, 1.0), 1)
