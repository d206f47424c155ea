"""Any value survives being written into a message and read from it."""

from __future__ import annotations

from contextlib import suppress

import hl7
from hypothesis import given, settings
from hypothesis import strategies as st

from ichnode.hl7v2.framing import END, START, BadFrame, Deframer, framed
from ichnode.hl7v2.reading import Unreadable, read
from ichnode.hl7v2.writing import message, segment
from ichnode.listen.answering import Answering

VALUES = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
HEADER = {9: ("ORU", "R01"), 10: "1", 12: "2.5.1", 18: "UNICODE UTF-8"}


def written(value: str) -> str:
    return message(
        [
            segment("MSH", HEADER, "UNICODE UTF-8"),
            segment("PID", {5: ("x", value, ("y", value)), 9: "end"}, "UNICODE UTF-8"),
        ]
    )


@given(VALUES)
def test_a_value_survives_and_its_neighbours_do(value: str) -> None:
    """In a component and a sub-component; the frame holds no byte that would end it."""
    data = written(value).encode()
    assert START not in data
    assert END not in data
    row = read(data).first("PID")
    assert row is not None
    assert row.value(5, 2) == value.strip() or value == '""'
    assert row.value(5, 3, 2) == value.strip() or value == '""'
    assert (row.value(5), row.value(5, 3, 1), row.value(9)) == ("x", "y", "end")


@given(st.text(st.characters(exclude_categories=["Cs"], max_codepoint=0xFF), max_size=40))
def test_the_library_reads_what_we_write(value: str) -> None:
    """Escapes are undone by somebody else's hand as well."""
    parsed = hl7.parse(written(value))
    raw = str(parsed.segment("PID")[5]).split("^")[1]
    assert parsed.unescape(raw) == value


@given(st.text(max_size=30), st.sampled_from(["ASCII", "8859/1", "UNICODE UTF-8"]))
def test_whatever_is_written_can_be_encoded(value: str, charset: str) -> None:
    """Also what the character set does not hold, and no sign slips in as a separator."""
    line = segment("PID", {5: value}, charset)  # type: ignore[arg-type]
    codec = {"ASCII": "ascii", "8859/1": "iso8859-1", "UNICODE UTF-8": "utf-8"}[charset]
    line.encode(codec)
    assert line.count("|") == (5 if value and line != "PID|" else 1)
    assert not set("^~&\r\n\x0b\x1c") & set(line)


@given(st.lists(st.binary(max_size=30), max_size=5), st.integers(1, 7))
def test_frames_come_out_however_they_are_cut(messages: list[bytes], size: int) -> None:
    """Cut anywhere, the same messages come out in the same order."""
    plain = [one.translate(None, bytes((START, END))) for one in messages]
    stream = b"".join(framed(one) for one in plain)
    deframer, found = Deframer(100), []
    for start in range(0, len(stream), size):
        found += deframer.feed(stream[start : start + size])
    assert found == plain
    assert not deframer.is_inside


@given(st.binary(max_size=200))
def test_no_bytes_do_more_than_be_refused(data: bytes) -> None:
    """Whatever comes is a message or is refused in one sentence."""
    with suppress(BadFrame):
        assert all(len(one) <= 100 for one in Deframer(100).feed(data))
    with suppress(Unreadable):
        assert read(data).header.value(1) is not None


@settings(max_examples=200)
@given(st.text('MSHPIDOBX|^~\\&\r\n"0AFX.br', max_size=120))
def test_no_message_does_more_than_be_refused(text: str) -> None:
    """Strange messages can be asked for any field."""
    try:
        received = read(b"MSH|^~\\&|" + text.encode())
    except Unreadable:
        return
    assert isinstance(received.control_id, str)
    for row in received.rows:
        for number in range(12):
            row.value(number, 2)
            row.components(number)
            row.text(number)


class Nobody:
    """An ear that does nothing."""

    def hear(self, digest: str, kind: str, things: object) -> None:
        pass


@settings(max_examples=200)
@given(
    st.sampled_from(["ORM^O01", "ORU^R01", "ADT^A08", "ADT^A40", "ADT^A01", "^", ""]),
    st.text('PIDMRGOBCX|^~\\&\r"1SF.ä\x00\x0b', max_size=150),
    st.sampled_from(["", "UNICODE UTF-8", "8859/1", "x"]),
)
def test_every_message_is_answered_by_a_message(kind: str, rest: str, charset: str) -> None:
    """Whatever is in it, the answer can be framed, read, and names no more than it must."""
    head = f"MSH|^~\\&|A|B|C|D|1||{kind}|ID-7|P|2.5.1||||||{charset}\r"
    answer = Answering(Nobody(), "AR").answer((head + rest).encode(), "192.0.2.1")
    assert START not in answer
    assert END not in answer
    told = hl7.parse(answer.decode()).segment("MSA")
    assert str(told[1]) in {"AA", "AE", "AR"}
    assert str(told[2]) in {"ID-7", ""}
