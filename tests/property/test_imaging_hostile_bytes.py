"""Bytes from the network may be anything: a header, or a defined refusal, and nothing else."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)

from ichnode.domain.errors import BadInstance, NotAnalysable
from ichnode.domain.ids import is_uid
from ichnode.domain.reasons import Reason
from ichnode.imaging.decoding import decode, read_picture
from ichnode.imaging.header import read_header
from ichnode.imaging.hounsfield import to_hounsfield
from tests import imaging_scans as scans

SYNTAXES = [
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEGLSLossless,
]


def sound_file(syntax, enhanced: bool) -> bytes:
    hu = np.arange(2 * 256, dtype=np.int16).reshape(2, 16, 16)
    ds = scans.enhanced_ct(hu, [0, 5], [-1024] * 2) if enhanced else scans.ct_image(hu[0], 0.0, 1)
    if syntax in (RLELossless, JPEGLSLossless):
        ds.compress(syntax, generate_instance_uid=False)
    else:
        ds.file_meta.TransferSyntaxUID = syntax
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


FILES = [sound_file(syntax, enhanced) for syntax in SYNTAXES for enhanced in (False, True)]


@st.composite
def damaged(draw) -> bytes:
    """A sound file with bytes overwritten, cut out, repeated, or its end cut off."""
    held = bytearray(draw(st.sampled_from(FILES)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(132, max(132, len(held) - 1)))
        piece = draw(
            st.one_of(
                st.binary(min_size=1, max_size=8),
                st.sampled_from(
                    [b"\xff\xff\xff\xff", b"\xfe\xff\x00\xe0", struct.pack("<L", 2**31)]
                ),
            )
        )
        match draw(st.sampled_from(["overwrite", "insert", "remove", "cut"])):
            case "overwrite":
                held[at : at + len(piece)] = piece
            case "insert":
                held[at:at] = piece
            case "remove":
                del held[at : at + len(piece)]
            case "cut":
                del held[at:]
    return bytes(held)


@settings(max_examples=300)
@given(st.one_of(damaged(), st.binary(max_size=400).map(lambda b: b"\0" * 128 + b"DICM" + b)))
def test_any_bytes_are_a_header_or_a_defined_refusal(held):
    """Whatever is damaged, what comes back has usable identifiers or is a DICOM status."""
    try:
        header = read_header(held)
    except BadInstance as refusal:
        status = refusal.status
    else:
        status = 0x0000
        uids = (header.sop_uid, header.sop_class_uid, header.study_uid, header.series_uid)
        assert all(is_uid(uid) for uid in uids)
    assert status in (0x0000, 0xA900, 0xC000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged")


@settings(max_examples=200, deadline=None)
@given(damaged())
def test_any_file_is_hounsfield_units_or_a_stated_reason(folder, held):
    """Whatever is damaged, an image of the promised size comes out, or a refusal."""
    path = folder / "image.dcm"
    path.write_bytes(held)
    try:
        picture = read_picture(path)
        stored = decode(picture)
        hu = to_hounsfield(picture.dataset, stored[0])
    except NotAnalysable as refusal:
        reason = refusal.reason
    else:
        reason = None
        assert hu.shape == stored.shape[1:]
        assert hu.dtype == np.int16
        assert hu.min() >= -1024
    assert reason in (None, Reason.UNREADABLE, Reason.NOT_HOUNSFIELD)
