"""Stored values to Hounsfield units: the traps that scanners set, each with what must come out."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom import Dataset

from ichnode.domain.errors import NotAnalysable
from ichnode.domain.reasons import Reason
from ichnode.imaging.decoding import pixel_form
from ichnode.imaging.hounsfield import to_hounsfield
from tests import imaging_scans as scans


def attributes(**tags) -> Dataset:
    return scans.ct_image(np.zeros((4, 4), dtype=np.int16), 0.0, 1, tags)


def stored(*values: int, dtype="<u2") -> np.ndarray:
    """A 4 x 4 image whose first pixels are given; the rest is air (24 stored)."""
    held = np.full(16, 24, dtype=np.int64)
    held[: len(values)] = values
    return (held & (1 << 8 * np.dtype(dtype).itemsize) - 1).astype(dtype).reshape(4, 4)


def hu_of(ds: Dataset, *values: int) -> list[int]:
    return to_hounsfield(ds, stored(*values)).ravel()[: len(values)].tolist()


def refused(ds: Dataset) -> Reason:
    with pytest.raises(NotAnalysable) as caught:
        to_hounsfield(ds, stored())
    return caught.value.reason


def test_slope_and_intercept_are_applied():
    """The ordinary case: stored minus 1024, as int16."""
    out = to_hounsfield(attributes(), stored(1024, 1064))
    assert out.dtype == np.int16
    assert out.shape == (4, 4)
    assert out.ravel()[:2].tolist() == [0, 40]


def test_fractions_are_rounded_to_the_nearest():
    """A slope of a half gives no systematic shift."""
    assert hu_of(attributes(RescaleSlope="0.5", RescaleIntercept="0"), 81, 83, 3) == [40, 42, 2]


def test_monochrome1_does_not_invert_hounsfield_units():
    """It turns the display round, not the numbers."""
    assert hu_of(attributes(PhotometricInterpretation="MONOCHROME1"), 1064) == [40]


@pytest.mark.parametrize(
    "tags",
    [
        {"RescaleIntercept": None},
        {"RescaleSlope": None},
        {"RescaleIntercept": ""},
        {"RescaleSlope": "0"},
        {"RescaleSlope": "-1"},
        {"RescaleSlope": "10.5"},
        {"RescaleType": "Z_EFF"},
        {"RescaleType": "HU_MOD"},
        {"ModalityLUTSequence": [Dataset()]},
        {"SamplesPerPixel": 3},
        {"PhotometricInterpretation": "PALETTE COLOR"},
    ],
)
def test_what_may_not_be_hounsfield_units_is_refused(tags):
    """Nothing is guessed: a wrong offset cannot be told from blood."""
    assert refused(attributes(**tags)) is Reason.NOT_HOUNSFIELD


@pytest.mark.parametrize("rescale_type", ["HU", "", "US"])
def test_a_rescale_type_that_says_nothing_else_is_accepted(rescale_type):
    """HU by name, by default, or left unspecified by a compressor."""
    assert hu_of(attributes(RescaleType=rescale_type), 1064) == [40]


def test_signed_values_are_sign_extended_from_their_own_width():
    """12 stored bits in 16: the sign is bit 11, whatever stands above it."""
    ds = attributes(BitsStored=12, HighBit=11, PixelRepresentation=1, RescaleIntercept="0")
    assert hu_of(ds, 0xFD8 | 0x0000, 0xFD8 | 0xF000, 0x028 | 0xA000) == [-40, -40, 40]


def test_overlays_in_the_unused_high_bits_are_masked():
    """Old files keep overlays in bits 12 to 15 of unsigned 12-bit pixels."""
    assert hu_of(attributes(BitsStored=12, HighBit=11), 1064 | 0x8000, 1064 | 0x1000) == [40, 40]


def test_values_above_the_lowest_bits_are_shifted_down():
    """High Bit 15 with 12 bits stored: the value is in the upper bits."""
    assert hu_of(attributes(BitsStored=12, HighBit=15), 1064 << 4 | 0x3) == [40]


@pytest.mark.parametrize("vr", ["SS", "US"])
def test_signed_padding_is_masked_whatever_its_vr(vr):
    """-2000 and 63536 are one padding value."""
    ds = attributes(PixelRepresentation=1, RescaleIntercept="0")
    ds.add_new(0x00280120, vr, -2000 if vr == "SS" else 63536)
    assert hu_of(ds, -2000, 40) == [-1024, 40]


def test_padding_is_masked_before_the_rescale():
    """A padding value that would read as bone is air."""
    ds = attributes(RescaleIntercept="-1024")
    ds.add_new(0x00280120, "US", 4000)
    out = to_hounsfield(ds, stored(4000, 1064))
    assert out[0, 0] == -1024  # a corner, outside the reconstruction circle
    assert out[0, 1] == 40


def test_padding_that_is_also_a_legal_value_is_masked_outside_the_circle_only():
    """Zero may be padding at the rim and cerebrospinal fluid in the middle."""
    ds = attributes(RescaleIntercept="0")
    ds.add_new(0x00280120, "US", 0)
    image = np.zeros((4, 4), dtype="<u2")
    out = to_hounsfield(ds, image)
    assert out[0, 0] == -1024
    assert out[2, 2] == 0


def test_a_padding_range_is_masked_as_a_whole():
    """Pixel Padding Range Limit may lie on either side."""
    ds = attributes(PixelRepresentation=1, RescaleIntercept="0")
    ds.add_new(0x00280120, "SS", -2000)
    ds.add_new(0x00280121, "SS", -3024)
    assert hu_of(ds, -2000, -2500, -3024, 30) == [-1024, -1024, -1024, 30]


def test_padding_without_a_tag_becomes_air():
    """What lies below air is no tissue."""
    ds = attributes(PixelRepresentation=1, RescaleIntercept="0")
    assert hu_of(ds, -3024, -2000, -1000) == [-1024, -1024, -1000]


def test_values_beyond_int16_stop_at_its_end():
    """An extended scale does not wrap round."""
    assert hu_of(attributes(RescaleSlope="10", RescaleIntercept="0"), 65535) == [32767]


def test_each_frame_has_its_own_rescale():
    """Enhanced CT states slope and intercept per frame."""
    ds = scans.enhanced_ct(np.zeros((2, 4, 4), dtype=np.int16), [0.0, 5.0], [-1024, -2000])
    assert to_hounsfield(ds, stored(1064), frame=0)[0, 0] == 40
    assert to_hounsfield(ds, stored(2040), frame=1)[0, 0] == 40


def test_an_already_signed_array_is_read_alike():
    """Decoders return signed or unsigned containers of the same bits."""
    ds = attributes(PixelRepresentation=1, RescaleIntercept="0", BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(
        to_hounsfield(ds, stored(-40, 40).view("<i2")), to_hounsfield(ds, stored(-40, 40))
    )


@pytest.mark.parametrize(
    "tags",
    [
        {"Rows": 0},
        {"Rows": 5000},
        {"BitsAllocated": 12},
        {"BitsStored": 17},
        {"HighBit": 16},
        {"PixelRepresentation": None},
        {"NumberOfFrames": 2001},
        {"Rows": 4096, "Columns": 4096, "NumberOfFrames": 128},
    ],
)
def test_an_impossible_form_is_unreadable(tags):
    """Absurd dimensions and bits are refused before anything is allocated."""
    with pytest.raises(NotAnalysable) as caught:
        pixel_form(attributes(**tags))
    assert caught.value.reason is Reason.UNREADABLE
