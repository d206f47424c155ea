"""What a document takes over from the images it is about: patient, study, order, time zone.

Taken over as bytes, together with the declaration of their character set. An archive that shows
the images' patient so shows the same patient here, be the declaration right, wrong or missing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

from pydicom import DataElement, Dataset
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.errors import BytesLengthException
from pydicom.sr.coding import Code
from pydicom.values import convert_SQ

from ichnode.domain.errors import NotAnalysable
from ichnode.domain.reasons import Reason
from ichnode.imaging.elements import NotPart10, read_part10
from ichnode.imaging.values import text
from ichnode.report.encoding import LONGEST_VALUE, Elements, ascii_text, element, sequence

CHARACTER_SET = 0x00080005
_ZONE = 0x00080201
_PROCEDURE_CODE = 0x00081032
_REQUEST_ATTRIBUTES = 0x00400275
_REQUESTED_PROCEDURE_CODE = 0x00321064
_FRAME_OF_REFERENCE = 0x00200052

_REQUIRED = (  # type 2: written empty where the images have none
    0x00080020,  # Study Date
    0x00080030,  # Study Time
    0x00080050,  # Accession Number
    0x00080090,  # Referring Physician's Name
    0x00100010,  # Patient's Name
    0x00100020,  # Patient ID
    0x00100030,  # Patient's Birth Date
    0x00100040,  # Patient's Sex
    0x00200010,  # Study ID
)
_OPTIONAL = (
    CHARACTER_SET,
    _ZONE,
    0x00080051,  # Issuer of Accession Number Sequence
    0x00081030,  # Study Description
    _PROCEDURE_CODE,
    0x00100021,  # Issuer of Patient ID
    0x00100022,  # Type of Patient ID
    0x00100024,  # Issuer of Patient ID Qualifiers Sequence
    0x00101002,  # Other Patient IDs Sequence
    0x00101010,  # Patient's Age
    0x00101020,  # Patient's Size
    0x00101030,  # Patient's Weight
)
_TAKEN = frozenset(_REQUIRED + _OPTIONAL)
_READ = _TAKEN | {_REQUEST_ATTRIBUTES, _FRAME_OF_REFERENCE}

# Of taken sequences only elements of these VRs are kept: their bytes mean the same in every
# transfer syntax. Nothing that the sequences above need has another one.
_PORTABLE = frozenset(
    "AE AS CS DA DS DT IS LO LT PN SH ST TM UC UI UR UT".split()  # noqa: SIM905 - reads best
)
_DEEPEST = 4
_MOST_ITEMS = 32

_DAMAGED = (
    ArithmeticError,
    AttributeError,
    BytesLengthException,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    TypeError,
    ValueError,
    struct.error,
)
"""What pydicom raises on a damaged sequence; the sequence is then left out."""


class Source:
    """The header of one of the analysed images.

    Parameters
    ----------
    path : Path
        The image as it was received.

    Raises
    ------
    NotAnalysable
        UNREADABLE when the file is gone or is no DICOM file.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._dataset = read_part10(path.read_bytes(), _READ, last=_REQUEST_ATTRIBUTES).dataset
        except (OSError, NotPart10) as error:
            raise NotAnalysable(Reason.UNREADABLE, type(error).__name__) from error

    def elements(self) -> dict[int, bytes]:
        """Return the patient and study elements, encoded, for a document of the same study."""
        taken = {tag: element(tag, dictionary_VR(tag), b"") for tag in _REQUIRED}
        taken |= dict(_portable(self._dataset, _TAKEN))
        return taken

    def request(self, study_uid: str) -> list[Elements]:
        """Return the item of Referenced Request Sequence (PS3.3 C.17.2), or none.

        Order numbers of placer and filler are not in an image's request attributes: empty.
        """
        outer = dict(_portable(self._dataset, frozenset((0x00080050,))))
        asked = self._first(_REQUEST_ATTRIBUTES)
        inner_tags = frozenset((0x00321060, _REQUESTED_PROCEDURE_CODE, 0x00401001))
        inner = dict(_portable(asked, inner_tags)) if asked is not None else {}
        if not (inner or text(self._dataset, 0x00080050)):
            return []
        empty = {
            0x00080050: element(0x00080050, "SH", b""),
            0x00081110: sequence(0x00081110, ()),  # Referenced Study Sequence
            0x00321060: element(0x00321060, "LO", b""),  # Requested Procedure Description
            _REQUESTED_PROCEDURE_CODE: sequence(_REQUESTED_PROCEDURE_CODE, ()),
            0x00401001: element(0x00401001, "SH", b""),  # Requested Procedure ID
            0x00402016: element(0x00402016, "LO", b""),  # Placer Order Number
            0x00402017: element(0x00402017, "LO", b""),  # Filler Order Number
        }
        study = {0x0020000D: element(0x0020000D, "UI", study_uid)}
        return [empty | outer | inner | study]

    def procedure(self) -> Code | None:
        """Return the coded procedure that was performed, else the one that was ordered."""
        asked = self._first(_REQUEST_ATTRIBUTES)
        for holder, tag in ((self._dataset, _PROCEDURE_CODE), (asked, _REQUESTED_PROCEDURE_CODE)):
            if holder is not None and (code := _code(holder, tag, self._dataset)) is not None:
                return code
        return None

    @property
    def frame_of_reference_uid(self) -> str:
        """Frame of Reference UID, or ""."""
        return text(self._dataset, _FRAME_OF_REFERENCE)

    def local(self, moment: datetime) -> datetime:
        """Return a moment in the images' time zone; in this host's where they state none."""
        stated = text(self._dataset, _ZONE)
        try:
            hours, minutes = int(stated[:3]), int(stated[0] + stated[3:5])
            zone = timezone(timedelta(hours=hours, minutes=minutes))
        except (ValueError, IndexError):
            return moment.astimezone()
        return moment.astimezone(zone)

    def _first(self, tag: int) -> Dataset | None:
        items = _opened(self._dataset.get_item(tag))
        return items[0] if items else None


def utc(moment: datetime) -> str:
    """Return a moment as a DT value with its offset, so that it reads the same everywhere."""
    return moment.astimezone(UTC).strftime("%Y%m%d%H%M%S+0000")


def _portable(
    dataset: Dataset, wanted: frozenset[int], depth: int = 0
) -> Iterator[tuple[int, bytes]]:
    """Yield the wanted elements encoded, text as the bytes it was; odd ones are left out."""
    for tag in sorted(wanted.intersection(_tags(dataset))):
        held = dataset.get_item(tag)
        vr = dictionary_VR(tag)
        if vr == "SQ":
            items = [dict(_inner(one, depth + 1)) for one in _opened(held)]
            if depth < _DEEPEST and any(items):
                yield tag, sequence(tag, [one for one in items if one])
        elif isinstance(held, RawDataElement) and held.value and len(held.value) <= LONGEST_VALUE:
            yield tag, element(tag, vr, bytes(held.value))


def _tags(dataset: Dataset) -> list[int]:
    # Iterating over the data set itself would interpret its values.
    return [int(tag) for tag in dataset.keys()]  # noqa: SIM118


def _inner(dataset: Dataset, depth: int) -> Iterator[tuple[int, bytes]]:
    known = set()
    for tag in _tags(dataset):
        try:
            vr = dictionary_VR(tag)
        except KeyError:
            continue  # private, or newer than the dictionary
        if vr in _PORTABLE or (vr == "SQ" and depth < _DEEPEST):
            known.add(tag)
    yield from _portable(dataset, frozenset(known), depth)


def _opened(held: RawDataElement | DataElement | None) -> list[Dataset]:
    """Return the items of a sequence, raw or not; none where it is damaged."""
    if held is None or not held.value:
        return []
    if not isinstance(held, RawDataElement):
        return list(held.value)[:_MOST_ITEMS]
    try:
        value = bytes(held.value)
        items = convert_SQ(value, held.is_implicit_VR, held.is_little_endian, "iso8859", 0)
        return list(items)[:_MOST_ITEMS]
    except _DAMAGED:
        return []


def _code(holder: Dataset, tag: int, root: Dataset) -> Code | None:
    """Return the first code of a sequence when it is complete, its meaning in plain letters."""
    items = _opened(holder.get_item(tag))
    if not items:
        return None
    declared = root.get_item(CHARACTER_SET)
    if declared is not None and CHARACTER_SET not in items[0]:
        items[0][CHARACTER_SET] = declared
    value, scheme, meaning = (
        ascii_text(text(items[0], tag), longest)
        for tag, longest in ((0x00080100, 16), (0x00080102, 16), (0x00080104, 64))
    )
    if not (value and scheme) or not any(c.isalnum() for c in meaning):
        return None
    return Code(value, scheme, meaning)
