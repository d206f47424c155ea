"""X-Ray Radiation Dose SR for one simulated head scan (PS3.16 TID 10011)."""

from __future__ import annotations

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import XRayRadiationDoseSRStorage

from ichnode.domain.ids import result_uid
from ichnode.phantom.identity import Identity, new_object

Code = tuple[str, str, str]  # value, scheme, meaning


def _code(code: Code) -> Sequence:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code
    return Sequence([item])


def _item(kind: str, name: Code, relationship: str = "CONTAINS") -> Dataset:
    item = Dataset()
    item.RelationshipType = relationship
    item.ValueType = kind
    item.ConceptNameCodeSequence = _code(name)
    return item


def _coded(name: Code, value: Code, relationship: str = "CONTAINS") -> Dataset:
    item = _item("CODE", name, relationship)
    item.ConceptCodeSequence = _code(value)
    return item


def _measured(name: Code, value: float, unit: tuple[str, str]) -> Dataset:
    item = _item("NUM", name)
    measured = Dataset()
    measured.NumericValue = f"{value:g}"
    measured.MeasurementUnitsCodeSequence = _code((unit[0], "UCUM", unit[1]))
    item.MeasuredValueSequence = Sequence([measured])
    return item


def _uid(name: Code, uid: str, relationship: str = "CONTAINS") -> Dataset:
    item = _item("UIDREF", name, relationship)
    item.UID = uid
    return item


def _group(name: Code, *content: Dataset) -> Dataset:
    item = _item("CONTAINER", name)
    item.ContinuityOfContent = "SEPARATE"
    item.ContentSequence = Sequence(content)
    return item


def dose_sr(identity: Identity, series_number: int) -> Dataset:
    """Return the dose report of a scout and one axial head scan."""
    ds = new_object(
        identity,
        XRayRadiationDoseSRStorage,
        series_number=series_number,
        instance_number=1,
        modality="SR",
        description="DOSE REPORT",
    )
    ds.ReferencedPerformedProcedureStepSequence = Sequence([])
    ds.PerformedProcedureCodeSequence = Sequence([])
    ds.CompletionFlag, ds.VerificationFlag = "COMPLETE", "UNVERIFIED"
    ds.ValueType = "CONTAINER"
    ds.ContinuityOfContent = "SEPARATE"
    ds.ConceptNameCodeSequence = _code(("113701", "DCM", "X-Ray Radiation Dose Report"))
    template = Dataset()
    template.MappingResource, template.TemplateIdentifier = "DCMR", "10011"
    ds.ContentTemplateSequence = Sequence([template])
    ds.ContentSequence = Sequence(_content(identity))
    return ds


def _content(identity: Identity) -> list[Dataset]:
    procedure = _coded(
        ("121058", "DCM", "Procedure reported"),
        ("77477000", "SCT", "Computed Tomography X-Ray"),
        "HAS CONCEPT MOD",
    )
    intent = _coded(
        ("363703001", "SCT", "Has Intent"),
        ("261004008", "SCT", "Diagnostic Intent"),
        "HAS CONCEPT MOD",
    )
    procedure.ContentSequence = Sequence([intent])
    device = _uid(
        ("121012", "DCM", "Device Observer UID"),
        result_uid("phantom scanner"),
        "HAS OBS CONTEXT",
    )
    observer = _coded(
        ("121005", "DCM", "Observer Type"), ("121007", "DCM", "Device"), "HAS OBS CONTEXT"
    )
    scope = _coded(
        ("113705", "DCM", "Scope of Accumulation"), ("113014", "DCM", "Study"), "HAS OBS CONTEXT"
    )
    scope.ContentSequence = Sequence(
        [_uid(("110180", "DCM", "Study Instance UID"), identity.study_uid, "HAS PROPERTIES")]
    )
    total = _group(
        ("113811", "DCM", "CT Accumulated Dose Data"),
        _measured(
            ("113812", "DCM", "Total Number of Irradiation Events"), 2, ("{events}", "events")
        ),
        _measured(("113813", "DCM", "CT Dose Length Product Total"), 814, ("mGy.cm", "mGy.cm")),
    )
    source = _coded(
        ("113854", "DCM", "Source of Dose Information"),
        ("113856", "DCM", "Automated Data Collection"),
    )
    return [procedure, observer, device, scope, total, *_events(identity), source]


def _events(identity: Identity) -> list[Dataset]:
    rows = (
        ("Scout", ("113805", "DCM", "Constant Angle Acquisition"), 0.1, 2.0),
        ("Head axial", ("113804", "DCM", "Sequenced Acquisition"), 52.3, 812.0),
    )
    return [_event(identity, *row) for row in rows]


def _event(identity: Identity, name: str, form: Code, ctdi: float, dlp: float) -> Dataset:
    protocol = _item("TEXT", ("125203", "DCM", "Acquisition Protocol"))
    protocol.TextValue = name
    return _group(
        ("113819", "DCM", "CT Acquisition"),
        protocol,
        _coded(("123014", "DCM", "Target Region"), ("69536005", "SCT", "Head")),
        _coded(("113820", "DCM", "CT Acquisition Type"), form),
        _uid(
            ("113769", "DCM", "Irradiation Event UID"),
            result_uid("phantom irradiation", identity.study_uid, name),
        ),
        _group(
            ("113829", "DCM", "CT Dose"),
            _measured(("113830", "DCM", "Mean CTDIvol"), ctdi, ("mGy", "mGy")),
            _measured(("113838", "DCM", "DLP"), dlp, ("mGy.cm", "mGy.cm")),
        ),
    )
