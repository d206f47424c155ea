"""Reading tasks: which of a peer's is that of a study, and the one that we create.

One is created only where a destination has none that is open and says that we may.

References
----------
DICOM PS3.4 Table CC.2.5-3, the column for N-CREATE.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from pydicom import Dataset
from pydicom.sr.coding import Code
from pydicom.valuerep import DT

from ichnode.domain import codes
from ichnode.domain.ids import result_uid
from ichnode.domain.work import StudyRef

INTERPRETATION = Code(*codes.INTERPRETATION)
LABEL = "Interpretation - AI flag: suspected ICH"
HIGH = "HIGH"
SCHEDULED = "SCHEDULED"
IN_PROGRESS = "IN PROGRESS"
COMPLETED = "COMPLETED"
_LONGEST = 64


@dataclass(frozen=True, slots=True)
class Task:
    """A task as the peer described it.

    Attributes
    ----------
    changed_at : datetime, optional
        Aware; when it came to be what it is, where the peer says so.
    """

    uid: str
    state: str
    priority: str
    changed_at: datetime | None = None

    def was_read(self, study: StudyRef) -> bool:
        """Say whether it was completed with the images there that the alert is about.

        Where nobody says when, it counts as read: reading is what mostly ends a task.
        """
        if self.state != COMPLETED:
            return False
        if self.changed_at is None or study.complete_at is None:
            return True
        return self.changed_at >= study.complete_at


def has_order(study: StudyRef) -> bool:
    """Say whether the order can be asked for; a value that is too long matches nothing."""
    return 0 < len(study.accession_number) <= 16 and 0 < len(study.patient_id) <= 64


def is_reading(found: Dataset, study: StudyRef) -> bool:
    """Say whether an answer is a task to read this very study.

    Archives have been seen to ignore keys that they do not support and to return every task; and a
    study may have tasks of other kinds, such as post-processing.
    """
    kinds = {
        (str(code.get("CodeValue", "")), str(code.get("CodingSchemeDesignator", "")))
        for code in found.get("ScheduledWorkitemCodeSequence") or ()
    }
    of_dicom = {value for value, scheme in kinds if scheme == "DCM" and value}
    if of_dicom and INTERPRETATION.value not in of_dicom:
        return False
    return is_of(found, study)


def is_of(found: Dataset, study: StudyRef) -> bool:
    """Say whether an answer is about this very study, whatever is to be done with it."""
    requests = list(found.get("ReferencedRequestSequence") or ())
    named = [str(one.get("StudyInstanceUID") or "") for one in (found, *requests)]
    if any(named):
        return study.study_uid in named
    same_patient = str(found.get("PatientID") or "").strip() == study.patient_id.strip()
    orders = {str(one.get("AccessionNumber") or "").strip() for one in requests} - {""}
    return bool(same_patient and study.accession_number.strip() in orders)


def task_of(found: Dataset) -> Task:
    """Return what counts of an answer."""
    return Task(
        uid=str(found.get("SOPInstanceUID") or ""),
        state=str(found.get("ProcedureStepState") or "").strip().upper(),
        priority=str(found.get("ScheduledProcedureStepPriority") or "").strip().upper(),
        changed_at=_moment(str(found.get("ScheduledProcedureStepModificationDateTime") or "")),
    )


def _moment(written: str) -> datetime | None:
    """Read a DT; one without a zone is of the zone of this host."""
    try:
        return DT(written.strip()).astimezone() if written.strip() else None
    except (ValueError, OverflowError):
        return None


def task_uid(study: StudyRef, revision: int) -> str:
    """Return the UID of the task that we create for an alert.

    The same however often it is tried and by whichever way. A later alert of the study has another:
    a task that is over never opens again.
    """
    return result_uid("ups", study.study_uid, str(revision))


def new_task(study: StudyRef, now: datetime) -> Dataset:
    """Return the attributes of a new task to read a study, with priority HIGH.

    Parameters
    ----------
    study : StudyRef
        The study.
    now : datetime
        Aware; when the task may be begun.
    """
    task = Dataset()
    task.SpecificCharacterSet = "ISO_IR 192"
    task.TransactionUID = ""
    task.ScheduledProcedureStepPriority = HIGH
    task.ProcedureStepLabel = LABEL
    task.WorklistLabel = ""
    task.ScheduledProcessingParametersSequence = []
    task.ScheduledStationNameCodeSequence = []
    task.ScheduledStationClassCodeSequence = []
    task.ScheduledStationGeographicLocationCodeSequence = []
    task.ScheduledProcedureStepStartDateTime = now.strftime("%Y%m%d%H%M%S%z")
    task.ScheduledWorkitemCodeSequence = [_code(INTERPRETATION)]
    task.InputReadinessState = "READY"
    task.InputInformationSequence = [_input(study)] if study.instances else []
    task.StudyInstanceUID = study.study_uid
    task.AdmissionID = ""
    task.IssuerOfAdmissionIDSequence = []
    task.AdmittingDiagnosesDescription = ""
    task.AdmittingDiagnosesCodeSequence = []
    task.ReferencedRequestSequence = [_request(study)]
    task.ProcedureStepState = SCHEDULED
    task.ProcedureStepProgressInformationSequence = []
    task.UnifiedProcedureStepPerformedProcedureSequence = []
    _name_patient(task, study)
    return task


def _name_patient(task: Dataset, study: StudyRef) -> None:
    """Name the patient as the images do; what cannot be a value of its kind is left empty."""
    birth_date, sex = study.patient_birth_date, study.patient_sex
    task.PatientName = study.patient_name[: 3 * _LONGEST]
    task.PatientID = study.patient_id[:_LONGEST]
    if study.issuer_of_patient_id:
        task.IssuerOfPatientID = study.issuer_of_patient_id[:_LONGEST]
    task.PatientBirthDate = birth_date if re.fullmatch("[0-9]{8}", birth_date) else ""
    task.PatientSex = sex if sex in ("M", "F", "O") else ""


def _request(study: StudyRef) -> Dataset:
    request = Dataset()
    request.StudyInstanceUID = study.study_uid
    request.AccessionNumber = study.accession_number[:16]
    request.RequestedProcedureID = ""
    request.RequestedProcedureDescription = ""
    request.RequestedProcedureCodeSequence = []
    return request


def _input(study: StudyRef) -> Dataset:
    """Refer to the series that the alert is about."""
    series = Dataset()
    series.TypeOfInstances = "DICOM"
    series.StudyInstanceUID = study.study_uid
    series.SeriesInstanceUID = study.series_uid
    series.ReferencedSOPSequence = list(_references(study.instances))
    return series


def _references(instances: Iterable[tuple[str, str]]) -> Iterable[Dataset]:
    for sop_class_uid, sop_uid in instances:
        reference = Dataset()
        reference.ReferencedSOPClassUID = sop_class_uid
        reference.ReferencedSOPInstanceUID = sop_uid
        yield reference


def _code(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme_designator
    item.CodeMeaning = code.meaning
    return item
