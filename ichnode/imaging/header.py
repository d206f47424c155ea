"""Read the facts of one instance that the worklist keeps, without touching its pixels.

The receiver calls this for every image at the door, with the bytes still in memory, so it reads
some forty elements and nothing more. Identity (four UIDs) is required and must be usable as a key
and as a file name; everything else may be missing or odd, which then is `None` or empty.
"""

from __future__ import annotations

from pathlib import Path

from pydicom import Dataset

from ichnode.domain.errors import BadInstance
from ichnode.domain.ids import is_uid
from ichnode.domain.series import Header
from ichnode.imaging.elements import PER_FRAME_GROUPS, SEQUENCES, NotPart10, read_part10
from ichnode.imaging.values import first, functional_group, integer, number, numbers, parts, text

WRONG_DATA_SET = 0xA900  # PS3.4 B.2.3: data set does not match SOP class
NOT_UNDERSTOOD = 0xC000
MOST_ELEMENTS = 20_000  # at the top level; the richest real objects have some hundreds

_IDENTITY = {
    0x00080018: "SOP Instance UID",
    0x00080016: "SOP Class UID",
    0x0020000D: "Study Instance UID",
    0x0020000E: "Series Instance UID",
}

_PLANE_POSITION = 0x00209113
_PLANE_ORIENTATION = 0x00209116
_PIXEL_MEASURES = 0x00289110
_FRAME_CONTENT = 0x00209111
_CT_RECONSTRUCTION = 0x00189314
_CONTRAST_AGENTS = 0x00180012

HEADER_TAGS = (
    frozenset(_IDENTITY)
    | SEQUENCES - {0x00283000, 0x00289145, 0x00189329}
    | {
        0x00080005,  # Specific Character Set
        0x00080008,  # Image Type
        0x00080020,  # Study Date
        0x00080030,  # Study Time
        0x00080050,  # Accession Number
        0x00080060,  # Modality
        0x00080070,  # Manufacturer
        0x00080100,  # Code Value, of a coded contrast agent
        0x00080104,  # Code Meaning, likewise
        0x00081010,  # Station Name
        0x00081030,  # Study Description
        0x0008103E,  # Series Description
        0x00081090,  # Manufacturer's Model Name
        0x00100010,  # Patient's Name
        0x00100020,  # Patient ID
        0x00100021,  # Issuer of Patient ID
        0x00100030,  # Patient's Birth Date
        0x00100040,  # Patient's Sex
        0x00101010,  # Patient's Age
        0x00180010,  # Contrast/Bolus Agent
        0x00180015,  # Body Part Examined
        0x00180050,  # Slice Thickness
        0x00181030,  # Protocol Name
        0x00181210,  # Convolution Kernel
        0x00200011,  # Series Number
        0x00200012,  # Acquisition Number
        0x00200013,  # Instance Number
        0x00200032,  # Image Position (Patient)
        0x00200037,  # Image Orientation (Patient)
        0x00201209,  # Number of Series Related Instances
        0x00209156,  # Frame Acquisition Number
        0x00280008,  # Number of Frames
        0x00280010,  # Rows
        0x00280011,  # Columns
        0x00280030,  # Pixel Spacing
        0x00401003,  # Requested Procedure Priority
    }
)


def read_header(source: bytes | Path) -> Header:
    """Read the header of a complete Part 10 file, given as bytes or by its path.

    Raises
    ------
    BadInstance
        0xC000 when the bytes are no DICOM data set, 0xA900 when an identifier is missing or
        cannot be used.
    """
    held = source if isinstance(source, bytes) else source.read_bytes()
    try:
        part10 = read_part10(held, HEADER_TAGS, last=PER_FRAME_GROUPS, items=1, most=MOST_ELEMENTS)
    except NotPart10 as error:
        raise BadInstance(NOT_UNDERSTOOD, f"This is no DICOM data set: {error}.") from error
    return parse_header(part10.dataset)


def parse_header(dataset: Dataset) -> Header:
    """Return the facts of a data set that is already in memory.

    Of a multi-frame object, position, orientation, spacing and thickness are those of the first
    frame (PS3.3 C.7.6.16).

    Raises
    ------
    BadInstance
        0xA900 when an identifier is missing or cannot be used as a key and a file name.
    """
    for tag, name in _IDENTITY.items():
        if not is_uid(text(dataset, tag)):
            raise BadInstance(WRONG_DATA_SET, f"The {name} is missing or not usable.")
    return unchecked_header(dataset)


def unchecked_header(dataset: Dataset) -> Header:
    """Return the facts of a data set whatever its identifiers look like.

    For training alone: public datasets put their own names in place of UIDs ("ID_0a1b2c3d4").
    """
    return Header(
        sop_uid=text(dataset, 0x00080018),
        sop_class_uid=text(dataset, 0x00080016),
        study_uid=text(dataset, 0x0020000D),
        series_uid=text(dataset, 0x0020000E),
        patient_id=text(dataset, 0x00100020),
        issuer_of_patient_id=text(dataset, 0x00100021),
        patient_name=text(dataset, 0x00100010),
        patient_birth_date=first(dataset, 0x00100030),
        patient_sex=first(dataset, 0x00100040),
        patient_age=first(dataset, 0x00101010),
        accession_number=text(dataset, 0x00080050),
        study_date=first(dataset, 0x00080020),
        study_time=first(dataset, 0x00080030),
        study_description=text(dataset, 0x00081030),
        modality=first(dataset, 0x00080060),
        series_number=integer(dataset, 0x00200011),
        series_description=text(dataset, 0x0008103E),
        body_part=first(dataset, 0x00180015),
        protocol_name=text(dataset, 0x00181030),
        manufacturer=text(dataset, 0x00080070),
        model_name=text(dataset, 0x00081090),
        station_name=text(dataset, 0x00081010),
        kernel="\\".join(parts(_holder(dataset, 0x00181210, _CT_RECONSTRUCTION), 0x00181210)),
        contrast_agent=_contrast_agent(dataset),
        image_type=parts(dataset, 0x00080008),
        instance_number=integer(dataset, 0x00200013),
        acquisition_number=_acquisition_number(dataset),
        rows=integer(dataset, 0x00280010),
        columns=integer(dataset, 0x00280011),
        frames=max(integer(dataset, 0x00280008) or 1, 1),
        slice_thickness_mm=slice_thickness_mm(dataset, 0),
        pixel_spacing_mm=pixel_spacing_mm(dataset, 0),
        orientation=orientation(dataset, 0),
        position_mm=position_mm(dataset, 0),
        expected_count=_expected_count(dataset),
        requested_priority=first(dataset, 0x00401003).upper(),
    )


def position_mm(dataset: Dataset, frame: int) -> tuple[float, float, float] | None:
    """Return Image Position (Patient) of a frame (from 0), in mm, or None."""
    held = numbers(_holder(dataset, 0x00200032, _PLANE_POSITION, frame), 0x00200032, 3)
    return (held[0], held[1], held[2]) if held else None


def orientation(dataset: Dataset, frame: int) -> tuple[float, ...] | None:
    """Return Image Orientation (Patient) of a frame (from 0): row, then column; or None."""
    return numbers(_holder(dataset, 0x00200037, _PLANE_ORIENTATION, frame), 0x00200037, 6)


def pixel_spacing_mm(dataset: Dataset, frame: int) -> tuple[float, float] | None:
    """Return the spacing between rows (y) and between columns (x) in mm, or None."""
    held = numbers(_holder(dataset, 0x00280030, _PIXEL_MEASURES, frame), 0x00280030, 2)
    return (held[0], held[1]) if held and min(held) > 0 else None


def slice_thickness_mm(dataset: Dataset, frame: int) -> float | None:
    """Return the nominal slice thickness in mm; None where it is missing or not positive."""
    held = number(_holder(dataset, 0x00180050, _PIXEL_MEASURES, frame), 0x00180050)
    return held if held is not None and held > 0 else None


def _holder(dataset: Dataset, tag: int, macro: int, frame: int = 0) -> Dataset:
    """Return the data set that holds `tag`: the functional group of the frame, else the root."""
    group = functional_group(dataset, macro, frame)
    return group if group is not None and tag in group else dataset


def frame_content(dataset: Dataset, frame: int) -> Dataset:
    """Return the data set that states a frame's acquisition number."""
    return _holder(dataset, 0x00209156, _FRAME_CONTENT, frame)


def _acquisition_number(dataset: Dataset) -> int | None:
    own = integer(dataset, 0x00200012)
    if own is not None:
        return own
    return integer(frame_content(dataset, 0), 0x00209156)


def _contrast_agent(dataset: Dataset) -> str:
    """Return the contrast agent in words; Enhanced CT states it as a code (PS3.3 C.7.6.4b)."""
    if stated := text(dataset, 0x00180010):
        return stated
    sequence = dataset.get(_CONTRAST_AGENTS)
    if sequence is None or not len(sequence.value):
        return ""
    return text(sequence.value[0], 0x00080104) or text(sequence.value[0], 0x00080100)


def _expected_count(dataset: Dataset) -> int | None:
    """Return how many instances the sender says there are; zero and less say nothing.

    Images in Acquisition (0020,1002) is no substitute: a series may have several acquisitions, and
    an acquisition several series.
    """
    stated = integer(dataset, 0x00201209)
    return stated if stated is not None and stated > 0 else None
