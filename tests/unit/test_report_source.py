"""What a document takes over from the images: bytes, whatever their character set."""

from __future__ import annotations

from datetime import UTC, datetime
from io import BytesIO

import pytest
from pydicom import dcmread
from pydicom.filewriter import dcmwrite

from ichnode.domain.errors import NotAnalysable
from ichnode.imaging.elements import read_part10
from ichnode.imaging.header import read_header
from ichnode.report.source import Source
from ichnode.report.stage import ReportStage
from ichnode.settings import ReportSettings
from ichnode.spool import resolve
from tests.documents import ct_slice, document_work, keep, part10, request_attributes

NAME = 0x00100010
CHARACTER_SET = 0x00080005

# (what is declared or None, the bytes of the name, the name that a reader of the declaration sees)
NAMES = {
    "latin-1": (b"ISO_IR 100", "Müller^Jürgen".encode("latin-1"), "Müller^Jürgen"),
    "utf-8": (b"ISO_IR 192", "Łukasz^Żółw".encode(), "Łukasz^Żółw"),
    "japanese": (
        b"\\ISO 2022 IR 87",
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B",
        "Yamada^Tarou=山田^太郎",
    ),
    "japanese alone": (
        b"ISO 2022 IR 87",
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B",
        "Yamada^Tarou=山田^太郎",
    ),
    "chinese": (b"GB18030", "Wang^XiaoDong=王^小东".encode("gb18030"), "Wang^XiaoDong=王^小东"),
    "ascii": (None, b"Doe^Jane", "Doe^Jane"),
    "empty": (b"ISO_IR 100", b"", ""),
}

# Declarations that do not fit the bytes: taken over as they are, wrong as they are.
WRONG = {
    "utf-8 said to be latin-1": (b"ISO_IR 100", "Müller^Jürgen".encode()),
    "latin-1 said to be utf-8": (b"ISO_IR 192", "Müller^Jürgen".encode("latin-1")),
    "undeclared": (None, "Müller^Jürgen".encode("latin-1")),
    "unknown term": (b"UTF8", "Müller^Jürgen".encode()),
    "nonsense": (b"ISO_IR 6\\\\ISO 2022", b"\xff\xfe^\x80"),
    "zero bytes inside": (b"ISO_IR 100", b"Doe\0Jane"),
}


def padded(value):
    """Return a value of even length."""
    return value + b" " * (len(value) % 2)


def image_with(declared, name):
    """Return the file of an image whose declaration and name are exactly these bytes."""
    placeholder_set, placeholder_name = b"ISO_IR 100", b"N" * 40
    content = part10(ct_slice(0, PatientName=placeholder_name.decode()))
    was = b"\x10\x00\x10\x00PN\x28\x00" + placeholder_name
    now = b"\x10\x00\x10\x00PN" + len(padded(name)).to_bytes(2, "little") + padded(name)
    assert content.count(was) == 1
    content = content.replace(was, now)
    was = b"\x08\x00\x05\x00CS\x0a\x00" + placeholder_set
    assert content.count(was) == 1
    if declared is None:
        return content.replace(was, b"")
    length = len(padded(declared)).to_bytes(2, "little")
    return content.replace(was, b"\x08\x00\x05\x00CS" + length + padded(declared))


def report_of(spool, content, kind="sr"):
    """Build the document of a series that begins with an image, and return its file."""
    first = keep(spool, content)
    second = keep(spool, part10(ct_slice(1)))
    built = ReportStage(spool, ReportSettings()).handle(document_work((first, second), kind))
    return resolve(spool, built.path)


def dcmread_report(spool, content):
    """Build the report of a series that begins with an image, and read it again."""
    return dcmread(report_of(spool, content))


def raw(path):
    """Return the undecoded bytes of name and declaration; None for one that is not there."""
    held = read_part10(path.read_bytes(), frozenset((NAME, CHARACTER_SET)), last=NAME).dataset
    found = (held.get_item(tag) for tag in (NAME, CHARACTER_SET))
    return tuple(None if element is None else element.value for element in found)


@pytest.mark.parametrize("case", sorted(NAMES))
@pytest.mark.parametrize("kind", ["sr", "sc"])
def test_names_arrive_byte_for_byte_and_readable(tmp_path, case, kind):
    """Declaration and name are the image's bytes, and a reader sees the same name."""
    declared, name, readable = NAMES[case]
    path = report_of(tmp_path, image_with(declared, name), kind)
    assert raw(path) == (padded(name), None if declared is None else padded(declared))
    assert read_header(path).patient_name == readable


@pytest.mark.parametrize("case", sorted(WRONG))
def test_wrong_declarations_are_taken_over_as_they_are(tmp_path, case):
    """A declaration that does not fit is kept with its bytes: the archive shows one patient."""
    declared, name = WRONG[case]
    path = report_of(tmp_path, image_with(declared, name))
    assert raw(path) == (padded(name), None if declared is None else padded(declared))


def test_our_own_words_are_ascii_whatever_is_configured(tmp_path):
    """Institution and warnings lose their accents: they read the same in every character set."""
    content = image_with(*NAMES["japanese"][:2])
    first, second = keep(tmp_path, content), keep(tmp_path, part10(ct_slice(1)))
    settings = ReportSettings(institution="Universitätsspital Zürich 東京")
    built = ReportStage(tmp_path, settings).handle(document_work((first, second)))
    report = dcmread(resolve(tmp_path, built.path))
    assert report.InstitutionName == "Universitatsspital Zurich ??"


def test_type_2_elements_are_there_even_if_the_image_lacks_them(tmp_path):
    """An image without patient and study elements gives a report that has them empty."""
    bare = ct_slice(0)
    for keyword in ("PatientName", "PatientSex", "StudyDate", "StudyID", "AccessionNumber"):
        delattr(bare, keyword)
    report = dcmread_report(tmp_path, part10(bare))
    for keyword in ("PatientName", "PatientSex", "StudyDate", "StudyID", "AccessionNumber"):
        assert keyword in report
        assert not report[keyword].value


@pytest.mark.parametrize(
    "syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"]
)
def test_every_encoding_of_the_image_gives_the_same_elements(tmp_path, syntax):
    """Implicit, big endian and deflated images give the report of the explicit one."""
    one = ct_slice(0, RequestAttributesSequence=[request_attributes()])
    plain = Source(resolve(tmp_path, keep(tmp_path, part10(one)).path))
    again = dcmread(BytesIO(part10(one)))
    again.file_meta.TransferSyntaxUID = syntax
    buffer = BytesIO()
    dcmwrite(buffer, again, enforce_file_format=True)
    other = Source(resolve(tmp_path, keep(tmp_path, buffer.getvalue(), syntax).path))
    assert other.elements() == plain.elements()
    assert other.request("1.2.3") == plain.request("1.2.3")
    assert other.procedure() == plain.procedure()


def test_the_order_is_taken_over(tmp_path):
    """Request attributes become the referenced request, and name the procedure."""
    content = part10(ct_slice(0, RequestAttributesSequence=[request_attributes()]))
    report = dcmread_report(tmp_path, content)
    (request,) = report.ReferencedRequestSequence
    assert request.AccessionNumber == "ACC-1"
    assert request.RequestedProcedureID == "RP-1"
    assert request.RequestedProcedureDescription == "CT Schädel"
    assert request.PlacerOrderNumberImagingServiceRequest == ""
    named = next(
        item
        for item in report.ContentSequence
        if item.ConceptNameCodeSequence[0].CodeValue == "121058"
    )
    code = named.ConceptCodeSequence[0]
    assert (code.CodeValue, code.CodingSchemeDesignator) == ("CTKOPF", "99SITE")
    assert code.CodeMeaning == "CT Schadel nativ"


def test_without_an_order_there_is_no_referenced_request(tmp_path):
    """An image without accession number and request attributes leaves the sequence out."""
    report = dcmread_report(tmp_path, part10(ct_slice(0, AccessionNumber="")))
    assert "ReferencedRequestSequence" not in report


def test_a_damaged_sequence_is_left_out(tmp_path):
    """Bytes that are no items do not stop the report."""
    content = part10(ct_slice(0, RequestAttributesSequence=[request_attributes()]))
    at = content.index(b"\x40\x00\x75\x02SQ") + 12
    for damage in (b"\xff" * 8, b"\xfe\xff\x00\xe0\xf0\xff\xff\x7f"):
        report = dcmread_report(tmp_path, content[:at] + damage + content[at + 8 :])
        assert report.SeriesDescription == "AI ICH triage - NOT FOR DIAGNOSIS"


@pytest.mark.parametrize(
    ("stated", "expected"), [("+0100", "20260304 060607"), ("-0330", "20260304 013607")]
)
def test_times_are_in_the_zone_that_the_images_state(tmp_path, stated, expected):
    """Content Date and Time are when the analysis started, in the images' own zone."""
    report = dcmread_report(tmp_path, part10(ct_slice(0, TimezoneOffsetFromUTC=stated)))
    assert report.TimezoneOffsetFromUTC == stated
    assert f"{report.ContentDate} {report.ContentTime}" == expected
    assert report.ContributingEquipmentSequence[0].ContributionDateTime == "20260304050607+0000"


def test_a_zone_that_is_none_means_this_host(tmp_path):
    """Without a usable time zone the times are local to this host."""
    moment = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
    source = Source(resolve(tmp_path, keep(tmp_path, part10(ct_slice(0))).path))
    assert source.local(moment) == moment
    assert source.local(moment).utcoffset() == moment.astimezone().utcoffset()


def test_an_image_that_is_gone_is_refused(tmp_path):
    """A source that cannot be read is a stated refusal, not a crash."""
    with pytest.raises(NotAnalysable):
        Source(tmp_path / "gone.dcm")
    (tmp_path / "text.dcm").write_text("no image")
    with pytest.raises(NotAnalysable):
        Source(tmp_path / "text.dcm")
