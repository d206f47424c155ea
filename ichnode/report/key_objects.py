"""The key slices of a positive series as a Key Object Selection, for archives that mark images.

It shows nothing of its own: a PACS flags the slices that it names, or offers them first. Which
label each shows best, and that a machine chose them, stands in its description.

References
----------
DICOM PS3.3 A.35.4 and C.17.6 (Key Object Selection Document), C.17.3 (content);
PS3.16 TID 2010, 1204, 1002, 1004.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydicom.sr.coding import Code

from ichnode.domain.findings import LabelResult
from ichnode.domain.work import DocumentWork
from ichnode.report import codes
from ichnode.report.encoding import (
    Elements,
    ascii_text,
    code_item,
    element,
    file_bytes,
    reference_item,
    sequence,
)
from ichnode.report.evidence import EVIDENCE, KeySlice, evidence_of, shown_slices
from ichnode.report.heading import (
    NOT_FOR_DIAGNOSIS,
    PRODUCT,
    Model,
    Series,
    document_series_uid,
    heading,
)
from ichnode.report.source import Source
from ichnode.report.structured_report import per_cent
from ichnode.settings import ReportSettings

DESCRIPTION = f"AI ICH key slices - {NOT_FOR_DIAGNOSIS}"
_SAID = "AI output, preliminary, not for diagnostic use."
_LONGEST = 2048  # of the description

_CONTENT, _CONCEPT_NAME = 0x0040A730, 0x0040A043
_CONTAINS, _CONTEXT, _MODIFIER = "CONTAINS", "HAS OBS CONTEXT", "HAS CONCEPT MOD"


def key_objects(work: DocumentWork, settings: ReportSettings, source: Source) -> bytes:
    """Write the selection of the key slices of one analysis.

    Parameters
    ----------
    work : DocumentWork
        What was found, in which images.
    settings : ReportSettings
        Names and series numbers.
    source : Source
        The header of one of the images.

    Returns
    -------
    bytes
        A Part 10 file in Explicit VR Little Endian; the same work gives the same bytes.
    """
    model = Model.of(work, settings)
    slices = shown_slices(work)
    series = Series(document_series_uid(work), "KO", settings.series_number_kos, DESCRIPTION)
    elements = heading(work, settings, source, series)
    elements |= {
        EVIDENCE: evidence_of(work, [key.instance for key, _ in slices]),
        0x00081111: sequence(0x00081111, ()),  # Referenced Performed Procedure Step, type 2
        0x0040A040: element(0x0040A040, "CS", "CONTAINER"),
        _CONCEPT_NAME: sequence(_CONCEPT_NAME, [code_item(codes.OF_INTEREST)]),
        0x0040A050: element(0x0040A050, "CS", "SEPARATE"),
        0x0040A504: sequence(0x0040A504, [_template("2010")]),
        _CONTENT: sequence(
            _CONTENT,
            [
                _code(_MODIFIER, codes.LANGUAGE, codes.ENGLISH),
                *_observer(model),
                _text(_CONTAINS, codes.KEY_OBJECT_DESCRIPTION, _description(model, slices)),
                *(_image(key) for key, _ in slices),
            ],
        ),
    }
    if request := source.request(work.study_uid):
        elements[0x0040A370] = sequence(0x0040A370, request)
    return file_bytes(work.sop_class_uid, work.sop_uid, elements)


def _description(model: Model, slices: Iterable[tuple[KeySlice, list[LabelResult]]]) -> str:
    """Say what was chosen by whom, and what for."""
    shown = "; ".join(f"{_place(key)} ({_labels(labels)})" for key, labels in slices)
    said = f"{_SAID} Slices with the highest scores of {model.name} {model.version}: {shown}."
    return ascii_text(said, _LONGEST)


def _place(key: KeySlice) -> str:
    number, frame = key.header.instance_number, key.frame
    named = f"image {number}" if number is not None else f"slice {key.place} from below"
    return named if frame is None else f"{named} frame {frame}"


def _labels(labels: Iterable[LabelResult]) -> str:
    return ", ".join(f"{name_of(label)} {per_cent(label):.0f} %" for label in labels) or "highest"


def name_of(label: LabelResult) -> str:
    """Return a label in words for readers."""
    return "any haemorrhage" if label.label == "any" else label.label


def _observer(model: Model) -> list[Elements]:
    """Return the device observer (TID 1004), as the Structured Report names it."""
    uid = _item(_CONTEXT, "UIDREF", codes.DEVICE_OBSERVER_UID)
    return [
        _code(_CONTEXT, codes.OBSERVER_TYPE, codes.DEVICE),
        {**uid, 0x0040A124: element(0x0040A124, "UI", model.uid)},
        _text(_CONTEXT, codes.DEVICE_OBSERVER_NAME, PRODUCT),
        _text(_CONTEXT, codes.DEVICE_OBSERVER_MANUFACTURER, model.manufacturer),
        _text(_CONTEXT, codes.DEVICE_OBSERVER_MODEL_NAME, model.name),
    ]


def _image(key: KeySlice) -> Elements:
    reference = reference_item(key.header.sop_class_uid, key.header.sop_uid, key.frame)
    return {**_item(_CONTAINS, "IMAGE"), 0x00081199: sequence(0x00081199, [reference])}


def _code(relationship: str, name: Code, value: Code) -> Elements:
    coded = sequence(0x0040A168, [code_item(value)])
    return {**_item(relationship, "CODE", name), 0x0040A168: coded}


def _text(relationship: str, name: Code, value: str) -> Elements:
    return {**_item(relationship, "TEXT", name), 0x0040A160: element(0x0040A160, "UT", value)}


def _item(relationship: str, value_type: str, name: Code | None = None) -> Elements:
    """Return what every content item has (PS3.3 C.17.3.2)."""
    elements = {
        0x0040A010: element(0x0040A010, "CS", relationship),
        0x0040A040: element(0x0040A040, "CS", value_type),
    }
    if name is not None:
        elements[_CONCEPT_NAME] = sequence(_CONCEPT_NAME, [code_item(name)])
    return elements


def _template(identifier: str) -> Elements:
    return {
        0x00080105: element(0x00080105, "CS", "DCMR"),
        0x0040DB00: element(0x0040DB00, "CS", identifier),
    }
