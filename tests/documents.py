"""Small CT series, results and work for the tests of documents and deliveries."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, FileMetaDataset, dcmwrite

from ichnode.domain.findings import (
    LABELS,
    AnalysisResult,
    Finding,
    Label,
    LabelResult,
    Presence,
)
from ichnode.domain.ids import result_uid
from ichnode.domain.series import InstanceRef
from ichnode.domain.work import (
    Alert,
    DeliveryItem,
    DeliveryKind,
    DeliveryWork,
    DocumentKind,
    DocumentRef,
    DocumentWork,
    Lease,
    StoredDocument,
    StudyRef,
)
from ichnode.imaging.header import read_header
from ichnode.imaging.masks import Heat, pack, pack_heat
from ichnode.report.stage import ReportStage
from ichnode.settings import ReportSettings
from ichnode.spool import instance_path, resolve, write_durable
from ichnode.worklist.outbox import FIRST_CLASS

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT_LE = "1.2.840.10008.1.2.1"
SR_3D = "1.2.840.10008.5.1.4.1.1.88.34"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
MODEL_UID = result_uid("model", "of the tests")
ANALYSED_AT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
LEASE = Lease(1, "token", 1, datetime(2026, 3, 4, 6, 0, tzinfo=UTC))


def ct_slice(number: int, *, side: int = 64, name: str = "small", **changes: Any) -> Dataset:
    """Return slice `number` (from 0, upwards) of a simulated head-sized cylinder."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    radius = np.hypot(x, y) / side
    hu = np.where(radius < 0.36, 32, np.where(radius < 0.4, 900, -1000))
    hu[side // 2 : side // 2 + 6, side // 2 : side // 2 + 9] = 68  # simulated blood, on the left
    made = Dataset()
    made.SpecificCharacterSet = "ISO_IR 100"
    made.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    made.SOPClassUID = CT_IMAGE
    made.SOPInstanceUID = result_uid("test", name, str(number))
    made.StudyDate, made.StudyTime = "20260304", "050000"
    made.AccessionNumber, made.StudyID = "ACC-1", "7"
    made.Modality, made.Manufacturer = "CT", "SIMULATED"
    made.StudyDescription, made.ReferringPhysicianName = "CT HEAD", "Doe^Jane"
    made.PatientName, made.PatientID = "Test^Simulated", "SIM-1"
    made.PatientBirthDate, made.PatientSex, made.PatientAge = "19500101", "F", "076Y"
    made.BodyPartExamined = "HEAD"
    made.SliceThickness = "5"
    made.StudyInstanceUID = result_uid("test study", name)
    made.SeriesInstanceUID = result_uid("test series", name)
    made.FrameOfReferenceUID = result_uid("test frame", name)
    made.SeriesNumber, made.InstanceNumber = 2, number + 1
    made.ImagePositionPatient = [-115, -115, 5 * number]
    made.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.Rows = made.Columns = side
    made.PixelSpacing = [230 / side, 230 / side]
    made.BitsAllocated, made.BitsStored, made.HighBit = 16, 16, 15
    made.PixelRepresentation = 1
    made.RescaleIntercept, made.RescaleSlope = "0", "1"
    made.PixelData = hu.astype("<i2").tobytes()
    for keyword, value in changes.items():
        setattr(made, keyword, value)
    return made


def request_attributes() -> Dataset:
    """Return an item of Request Attributes Sequence."""
    code, item = Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator = "CTKOPF", "99SITE"
    code.CodeMeaning = "CT Schädel nativ"
    item.RequestedProcedureID = "RP-1"
    item.RequestedProcedureDescription = "CT Schädel"
    item.RequestedProcedureCodeSequence = [code]
    item.ScheduledProcedureStepID = "SPS-1"
    return item


def part10(dataset: Dataset, transfer_syntax_uid: str = EXPLICIT_LE) -> bytes:
    """Return a data set as a file."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = transfer_syntax_uid
    dataset.file_meta = meta
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def keep(spool: Path, content: bytes, transfer_syntax_uid: str = EXPLICIT_LE) -> InstanceRef:
    """Put a file into the spool as the receiver would."""
    digest = hashlib.sha256(content).hexdigest()
    write_durable(resolve(spool, instance_path(digest)), content)
    return InstanceRef(digest, instance_path(digest), transfer_syntax_uid, read_header(content))


def keep_series(spool: Path, slices: int = 5, **changes: Any) -> tuple[InstanceRef, ...]:
    """Put a small CT series into the spool."""
    return tuple(keep(spool, part10(ct_slice(number, **changes))) for number in range(slices))


def result(
    uids: Sequence[str],
    finding: Finding = Finding.POSITIVE,
    *,
    presences: dict[Label, Presence] | None = None,
    probabilities: Sequence[float] = (0.97, 0.02, 0.913, 0.05, 0.11, 0.3),
    warnings: tuple[str, ...] = (),
) -> AnalysisResult:
    """Return a result whose key slice is the last but one for "any", the first for the others."""
    stated = {
        Finding.POSITIVE: {"any": Presence.PRESENT, "intraparenchymal": Presence.PRESENT},
        Finding.REVIEW: {"any": Presence.UNDETERMINED},
        Finding.NEGATIVE: {},
    }[finding]
    stated = {**stated, **(presences or {})}
    labels = tuple(
        LabelResult(
            label,
            probability,
            stated.get(label, Presence.ABSENT),
            uids[-2] if label == "any" else uids[0],
        )
        for label, probability in zip(LABELS, probabilities, strict=True)
    )
    return AnalysisResult(
        model_uid=MODEL_UID,
        model_name="ichnode-ich-test",
        model_version="2026.1",
        finding=finding,
        labels=labels,
        slice_probabilities=tuple((uid, tuple(probabilities)) for uid in uids),
        series_score=1.0,
        operating_point=(("any", 0.5), ("review", 0.2)),
        warnings=warnings,
    )


def with_volume(whole: AnalysisResult, ml: float, mask: npt.NDArray[np.bool_]) -> AnalysisResult:
    """Return a result whose model states a volume of what is present, and draws "any"."""
    labels = tuple(
        replace(one, volume_ml=ml) if one.presence is Presence.PRESENT else one
        for one in whole.labels
    )
    return replace(
        whole,
        labels=labels,
        key_mask=pack(whole.of("any").key_sop_uid, mask),
        volume_how="Areas times extents. Measured on simulated heads.",
    )


def with_heat(
    whole: AnalysisResult, chances: npt.NDArray[np.uint8], box: tuple[int, int, int, int]
) -> AnalysisResult:
    """Return a result whose model says where it suspects blood, on key slices of 64 x 64 px."""
    heat = Heat(chances, box)
    return replace(whole, key_heat=pack_heat(whole.of("any").key_sop_uid, (64, 64), heat))


def document_work(
    instances: tuple[InstanceRef, ...],
    kind: DocumentKind = "sr",
    finding: Finding = Finding.POSITIVE,
    **changes: Any,
) -> DocumentWork:
    """Return the work of one document about a series."""
    header = instances[0].header
    sop_class_uid = changes.pop("sop_class_uid", FIRST_CLASS[kind])
    given = changes.pop("result", None)
    work = DocumentWork(
        lease=LEASE,
        kind=kind,
        sop_class_uid=sop_class_uid,
        sop_uid=result_uid(kind, header.series_uid, "digest", MODEL_UID, sop_class_uid),
        study_uid=header.study_uid,
        series_uid=header.series_uid,
        set_digest="digest",
        analysed_at=ANALYSED_AT,
        result=given or result([one.header.sop_uid for one in instances], finding),
        instances=instances,
    )
    return replace(work, **changes)


def stored_documents(
    spool: Path, count: int = 1, kind: DocumentKind = "sr", **changes: Any
) -> list[StoredDocument]:
    """Build documents of small series, by the report stage itself."""
    stage = ReportStage(spool, ReportSettings())
    documents = []
    for number in range(count):
        instances = keep_series(spool, 3, name=f"study {number}")
        work = document_work(instances, kind, **changes)
        built = stage.handle(work)
        documents.append(
            StoredDocument(work.sop_class_uid, work.sop_uid, built.transfer_syntax_uid, built.path)
        )
    return documents


def delivery_work(
    documents: Sequence[StoredDocument], *, urgent: bool = True, destination: str = "pacs"
) -> DeliveryWork:
    """Return the work of delivering documents."""
    kinds: dict[str, DeliveryKind] = {uid: kind for kind, uid in FIRST_CLASS.items()}
    items = tuple(
        DeliveryItem(number, kinds.get(one.sop_class_uid, "sr"), urgent, 1, 1, document=one)
        for number, one in enumerate(documents, start=1)
    )
    return DeliveryWork(LEASE, destination, items)


def study_ref(**changes: Any) -> StudyRef:
    """Return a study for priority deliveries."""
    study = StudyRef(
        study_uid=result_uid("test study", "of a task"),
        accession_number="ACC-9",
        patient_id="SIM-9",
        patient_name="Tést^Simulated",
        issuer_of_patient_id="",
        patient_birth_date="19500101",
        patient_sex="F",
        series_uid=result_uid("test series", "of a task"),
        instances=((CT_IMAGE, result_uid("test", "of a task")),),
        complete_at=datetime(2026, 3, 4, 10, tzinfo=UTC),
    )
    return replace(study, **changes)


def priority_work(study: StudyRef, destination: str = "pacs", revision: int = 1) -> DeliveryWork:
    """Return the work of raising one study's priority."""
    item = DeliveryItem(1, "ups", urgent=True, attempts=1, revision=revision, study=study)
    return DeliveryWork(LEASE, destination, (item,))


def alert(**changes: Any) -> Alert:
    """Return what there is to tell of a positive study."""
    stated = result(["1.2.3", "1.2.4"])
    made = Alert(
        withdrawn=False,
        finding=stated.finding,
        labels=stated.labels,
        model_name=stated.model_name,
        model_version=stated.model_version,
        model_uid=stated.model_uid,
        analysed_at=ANALYSED_AT,
        documents=(DocumentRef(SR_3D, "2.25.7", "2.25.8", study_ref().study_uid),),
    )
    return replace(made, **changes)


def alert_work(
    kind: DeliveryKind,
    destination: str,
    *,
    count: int = 1,
    revision: int = 1,
    study: StudyRef | None = None,
    **changes: Any,
) -> DeliveryWork:
    """Return the work of telling of one study or several; `changes` are of the alert."""
    first = study or study_ref(study_date="20260304")
    studies = [first] + [
        replace(first, study_uid=result_uid("test study", str(number)))
        for number in range(2, count + 1)
    ]
    items = tuple(
        DeliveryItem(
            number,
            kind,
            urgent=True,
            attempts=1,
            revision=revision,
            study=one,
            alert=alert(**changes),
        )
        for number, one in enumerate(studies, start=1)
    )
    return DeliveryWork(LEASE, destination, items)


def data_set_of(content: bytes) -> bytes:
    """Return the data set of a file without preamble and file meta information."""
    length = int.from_bytes(content[140:144], "little")  # (0002,0000), always first
    return content[144 + length :]
