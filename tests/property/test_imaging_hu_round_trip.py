"""Whatever form Hounsfield units are stored in, the same ones come out."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ichnode.imaging.decoding import decode
from ichnode.imaging.elements import Part10
from ichnode.imaging.hounsfield import AIR_HU, to_hounsfield
from tests import imaging_scans as scans

SHAPE = (6, 5)
images = hnp.arrays(np.int16, SHAPE, elements=st.integers(-1024, 3071))
even_images = images.map(lambda hu: (hu // 2 * 2).astype(np.int16))


def read(ds, frame: int = 0) -> np.ndarray:
    stored = decode(Part10(str(ds.file_meta.TransferSyntaxUID), ds))
    return to_hounsfield(ds, stored[frame], frame=frame)


@given(images, st.sampled_from([0.0, 5.0, -24.0]))
def test_signed_16_bits(hu, intercept):
    """Signed values with any small intercept round-trip."""
    ds = scans.ct_image(hu, 0.0, 1)
    scans.stored_as(ds, hu, intercept=intercept, signed=True)
    np.testing.assert_array_equal(read(ds), hu)


@given(images, st.integers(-8192, -1024))
def test_unsigned_16_bits(hu, intercept):
    """Unsigned values with any sufficient intercept round-trip."""
    ds = scans.ct_image(hu, 0.0, 1)
    scans.stored_as(ds, hu, intercept=intercept)
    np.testing.assert_array_equal(read(ds), hu)


@given(images, st.booleans(), st.integers(0, 15))
def test_12_bits_with_anything_in_the_unused_ones(hu, signed, junk):
    """Twelve stored bits round-trip, signed or not, whatever the upper four hold."""
    hu = np.clip(hu, -1024, 2047 if signed else 3071).astype(np.int16)
    ds = scans.ct_image(hu, 0.0, 1)
    scans.stored_as(ds, hu, intercept=0 if signed else -1024, signed=signed, bits=12)
    held = np.frombuffer(ds.PixelData, "<u2") | np.uint16(junk << 12)
    ds.PixelData = held.astype("<u2").tobytes()
    np.testing.assert_array_equal(read(ds), hu)


@given(images)
def test_a_slope_of_a_half(hu):
    """Finer steps than one HU lose nothing of whole ones."""
    ds = scans.ct_image(hu, 0.0, 1)
    scans.stored_as(ds, hu, intercept=-1024, slope=0.5)
    np.testing.assert_array_equal(read(ds), hu)


@given(even_images)
def test_a_slope_of_two(hu):
    """Coarser steps give what was stored."""
    ds = scans.ct_image(hu, 0.0, 1)
    scans.stored_as(ds, hu, intercept=-1024, slope=2)
    np.testing.assert_array_equal(read(ds), hu)


@given(images)
def test_monochrome1(hu):
    """The display's polarity leaves the numbers alone."""
    ds = scans.ct_image(hu, 0.0, 1, {"PhotometricInterpretation": "MONOCHROME1"})
    np.testing.assert_array_equal(read(ds), hu)


@given(
    hnp.arrays(np.int16, (3, *SHAPE), elements=st.integers(-1024, 3071)),
    st.lists(st.integers(-4096, -1024), min_size=3, max_size=3),
)
def test_a_rescale_of_its_own_for_every_frame(hu, intercepts):
    """Enhanced CT frames with different intercepts each round-trip."""
    ds = scans.enhanced_ct(hu, [0.0, 5.0, 10.0], intercepts)
    for frame in range(3):
        np.testing.assert_array_equal(read(ds, frame), hu[frame])


@given(images, hnp.arrays(np.bool_, SHAPE), st.sampled_from([-1500, -2000, -3024, -32768]))
def test_padding_becomes_air_and_nothing_else_changes(hu, padded, padding):
    """Padding below air is masked wherever it is, and only there."""
    ds = scans.ct_image(hu, 0.0, 1)
    scans.stored_as(ds, np.where(padded, padding, hu), intercept=0, signed=True)
    ds.add_new(0x00280120, "SS", padding)
    np.testing.assert_array_equal(read(ds), np.where(padded, AIR_HU, hu))
