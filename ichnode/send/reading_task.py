"""The reading task that we create where a destination has none and says that we may.

References
----------
DICOM PS3.4 Table CC.2.5-3, the column for N-CREATE.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime

from pydicom import Dataset
from pydicom.sr.coding import Code

from ichnode.domain.work import StudyRef

INTERPRETATION = Code("110005", "DCM", "Interpretation")  # CID 9231
LABEL = "Interpretation - AI flag: suspected ICH"
_LONGEST = 64


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
    task.ScheduledProcedureStepPriority = "HIGH"
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
    task.ProcedureStepState = "SCHEDULED"
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
