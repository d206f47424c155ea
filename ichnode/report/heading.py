"""The modules that all of our documents share: everything around the content.

References
----------
DICOM PS3.3 C.7.1 (patient), C.7.2 (study), C.7.5.1 (equipment), C.12.1 (SOP common);
IHE AIR 6.5.3.1 (contributing equipment, one item per algorithm, a new Device UID per model).
"""

from __future__ import annotations

from dataclasses import dataclass

from ichnode import __version__
from ichnode.domain.ids import result_uid
from ichnode.domain.work import DocumentWork
from ichnode.report.codes import PROCESSING_EQUIPMENT
from ichnode.report.encoding import Elements, ascii_text, code_item, element, sequence
from ichnode.report.source import Source, utc
from ichnode.settings import ReportSettings

PRODUCT = "ichnode"
NOT_FOR_DIAGNOSIS = "NOT FOR DIAGNOSIS"


@dataclass(frozen=True, slots=True)
class Series:
    """The series that a document is put in."""

    uid: str
    modality: str
    number: int
    description: str


@dataclass(frozen=True, slots=True)
class Model:
    """The model as it is named in a document.

    The same strings stand in Contributing Equipment and in the content tree: IHE AIR
    Table 6.5.3.1-1 wants them equal.
    """

    manufacturer: str
    name: str
    version: str
    uid: str

    @classmethod
    def of(cls, work: DocumentWork, settings: ReportSettings) -> Model:
        """Name the model that made a result."""
        result = work.result
        return cls(
            manufacturer=ascii_text(settings.manufacturer) or PRODUCT,
            name=ascii_text(result.model_name) or "unnamed",
            version=ascii_text(result.model_version) or "unversioned",
            uid=result.model_uid,
        )


def document_series_uid(work: DocumentWork) -> str:
    """Return the series of a document: one per study, analysed series, model and kind."""
    return result_uid(f"{work.kind}-series", work.study_uid, work.series_uid, work.result.model_uid)


def heading(
    work: DocumentWork, settings: ReportSettings, source: Source, series: Series
) -> dict[int, bytes]:
    """Return the encoded elements around the content of a document."""
    local = source.local(work.analysed_at)
    date, time = local.strftime("%Y%m%d"), local.strftime("%H%M%S")
    model = Model.of(work, settings)
    own: dict[int, bytes] = {
        0x00080012: element(0x00080012, "DA", date),  # Instance Creation
        0x00080013: element(0x00080013, "TM", time),
        0x00080016: element(0x00080016, "UI", work.sop_class_uid),
        0x00080018: element(0x00080018, "UI", work.sop_uid),
        0x00080021: element(0x00080021, "DA", date),  # Series
        0x00080023: element(0x00080023, "DA", date),  # Content: when the analysis started
        0x00080031: element(0x00080031, "TM", time),
        0x00080033: element(0x00080033, "TM", time),
        0x00080060: element(0x00080060, "CS", series.modality),
        0x00080070: element(0x00080070, "LO", model.manufacturer),
        0x0008103E: element(0x0008103E, "LO", series.description),
        0x00081090: element(0x00081090, "LO", PRODUCT),
        0x00181020: element(0x00181020, "LO", __version__),
        0x0018A001: _contributing_equipment(work, model),
        0x0020000D: element(0x0020000D, "UI", work.study_uid),
        0x0020000E: element(0x0020000E, "UI", series.uid),
        0x00200011: element(0x00200011, "IS", str(series.number)),
        0x00200013: element(0x00200013, "IS", str(len(work.predecessors) + 1)),
    }
    if institution := ascii_text(settings.institution):
        own[0x00080080] = element(0x00080080, "LO", institution)
    return source.elements() | own


def _contributing_equipment(work: DocumentWork, model: Model) -> bytes:
    """Name the model that ran (PS3.3 C.12.1.1.5); the rest of the equipment is ours."""
    algorithm: Elements = {
        0x00080070: element(0x00080070, "LO", model.manufacturer),
        0x00081090: element(0x00081090, "LO", model.name),
        0x00181002: element(0x00181002, "UI", model.uid),
        0x00181020: element(0x00181020, "LO", model.version),
        0x0018A002: element(0x0018A002, "DT", utc(work.analysed_at)),
        0x0018A003: element(0x0018A003, "ST", "Intracranial hemorrhage triage model"),
        0x0040A170: sequence(0x0040A170, [code_item(PROCESSING_EQUIPMENT)]),
    }
    return sequence(0x0018A001, [algorithm])
