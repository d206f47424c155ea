"""Pixel data that is short, empty, lying or damaged is unreadable, never a crash or a guess."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from openjpeg.utils import encode_buffer
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRBigEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from ichnode.domain.errors import NotAnalysable, Transient
from ichnode.domain.reasons import Reason
from ichnode.imaging.codestream import codestream
from ichnode.imaging.decoding import decode, read_picture
from tests import imaging_scans as scans

RAMP = np.arange(32 * 32, dtype=np.int16).reshape(32, 32) - 500


def picture_of(ds, tmp_path):
    _, path = scans.save(ds, tmp_path / "image.dcm")
    return read_picture(path)


def compress(ds, syntax) -> None:
    """Compress in place; JPEG 2000 by OpenJPEG itself, the others by pydicom's encoders."""
    if syntax != JPEG2000Lossless:
        ds.compress(syntax, generate_instance_uid=False)
        return
    frame = encode_buffer(
        ds.PixelData, ds.Columns, ds.Rows, 1, ds.BitsStored, bool(ds.PixelRepresentation)
    )
    encapsulate_as(ds, syntax, encapsulate([frame]))


def encapsulate_as(ds, syntax, value: bytes) -> None:
    ds.file_meta.TransferSyntaxUID = syntax
    ds.PixelData = value
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True


def outcome_of(act):
    """What an act gives: its result, or the reason of its refusal."""
    try:
        return act()
    except NotAnalysable as refusal:
        return refusal.reason


def unreadable(ds, tmp_path) -> str:
    with pytest.raises(NotAnalysable) as caught:
        decode(picture_of(ds, tmp_path))
    assert caught.value.reason is Reason.UNREADABLE
    return caught.value.detail


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [12, 16])
def test_compressed_values_are_the_stored_values(tmp_path, syntax, signed, bits):
    """Each lossless family gives back the stored bits, signed or not."""
    ds = scans.ct_image(RAMP, 0.0, 1)
    scans.stored_as(ds, RAMP, intercept=0 if signed else -1024, signed=signed, bits=bits)
    expected = np.frombuffer(ds.PixelData, "<u2").reshape(32, 32)
    compress(ds, syntax)
    mask = (1 << bits) - 1
    out = decode(picture_of(ds, tmp_path))
    assert out.shape == (1, 32, 32)
    np.testing.assert_array_equal(out[0].view("u2") & mask, expected & mask)


def test_big_endian_pixels_are_swapped(tmp_path):
    """Explicit VR Big Endian swaps the words of OW pixel data."""
    ds = scans.ct_image(RAMP, 0.0, 1)
    expected = np.frombuffer(ds.PixelData, "<u2").reshape(1, 32, 32)
    ds.PixelData = expected.astype(">u2").tobytes()
    ds.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    out = decode(picture_of(ds, tmp_path))
    np.testing.assert_array_equal(out, expected)
    assert out.dtype.isnative


@pytest.mark.parametrize("kept", [0, 2, 32 * 32 * 2 - 2])
def test_less_pixel_data_than_promised_is_unreadable(tmp_path, kept):
    """Zero-length and short pixel data are refused."""
    ds = scans.ct_image(RAMP, 0.0, 1)
    ds.PixelData = ds.PixelData[:kept]
    assert unreadable(ds, tmp_path)


def test_no_pixel_data_is_unreadable(tmp_path):
    """An image without pixels is refused."""
    ds = scans.ct_image(RAMP, 0.0, 1)
    del ds.PixelData
    assert unreadable(ds, tmp_path) == "there is no pixel data"


def test_more_pixel_data_than_promised_is_cut(tmp_path):
    """Trailing padding is ignored."""
    ds = scans.ct_image(RAMP, 0.0, 1)
    expected = np.frombuffer(ds.PixelData, "<u2")
    ds.PixelData += b"\0\0"
    np.testing.assert_array_equal(decode(picture_of(ds, tmp_path)).ravel(), expected)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize("damage", ["half", "noise", "empty"])
def test_a_damaged_codestream_is_unreadable_or_harmless(tmp_path, syntax, damage):
    """Whatever a decoder makes of damage, it is an image of the promised size or a refusal."""
    ds = scans.ct_image(RAMP, 0.0, 1)
    compress(ds, syntax)
    value = {
        "half": encapsulate([ds.PixelData[20 : len(ds.PixelData) // 2]]),
        "noise": encapsulate([bytes(range(256)) * 4]),
        "empty": struct.pack("<HHL", 0xFFFE, 0xE000, 0) * 2,
    }[damage]
    encapsulate_as(ds, syntax, value)
    picture = picture_of(ds, tmp_path)
    outcome = outcome_of(lambda: decode(picture).shape)
    assert outcome in ((1, 32, 32), Reason.UNREADABLE)


def test_a_codestream_that_is_larger_than_its_header_is_not_decoded(tmp_path):
    """The decoder never sees a codestream whose own dimensions differ from the promise."""
    ds = scans.ct_image(RAMP, 0.0, 1)
    compress(ds, JPEG2000Lossless)
    frame = bytearray(ds.PixelData)
    size = frame.index(b"\xff\x4f\xff\x51") + 8
    frame[size : size + 8] = struct.pack(">LL", 60000, 60000)
    encapsulate_as(ds, JPEG2000Lossless, bytes(frame))
    assert unreadable(ds, tmp_path) == "the codestream is 60000 x 60000"


def test_fewer_frames_than_promised_are_unreadable(tmp_path):
    """A multi-frame object with a frame missing is refused."""
    ds = scans.ct_image(RAMP, 0.0, 1)
    ds.compress(RLELossless, generate_instance_uid=False)
    ds.NumberOfFrames = 2
    assert unreadable(ds, tmp_path)


def test_fragments_of_one_frame_are_joined(tmp_path):
    """A frame may come in many fragments."""
    ds = scans.ct_image(RAMP, 0.0, 1)
    expected = np.frombuffer(ds.PixelData, "<u2")
    ds.compress(JPEGLSLossless, generate_instance_uid=False)
    whole = bytes(ds.PixelData)
    frame = whole[whole.index(b"\xff\xd8") :]
    frame = frame[: frame.rindex(b"\xff\xd9") + 2]
    ds.PixelData = encapsulate([frame], fragments_per_frame=4)
    ds["PixelData"].is_undefined_length = True
    np.testing.assert_array_equal(decode(picture_of(ds, tmp_path)).ravel(), expected)


@pytest.mark.parametrize("uid", ["1.2.3.4.5", "1.2.840.10008.1.2.4.100", str(JPEGBaseline8Bit)])
def test_a_syntax_that_is_not_understood_is_unreadable(tmp_path, uid):
    """Private syntaxes, video and a wrong label are refused, not tried."""
    ds = scans.ct_image(RAMP, 0.0, 1)
    ds.compress(RLELossless, generate_instance_uid=False)
    _, path = scans.save(ds, tmp_path / "image.dcm")
    held = path.read_bytes()
    old = str(RLELossless).encode() + b"\0"
    new = uid.encode() + b"\0" * (len(uid) % 2)
    start = held.index(old)
    path.write_bytes(
        held[: start - 2] + struct.pack("<H", len(new)) + new + held[start + len(old) :]
    )
    with pytest.raises(NotAnalysable) as caught:
        decode(read_picture(path))
    assert caught.value.reason is Reason.UNREADABLE


@pytest.mark.parametrize(
    "frame",
    [b"", b"\xff\xd8", b"\xff\xd8\xff\xda\x00\x08", b"\xff\x4f\xff\x51\x00\x2f", b"GIF89a"],
)
def test_what_says_nothing_of_its_size_is_no_codestream(frame):
    """A codestream has to state its dimensions before it is decoded."""
    with pytest.raises(ValueError, match="codestream"):
        codestream(frame)


def test_a_jpeg_header_is_read_past_its_other_segments():
    """Fill bytes, comments and tables stand before the frame header."""
    comment = b"\xff\xfe\x00\x04hi"
    header = b"\xff\xff\xc3\x00\x0b" + struct.pack(">BHHB", 16, 512, 640, 1)
    found = codestream(b"\xff\xd8" + comment + header + b"\x01\x11\x00")
    assert (found.rows, found.columns, found.precision, found.components) == (512, 640, 16, 1)


def test_a_disk_that_fails_says_nothing_about_the_image(tmp_path):
    """A file that is gone is unreadable for good; any other trouble is tried again."""
    with pytest.raises(NotAnalysable) as caught:
        read_picture(tmp_path / "gone.dcm")
    assert caught.value.reason is Reason.UNREADABLE
    (tmp_path / "loop.dcm").symlink_to("loop.dcm")
    with pytest.raises(Transient, match="ELOOP"):
        read_picture(tmp_path / "loop.dcm")
