"""The door's reader: identity is required, the rest is tolerated, hostile bytes are refused."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from ichnode.domain.errors import BadInstance
from ichnode.imaging.header import parse_header, read_header
from tests import imaging_scans as scans


def image(**tags) -> Dataset:
    return scans.ct_image(np.zeros((8, 8), dtype=np.int16), 12.5, 3, tags)


def file_bytes(ds: Dataset, syntax=ExplicitVRLittleEndian) -> bytes:
    ds.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian:
        ds["PixelData"].VR = "OW"
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def part10(body: bytes, syntax: str = str(ExplicitVRLittleEndian)) -> bytes:
    """A minimal Part 10 file around raw element bytes."""
    uid = syntax.encode() + b"\0" * (len(syntax) % 2)
    meta = b"\x02\x00\x10\x00UI" + struct.pack("<H", len(uid)) + uid
    return b"\0" * 128 + b"DICM" + meta + body


def element(tag: int, vr: str, value: bytes) -> bytes:
    form = "<HH2s2xL" if vr in ("UN", "SQ") else "<HH2sH"
    return struct.pack(form, tag >> 16, tag & 0xFFFF, vr.encode(), len(value)) + value


IDENTITY = (
    element(0x00080016, "UI", b"1.2.840.10008.5.1.4.1.1.2\0")
    + element(0x00080018, "UI", b"1.2.3.40")
    + element(0x0020000D, "UI", b"1.2.30\0\0")
    + element(0x0020000E, "UI", b"1.2.31\0\0")
)


def with_element(tag: int, vr: str, value: bytes) -> bytes:
    """The identity with one more element in its place."""
    extra = element(tag, vr, value)
    before = IDENTITY[: IDENTITY.index(b"\x20\x00\x0d\x00")]
    after = IDENTITY[len(before) :]
    return part10(before + extra + after if tag < 0x0020000D else IDENTITY + extra)


@pytest.mark.parametrize(
    "syntax",
    [
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
    ],
)
def test_the_same_facts_come_out_of_every_coding(syntax):
    """Byte order, explicit VR and deflation change nothing that is read."""
    header = read_header(file_bytes(image(), syntax))
    assert header == parse_header(image())
    assert header.sop_uid == f"{scans.SERIES_UID}.3"
    assert header.position_mm == (-127.0, -127.0, 12.5)
    assert header.orientation == scans.AXIAL
    assert header.pixel_spacing_mm == (2.0, 2.0)
    assert (header.rows, header.columns, header.frames) == (8, 8, 1)
    assert header.image_type == ("ORIGINAL", "PRIMARY", "AXIAL")
    assert header.patient_age == "064Y"
    assert header.slice_thickness_mm == 5.0


def test_a_path_is_read_like_its_bytes(tmp_path):
    """A file may be given by its path."""
    path = tmp_path / "a.dcm"
    path.write_bytes(file_bytes(image()))
    assert read_header(path) == read_header(path.read_bytes())


def test_our_reader_agrees_with_a_full_parse():
    """Taking elements out gives what pydicom's own reading of the whole file gives."""
    held = file_bytes(image(ContrastBolusAgent="NONE", AccessionNumber="A1"))
    assert read_header(held) == parse_header(dcmread(io.BytesIO(held)))


@pytest.mark.parametrize(
    "keyword", ["SOPInstanceUID", "SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID"]
)
@pytest.mark.parametrize("value", ["", "../../etc/passwd", "1.2/3", "1.2.x", "1" * 65])
def test_an_identifier_that_cannot_be_a_key_is_refused(keyword, value):
    """Missing UIDs and path characters are answered with 0xA900, naming the attribute only."""
    ds = image()
    ds[keyword].value = None
    if value:
        ds[keyword]._value = value
    with pytest.raises(BadInstance, match="UID is missing or not usable") as caught:
        parse_header(ds)
    assert caught.value.status == 0xA900
    assert not value or value not in str(caught.value)


def test_a_data_set_without_identifiers_is_refused():
    """A file that lacks its identity does not match its SOP class."""
    with pytest.raises(BadInstance) as caught:
        read_header(part10(element(0x00080060, "CS", b"CT")))
    assert caught.value.status == 0xA900


@pytest.mark.parametrize(
    "held",
    [
        b"",
        b"%PDF-1.7 not an image",
        b"\0" * 4000,
        b"\0" * 128 + b"DICM",
        b"\0" * 128 + b"DICM" + b"\xff" * 64,
        part10(zlib.compress(b"x" * 500), str(DeflatedExplicitVRLittleEndian)),
    ],
    ids=["nothing", "pdf", "zeros", "prefix only", "garbage", "broken deflate"],
)
def test_bytes_that_are_no_data_set_cannot_be_understood(held):
    """What is not DICOM is answered with 0xC000."""
    with pytest.raises(BadInstance) as caught:
        read_header(held)
    assert caught.value.status == 0xC000


def test_a_file_cut_inside_its_identity_is_refused():
    """A truncated UID is another UID, so it does not count."""
    whole = part10(IDENTITY)
    with pytest.raises(BadInstance):
        read_header(whole[:-3])
    assert read_header(whole).series_uid == "1.2.31"


def test_a_stated_length_of_four_gigabytes_allocates_nothing():
    """A length beyond the file ends the reading; what came before it stands."""
    lie = struct.pack("<HH2s2xL", 0x7FE0, 0x0010, b"OW", 0xFFFFFFF0)
    assert read_header(part10(IDENTITY + lie)).sop_uid == "1.2.3.40"
    inside = struct.pack("<HH2s2xL", 0x0028, 0x0010, b"UN", 0xFFFFFFF0)
    assert read_header(part10(IDENTITY + inside)).rows is None


def test_sequences_without_end_and_without_bottom_are_refused():
    """Nesting is bounded, whatever the file says."""
    nested = struct.pack("<HH2s2xL", 0x0008, 0x1140, b"SQ", 0xFFFFFFFF) + struct.pack(
        "<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    with pytest.raises(BadInstance, match="nested") as caught:
        read_header(part10(nested * 5000 + IDENTITY))
    assert caught.value.status == 0xC000


def test_a_skipped_sequence_of_undefined_length_is_stepped_over():
    """What follows a sequence that nobody asked for is still read."""
    sequence = (
        struct.pack("<HH2s2xL", 0x0008, 0x0006, b"SQ", 0xFFFFFFFF)
        + struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
        + element(0x00080018, "UI", b"9.9.9.99")
        + struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
        + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    )
    assert read_header(part10(sequence + IDENTITY)).sop_uid == "1.2.3.40"


@pytest.mark.parametrize(
    ("charset", "stored", "read"),
    [
        (b"ISO_IR 100", "Müller^Jörg".encode("latin-1"), "Müller^Jörg"),
        (b"ISO_IR 192 ", "山田^太郎=Ä".encode(), "山田^太郎=Ä"),
        (
            b"\\ISO 2022 IR 87",
            b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B",
            "Yamada^Tarou=山田^太郎",
        ),
        (
            b"\\ISO 2022 IR 149 ",
            b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7",
            "Hong^Gildong=洪^吉洞",
        ),
        (b"GB18030 ", "王^小东".encode("gb18030"), "王^小东"),
        (b"ISO_IR 144", "Люк".encode("iso8859_5"), "Люк"),
        (b"KLINGON 7 ", "Müller".encode("latin-1"), "Müller"),
        (b"ISO_IR 192 ", b"M\xfcller", "M�ller"),
    ],
)
def test_names_are_decoded_by_their_own_character_set(charset, stored, read):
    """Known sets are decoded, unknown ones fall back, wrong bytes never raise or warn."""
    charset += b" " * (len(charset) % 2)
    stored += b" " * (len(stored) % 2)
    body = element(0x00080005, "CS", charset) + IDENTITY[: IDENTITY.index(b"\x20\x00\x0d\x00")]
    body += element(0x00100010, "PN", stored) + IDENTITY[IDENTITY.index(b"\x20\x00\x0d\x00") :]
    assert read_header(part10(body)).patient_name == read


@pytest.mark.parametrize(
    ("tag", "vr", "value", "field", "read"),
    [
        (0x00280010, "US", struct.pack("<H", 512), "rows", 512),
        (0x00280010, "UN", struct.pack("<H", 512), "rows", 512),
        (0x00280010, "IS", b"512 ", "rows", 512),
        (0x00280010, "US", struct.pack("<HH", 512, 7), "rows", 512),
        (0x00280010, "US", b"\x01", "rows", None),
        (0x00200013, "IS", b"12\\13 ", "instance_number", 12),
        (0x00200013, "IS", b"twelve", "instance_number", None),
        (0x00200013, "IS", b"99999999999 ", "instance_number", None),
        (0x00200013, "IS", b"1_0 ", "instance_number", None),
        (0x00280030, "DS", b"0.5\\0.5 ", "pixel_spacing_mm", (0.5, 0.5)),
        (0x00280030, "DS", b"0.5 ", "pixel_spacing_mm", None),
        (0x00280030, "DS", b"0,5\\0,5 ", "pixel_spacing_mm", None),
        (0x00280030, "DS", b"0\\0 ", "pixel_spacing_mm", None),
        (0x00280030, "DS", b"nan\\1 ", "pixel_spacing_mm", None),
        (0x00280030, "FD", struct.pack("<dd", 0.5, 0.5), "pixel_spacing_mm", (0.5, 0.5)),
        (0x00200032, "DS", b"1\\2\\1e400 ", "position_mm", None),
        (0x00200032, "DS", b"1\\2\\3 ", "position_mm", (1.0, 2.0, 3.0)),
        (0x00180050, "DS", b"-5", "slice_thickness_mm", None),
        (0x00180050, "DS", b"", "slice_thickness_mm", None),
        (0x00181210, "SH", b"J37s\\1", "kernel", "J37s\\1"),
        (0x00280008, "IS", b"0 ", "frames", 1),
        (0x00280008, "IS", b"28", "frames", 28),
        (0x00201209, "IS", b"32", "expected_count", 32),
        (0x00201209, "IS", b"0 ", "expected_count", None),
        (0x00201002, "IS", b"28", "expected_count", None),  # of an acquisition, not of the series
        (0x00401003, "SH", b"stat", "requested_priority", "STAT"),
        (0x0008103E, "LO", b"a\r\nb\x00\x01 ", "series_description", "ab"),
    ],
)
def test_odd_values_are_read_or_absent(tag, vr, value, field, read):
    """Wrong VRs, several values for one and bad numbers never raise."""
    assert getattr(read_header(with_element(tag, vr, value)), field) == read


def test_implicit_bytes_under_an_explicit_label_are_read():
    """The coding is taken from the bytes where they contradict the transfer syntax."""
    held = file_bytes(image(), ImplicitVRLittleEndian)
    label = str(ImplicitVRLittleEndian).encode() + b"\0"
    mislabelled = held.replace(
        b"UI" + struct.pack("<H", len(label)) + label, b"UI\x14\x00" + b"1.2.840.10008.1.2.1\0", 1
    )
    assert read_header(mislabelled) == read_header(held)


def test_enhanced_facts_are_those_of_the_first_frame():
    """Position, orientation, spacing and thickness come out of the functional groups."""
    hu = np.zeros((3, 8, 8), dtype=np.int16)
    ds = scans.enhanced_ct(hu, [10.0, 15.0, 20.0], [-1024] * 3)
    header = read_header(file_bytes(ds))
    assert header.frames == 3
    assert header.position_mm == (-127.0, -127.0, 10.0)
    assert header.orientation == scans.AXIAL
    assert header.pixel_spacing_mm == (2.0, 2.0)
    assert header.slice_thickness_mm == 5.0
    assert header == parse_header(ds)


def test_a_coded_contrast_agent_is_seen():
    """Enhanced CT names its contrast agent in a sequence."""
    agent = Dataset()
    agent.CodeValue, agent.CodingSchemeDesignator, agent.CodeMeaning = "1", "99X", "Iohexol"
    ds = image(ContrastBolusAgentSequence=[agent])
    assert read_header(file_bytes(ds)).contrast_agent == "Iohexol"


def test_a_damaged_sequence_costs_its_items_and_nothing_else():
    """A sequence that holds no items is absent; the image is still kept."""
    assert read_header(with_element(0x00180012, "SQ", b"no items at all!")).contrast_agent == ""


def test_a_deflated_bomb_is_inflated_only_as_far_as_needed():
    """A gigabyte of zeros behind the header is not inflated to read the header."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    pixels = struct.pack("<HH2s2xL", 0x7FE0, 0x0010, b"OW", 1 << 30)
    bomb = b"".join(
        (stream.compress(IDENTITY + pixels), *(stream.compress(bytes(1 << 22)) for _ in range(16)),
         stream.flush())
    )  # fmt: skip
    assert read_header(part10(bomb, str(DeflatedExplicitVRLittleEndian))).sop_uid == "1.2.3.40"
