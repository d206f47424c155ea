"""Wrapped Hounsfield units: put right where the pixels prove it, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from pydicom import Dataset

from tests.imaging_scans import SIDE, ct_image, head, positions, stored_as
from train.data.reading import RepairPolicy, read_files, read_slice
from train.data.repair import evidence, tags_match, unwrapped

MIDDLE_MM = 60.0
WRAPPED = {"intercept": 0, "bits": 12, "signed": False}

Hu = npt.NDArray[np.int16]


def middle_slice() -> Hu:
    return head([MIDDLE_MM])[0]


def outside_circle() -> npt.NDArray[np.bool_]:
    axis = np.arange(SIDE) - (SIDE - 1) / 2
    return np.asarray(np.hypot(axis[:, None], axis[None, :]) > SIDE / 2)


def written(path: Path, hu: npt.NDArray[np.integer], number: int = 1, **form: object) -> Path:
    """A CT file that stores `hu` in the given form; twelve bits keep it modulo 4096."""
    image: Dataset = ct_image(np.asarray(hu, np.int16), MIDDLE_MM + 5 * number, number)
    stored_as(image, hu, **form)
    image.save_as(path, enforce_file_format=True)
    return path


def test_the_closed_form_undoes_the_modulus_for_every_value() -> None:
    """A ramp over all 4096 values comes back exactly, metal included."""
    ramp = np.arange(-1000, 3096).reshape(64, 64)
    assert (unwrapped(ramp % 4096) == ramp).all()


def test_a_wrapped_head_comes_back_exactly(tmp_path: Path) -> None:
    """Also where noise took the air below -1000; and the facts say that it was repaired."""
    hu = middle_slice()
    assert (hu < -1000).any()
    found = read_slice(written(tmp_path / "a.dcm", hu, **WRAPPED))
    assert (found.hu == hu).all()
    assert found.facts.repaired
    assert not found.facts.hu_suspect
    assert found.facts.intercept_hu == 0


def test_the_bright_ring_of_wrapped_padding_is_removed(tmp_path: Path) -> None:
    """A padding of -2000 reads 2096 after the wrap; outside the circle that becomes -1024."""
    hu = middle_slice()
    padded = hu.astype(np.int32)
    padded[outside_circle()] = -2000
    found = read_slice(written(tmp_path / "a.dcm", padded, **WRAPPED))
    assert (found.hu[outside_circle()] == -1024).all()
    assert (found.hu[~outside_circle()] == hu[~outside_circle()]).all()


def test_metal_is_not_taken_for_air(tmp_path: Path) -> None:
    """A clip within the head reads above 3040 and stays metal."""
    hu = middle_slice()
    hu[60:64, 60:64] = 3060
    found = read_slice(written(tmp_path / "a.dcm", hu, **WRAPPED))
    assert found.facts.repaired
    assert (found.hu == hu).all()


@pytest.mark.parametrize(
    "form",
    [
        {"intercept": -1024, "bits": 12, "signed": False},
        {"intercept": 0, "bits": 16, "signed": True},
        {"intercept": -1024, "bits": 16, "signed": False},
    ],
)
def test_what_is_not_wrapped_is_never_touched(tmp_path: Path, form: dict[str, object]) -> None:
    """With any tags of a sound encoding the values are those of the rescale, and no suspicion."""
    hu = middle_slice()
    found = read_slice(written(tmp_path / "a.dcm", hu, **form))
    assert (found.hu == hu).all()
    assert not found.facts.repaired
    assert not found.facts.hu_suspect


def test_tags_alone_prove_nothing(tmp_path: Path) -> None:
    """Twelve bits without a sign whose air was cut off at 0: left as it is, and flagged."""
    cut_off = np.maximum(middle_slice(), 0)
    found = read_slice(written(tmp_path / "a.dcm", cut_off, **WRAPPED))
    assert (found.hu == cut_off).all()
    assert not found.facts.repaired
    assert found.facts.hu_suspect


def test_a_peak_without_a_brain_proves_nothing(tmp_path: Path) -> None:
    """A plate of 3050 HU, and a wrapped water phantom, have no brain inside a skull."""
    plate = np.full((SIDE, SIDE), 40, np.int16)
    plate[:40] = 3050
    plate[60:70, 60:70] = 900
    axis = np.arange(SIDE) - (SIDE - 1) / 2
    water = np.where(np.hypot(axis[:, None], axis[None, :]) < 50, 0, -1000)
    water = water + np.random.default_rng(0).integers(-3, 4, water.shape)
    for name, hu in (("plate.dcm", plate), ("water.dcm", water)):
        found = read_slice(written(tmp_path / name, hu, **WRAPPED))
        assert (found.hu == np.clip(hu % 4096, -1024, None)).all()
        assert found.facts.hu_suspect


def test_the_whole_series_proves_what_its_top_cannot(tmp_path: Path) -> None:
    """The vertex shows no brain: alone it is left as it is, in its series it is put right."""
    places = positions(33)
    hu = head(places)
    files = [
        written(tmp_path / f"{number:02}.dcm", image, number, **WRAPPED)
        for number, image in enumerate(hu)
    ]
    assert read_slice(files[-1]).facts.hu_suspect
    whole = read_files(files)
    assert all(one.facts.repaired for one in whole.slices)
    assert all((one.hu == image).all() for one, image in zip(whole.slices, hu, strict=True))


def test_never_means_never(tmp_path: Path) -> None:
    """Without the policy a wrapped image keeps its stored values and no flag."""
    hu = middle_slice()
    found = read_slice(written(tmp_path / "a.dcm", hu, **WRAPPED), repair=RepairPolicy.NEVER)
    assert (found.hu == hu.astype(np.int32) % 4096).all()
    assert not found.facts.repaired


def test_each_part_of_the_evidence_is_needed() -> None:
    """Air in its peak, air at -1000 after the repair, brain at 15 to 50: without one, no repair."""
    hu = middle_slice().astype(np.int32)
    sound = evidence([hu % 4096], [(2.0, 2.0)])
    assert sound.wrapped
    assert sound.air_share > 0.5
    assert sound.air_hu == pytest.approx(-1000, abs=1)
    assert sound.brain_hu == pytest.approx(34, abs=1)
    dense = hu.copy()
    dense[hu > -500] += 40
    assert not evidence([dense % 4096], [(2.0, 2.0)]).wrapped
    assert not evidence([hu[32:96, 40:88] % 4096], [(2.0, 2.0)]).wrapped
    assert not evidence([hu % 4096], [None]).wrapped


def test_tags_of_a_wrapped_encoding() -> None:
    """Twelve bits, no sign, an intercept that leaves no room for air."""
    assert tags_match(12, 0, 0)
    assert tags_match(12, 0, -1)
    assert not tags_match(12, 0, -1024)
    assert not tags_match(16, 0, 0)
    assert not tags_match(12, 1, 0)
