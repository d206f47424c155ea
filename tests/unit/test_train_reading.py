"""Reading slices for training: what is of no use says why, what is odd is used."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ichnode.domain.findings import LABELS
from tests.imaging_scans import (
    PIXEL_MM,
    SIDE,
    ct_image,
    enhanced_ct,
    head,
    positions,
    save,
    write_series,
)
from train.data.reading import (
    ReadSlice,
    pseudonym,
    read_files,
    read_slice,
    series_of,
    stack,
)
from train.errors import Unusable

UNKNOWN = np.full(len(LABELS), np.nan, np.float32)


def one(path: Path, tags: dict[str, object] | None = None, z_mm: float = 60.0) -> Path:
    """A file with one slice of a head."""
    ct_image(head([z_mm])[0], z_mm, 1, tags).save_as(path, enforce_file_format=True)
    return path


def few(folder: Path, count: int = 4) -> tuple[ReadSlice, ...]:
    """A few slices, read."""
    places = positions(count)
    return read_files(p for _, p in write_series(folder, head(places), places)).slices


def reason(path: Path) -> tuple[str, str]:
    with pytest.raises(Unusable) as refusal:
        read_slice(path)
    return refusal.value.reason, refusal.value.detail


def test_files_that_are_none_say_so(tmp_path: Path) -> None:
    """Text, an empty file and one that is gone cannot be decoded."""
    (tmp_path / "text.dcm").write_text("ID,Label")
    (tmp_path / "empty.dcm").touch()
    for name in ("text.dcm", "empty.dcm", "gone.dcm"):
        assert reason(tmp_path / name)[0] == "undecodable"


def test_pixel_data_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    """Too few bytes for the image, and a file that ends in the middle of its pixels."""
    image = ct_image(head([60.0])[0], 60.0, 1)
    image.PixelData = image.PixelData[:-200]
    image.save_as(tmp_path / "short.dcm", enforce_file_format=True)
    assert reason(tmp_path / "short.dcm") == (
        "undecodable",
        f"{2 * SIDE**2 - 200} of {2 * SIDE**2} bytes",
    )
    whole = one(tmp_path / "whole.dcm").read_bytes()
    (tmp_path / "torn.dcm").write_bytes(whole[:-1000])
    assert reason(tmp_path / "torn.dcm")[0] == "undecodable"


def test_an_image_that_shows_nothing_is_refused(tmp_path: Path) -> None:
    """One value, two values, and hardly any spread."""
    blank = np.full((SIDE, SIDE), -1000, np.int16)
    halves = blank.copy()
    halves[: SIDE // 2] = 500
    faint = blank + np.random.default_rng(0).choice([0, 0, 0, 0, 1, -1], blank.shape)
    for name, hu in (("blank", blank), ("halves", halves), ("faint", faint)):
        ct_image(hu, 0.0, 1).save_as(tmp_path / name, enforce_file_format=True)
        assert reason(tmp_path / name)[0] == "blank image"


def test_values_without_a_rescale_are_no_hounsfield_units(tmp_path: Path) -> None:
    """Neither slope nor intercept is guessed."""
    for tag in ("RescaleSlope", "RescaleIntercept"):
        assert reason(one(tmp_path / tag, {tag: None}))[0] == "not hounsfield"


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_identifiers_may_be_anything(tmp_path: Path) -> None:
    """Public sets write their own names into UIDs; a node would not take them."""
    tags = {"SeriesInstanceUID": "ID_0ab5820b2a", "StudyInstanceUID": "ID_30ea2b02d4"}
    found = read_slice(one(tmp_path / "a.dcm", {**tags, "PatientID": "ID_f15c0eee"}))
    assert found.series_uid == "ID_0ab5820b2a"
    assert found.study_uid == "ID_30ea2b02d4"
    assert found.patient_id == "ID_f15c0eee"
    assert found.instance_number == 1


def test_the_facts_of_a_slice(tmp_path: Path) -> None:
    """Scanner, kernel, thickness, age and pixel form; no name and no date."""
    tags = {"WindowCenter": ["40", "300"], "WindowWidth": ["80", "1500"], "PatientSex": "F"}
    facts = read_slice(one(tmp_path / "a.dcm", tags)).facts
    assert facts.manufacturer == "SIEMENS"
    assert facts.kernel == "H37s"
    assert (facts.thickness_mm, facts.age_years, facts.sex) == (5.0, 64.0, "F")
    assert (facts.bits_stored, facts.pixel_representation) == (16, 0)
    assert (facts.intercept_hu, facts.slope) == (-1024, 1)
    assert (facts.window_center, facts.window_width) == (40, 80)
    assert (facts.rows, facts.columns) == (SIDE, SIDE)
    text = " ".join(str(value) for value in dataclasses.astuple(facts))
    assert "Simulated" not in text
    assert "SIM-1" not in text


def test_a_single_slice_is_a_stack(tmp_path: Path) -> None:
    """There is no least number; the thickness stands for the step."""
    alone = stack([read_slice(one(tmp_path / "a.dcm"))])
    assert alone.hu.shape == (1, SIDE, SIDE)
    assert alone.spacing_mm == (5.0, PIXEL_MM, PIXEL_MM)


@settings(max_examples=15, deadline=None)
@given(order=st.permutations(range(6)))
def test_the_order_of_files_does_not_matter(
    order: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """However they come, slices are ordered from the feet to the head by where they lie."""
    slices = few(tmp_path_factory.mktemp("series"), 6)
    found = stack([slices[index] for index in order])
    assert found.positions_mm.tolist() == positions(6)
    assert [order[index] for index in found.order] == [0, 1, 2, 3, 4, 5]
    assert (found.hu == np.stack([one.hu for one in slices])).all()
    assert found.warnings == ()


def test_the_display_is_canonical(tmp_path: Path) -> None:
    """A prone or turned patient is turned; spacing that is not square turns along."""
    hu = head([60.0])[0][:, :100]
    turned = np.ascontiguousarray(hu.T[::-1])
    image = ct_image(turned, 60.0, 1)
    image.ImageOrientationPatient = [
        0,
        1,
        0,
        -1,
        0,
        0,
    ]  # rows run to the back, columns to the right
    image.PixelSpacing = [1.5, 2.5]
    image.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    found = stack([read_slice(tmp_path / "a.dcm")])
    assert (found.hu[0] == hu).all()
    assert found.spacing_mm[1:] == (2.5, 1.5)


def test_any_size_is_read(tmp_path: Path) -> None:
    """Rows need not be columns."""
    hu = head([60.0])[0][10:, 20:]
    ct_image(hu, 60.0, 1).save_as(tmp_path / "a.dcm", enforce_file_format=True)
    assert (stack([read_slice(tmp_path / "a.dcm")]).hu[0] == hu).all()


def test_repeated_places_are_told_and_one_is_kept(tmp_path: Path) -> None:
    """A repeat that cannot be told apart keeps the later slice at each place, and says so."""
    places = [0.0, 5.0, 5.0, 10.0]
    pairs = write_series(tmp_path, head([0.0, 5.0, 6.0, 10.0]), places)
    slices = read_files(path for _, path in pairs).slices
    found = stack(slices)
    assert found.order == (0, 2, 3)
    assert found.positions_mm.tolist() == [0.0, 5.0, 10.0]
    assert found.warnings == ("1 slices left out that do not fit the others",)


def test_of_a_mixture_the_most_is_used(tmp_path: Path) -> None:
    """Slices of another field of view beyond the rest make a node refuse, and are left out here."""
    places = positions(6)
    write_series(tmp_path / "main", head(places), places)
    write_series(tmp_path / "other", head([80.0, 90.0]), [80.0, 90.0], {"PixelSpacing": [1, 1]}, 20)
    slices = read_files(tmp_path.rglob("*.dcm")).slices
    found = stack(slices)
    assert found.positions_mm.tolist() == places
    assert [slices[i].spacing_mm for i in found.order] == [(PIXEL_MM, PIXEL_MM)] * 6
    assert found.warnings == ("2 slices left out that do not fit the others",)


def test_what_cannot_be_stacked_says_why(tmp_path: Path) -> None:
    """Coronal images, images without a position, a perfusion scan, and nothing at all."""
    coronal = one(tmp_path / "coronal", {"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]})
    nowhere = one(tmp_path / "nowhere", {"ImagePositionPatient": None})
    again = [0.0, 5.0, 10.0] * 4
    write_series(tmp_path / "again", head(again), again, {"AcquisitionNumber": 1})
    for paths, why in (
        ([coronal], "not axial"),
        ([nowhere], "no geometry"),
        ((tmp_path / "again").iterdir(), "perfusion"),
        ([], "no usable slice"),
    ):
        with pytest.raises(Unusable) as refusal:
            stack(read_files(paths).slices)
        assert refusal.value.reason == why


def test_frames_of_one_file_are_slices(tmp_path: Path) -> None:
    """An Enhanced CT object is read frame by frame, each with its own rescale."""
    places = positions(5)
    hu = head(places)
    save(enhanced_ct(hu, places, [-1024, -1000, -1024, 0, -1024]), tmp_path / "all.dcm")
    with pytest.raises(Unusable, match="5 frames"):
        read_slice(tmp_path / "all.dcm")
    found = stack(read_files([tmp_path / "all.dcm"]).slices)
    assert (found.hu[[0, 2, 4]] == hu[[0, 2, 4]]).all()
    assert found.positions_mm.tolist() == places


def test_what_is_left_out_of_a_series_is_listed(tmp_path: Path) -> None:
    """A damaged file, the same image twice, another image under its UID: the rest is used."""
    places = positions(5)
    pairs = write_series(tmp_path, head(places), places)
    whole = pairs[2][1].read_bytes()
    (tmp_path / "0003-copy.dcm").write_bytes(whole)
    pairs[4][1].write_bytes(whole[:2000])
    other = ct_image(head([61.0])[0], places[1], 2)
    other.save_as(tmp_path / "0009.dcm", enforce_file_format=True)
    series = series_of(
        read_files(tmp_path.iterdir()),
        dataset="toy",
        patient="p",
        study="s",
        series="x",
        labels_of=lambda one: UNKNOWN + (one.instance_number or 0),
        series_labels=UNKNOWN,
        label_source="readers",
    )
    assert sorted((one.key.rsplit(".", 1)[-1], one.reason) for one in series.left_out) == [
        ("2", "conflicting pixels"),
        ("3", "duplicate"),
        ("dcm", "undecodable"),
    ]
    assert len(series.hu) == 4
    assert series.facts.manufacturer == "SIEMENS"
    assert [key.rsplit(".", 1)[1] for key in series.slice_keys] == ["1", "2", "3", "4"]


def test_a_series_of_nothing_but_damage_says_so(tmp_path: Path) -> None:
    """The first reason stands for all of them, with their number."""
    for name in ("a.dcm", "b.dcm"):
        (tmp_path / name).write_text("nothing")
    with pytest.raises(Unusable, match=r"undecodable \(all of 2 files\)"):
        series_of(
            read_files(tmp_path.iterdir()),
            dataset="toy",
            patient="p",
            study="s",
            series="x",
            labels_of=lambda _: UNKNOWN,
            series_labels=UNKNOWN,
            label_source="readers",
        )


def test_pseudonyms_need_their_key() -> None:
    """The same person has one name under one key, another under another."""
    assert pseudonym("a", "12", key=b"k") == pseudonym("a", "12", key=b"k")
    assert pseudonym("a", "12", key=b"k") != pseudonym("a", "12", key=b"l")
    assert pseudonym("a", "12") != pseudonym("a1", "2")
    assert len(pseudonym("x")) == 16
