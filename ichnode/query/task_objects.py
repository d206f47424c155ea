"""A reading task as a Unified Procedure Step.

References
----------
DICOM PS3.3 C.30 (UPS modules); PS3.4 Table CC.2.5-3 (what each service returns)
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from pydicom import DataElement, Dataset, config
from pydicom.datadict import dictionary_VR, tag_for_keyword

from ichnode.domain.lifecycle import Band
from ichnode.domain.tasks import ListedInstance, ListedStudy, ReadingTask

PUSH = "1.2.840.10008.5.1.4.34.6.1"  # the class of every instance, whatever was negotiated
_LONGEST = 64
NOTE = "AI triage, preliminary, not for diagnostic use."
_LABELS = {
    Band.URGENT: "Interpretation, AI triage: urgent",
    Band.REVIEW: "Interpretation, AI triage: review",
    Band.ROUTINE: "Interpretation",
    Band.NOT_ANALYSED: "Interpretation, not analysed",
}


def task_object(
    task: ReadingTask,
    alike: Dataset,
    retrieve_ae_title: str,
    instances: Iterable[ListedInstance] | None = None,
) -> Dataset:
    """Return all attributes of a task; the Transaction UID is never among them.

    Parameters
    ----------
    alike : Dataset
        What all tasks say, see `always`.
    retrieve_ae_title : str
        Where the images can be had; empty where nobody said.
    instances : iterable of ListedInstance, optional
        The images to be read; without them there is no Input Information.
    """
    study = task.study
    found = Dataset()
    found.update(alike)  # Dataset(alike) would be one with it, and with every other task
    found.SOPClassUID, found.SOPInstanceUID = PUSH, task.uid
    found.ScheduledProcedureStepPriority = task.priority
    found.ScheduledProcedureStepModificationDateTime = moment(task.changed_at)
    found.ProcedureStepLabel = _LABELS[study.band]
    found.CommentsOnTheScheduledProcedureStep = f"{study.sentence} {NOTE}"
    found.ScheduledProcedureStepStartDateTime = moment(study.arrived_at)
    arriving = not study.series or any(one.arriving for one in study.series)
    found.InputReadinessState = "INCOMPLETE" if arriving else "READY"
    if instances is not None:
        found.InputInformationSequence = [
            _input(study.study_uid, series.series_uid, retrieve_ae_title, instances)
            for series in study.series
        ]
    put(found, StudyInstanceUID=study.study_uid)
    name_patient(found, study)
    found.ReferencedRequestSequence = [_request(study)]
    found.ProcedureStepState = task.state.value.replace("_", " ").upper()
    for element in set_by_clients(task.attributes):
        found[element.tag] = element
    return found


def always(worklist_label: str) -> Dataset:
    """Return what all tasks say alike, until a client says otherwise."""
    found = Dataset()
    found.WorklistLabel = worklist_label
    found.ScheduledProcessingParametersSequence = []
    found.ScheduledStationNameCodeSequence = []
    found.ScheduledStationClassCodeSequence = []
    found.ScheduledStationGeographicLocationCodeSequence = []
    found.ScheduledHumanPerformersSequence = []
    found.ScheduledWorkitemCodeSequence = [code("110005", "Interpretation")]
    found.ExpectedCompletionDateTime = ""
    found.AdmissionID = ""
    found.IssuerOfAdmissionIDSequence = []
    found.AdmittingDiagnosesDescription = ""
    found.AdmittingDiagnosesCodeSequence = []
    found.ProcedureStepProgressInformationSequence = []
    found.UnifiedProcedureStepPerformedProcedureSequence = []
    return found


@lru_cache(maxsize=256)
def _parsed(attributes: str) -> Dataset:
    return Dataset.from_json(attributes)


def set_by_clients(attributes: str) -> Dataset:
    """Read what clients have set; not to be changed."""
    return _parsed(attributes)


def put(dataset: Dataset, **values: Any) -> None:
    """Set attributes to what the images say, however odd: one study must not hide the list."""
    for keyword, value in values.items():
        tag = tag_for_keyword(keyword)
        if tag is None:
            raise ValueError(f"there is no attribute {keyword}")
        vr = dictionary_VR(tag)
        dataset.add(DataElement(tag, vr, value, validation_mode=config.IGNORE))


def moment(at: datetime) -> str:
    """Return a moment as DT, in UTC."""
    return at.astimezone(UTC).strftime("%Y%m%d%H%M%S.%f+0000")


def code(value: str, meaning: str) -> Dataset:
    """Return a code of DICOM's own."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item


def name_patient(found: Dataset, study: ListedStudy) -> None:
    """Name the patient as the images do; what cannot be a value of its kind is left empty."""
    birth_date, sex = study.patient_birth_date, study.patient_sex
    put(
        found,
        PatientName=study.patient_name[: 3 * _LONGEST],
        PatientID=study.patient_id[:_LONGEST],
        IssuerOfPatientID=study.issuer_of_patient_id[:_LONGEST],
        PatientBirthDate=birth_date if re.fullmatch("[0-9]{8}", birth_date) else "",
        PatientSex=sex if sex in ("M", "F", "O") else "",
    )


def _request(study: ListedStudy) -> Dataset:
    request = Dataset()
    put(
        request,
        StudyInstanceUID=study.study_uid,
        AccessionNumber=study.accession_number[:16],
        RequestedProcedureID="",
        RequestedProcedureDescription=study.study_description[:_LONGEST],
        RequestedProcedureCodeSequence=[],
    )
    return request


def _input(
    study_uid: str, series_uid: str, retrieve_ae_title: str, instances: Iterable[ListedInstance]
) -> Dataset:
    series = Dataset()
    series.TypeOfInstances = "DICOM"
    put(series, StudyInstanceUID=study_uid, SeriesInstanceUID=series_uid)
    series.ReferencedSOPSequence = [
        _reference(one) for one in instances if one.series_uid == series_uid
    ]
    if retrieve_ae_title:
        retrieval = Dataset()
        retrieval.RetrieveAETitle = retrieve_ae_title
        series.DICOMRetrievalSequence = [retrieval]
    return series


def _reference(instance: ListedInstance) -> Dataset:
    reference = Dataset()
    put(
        reference,
        ReferencedSOPClassUID=instance.sop_class_uid,
        ReferencedSOPInstanceUID=instance.sop_uid,
    )
    return reference
