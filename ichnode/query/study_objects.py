"""Studies, series and images of the list as answers of the Study Root query.

References
----------
DICOM PS3.4 C.6.2 (Study Root), C.4.1.1.3 (what an answer holds)
"""

from __future__ import annotations

import re
from typing import Any

from pydicom import Dataset

from ichnode.domain.tasks import ListedInstance, ListedSeries, ListedStudy
from ichnode.query.task_objects import name_patient, put

_LONGEST = 64


def study_object(study: ListedStudy, retrieve_ae_title: str) -> Dataset:
    """Return what is known of a study."""
    found = _located(retrieve_ae_title)
    found.QueryRetrieveLevel = "STUDY"
    _describe(found, study)
    modalities = sorted({one.modality for one in study.series if one.modality})
    put(found, ModalitiesInStudy=modalities or "")
    found.NumberOfStudyRelatedSeries = len(study.series)
    found.NumberOfStudyRelatedInstances = sum(one.instances for one in study.series)
    return found


def series_object(study: ListedStudy, series: ListedSeries, retrieve_ae_title: str) -> Dataset:
    """Return what is known of a series."""
    found = _located(retrieve_ae_title)
    found.QueryRetrieveLevel = "SERIES"
    put(
        found,
        StudyInstanceUID=study.study_uid,
        SeriesInstanceUID=series.series_uid,
        Modality=series.modality,
        SeriesNumber=_number(series.series_number),
        SeriesDescription=series.series_description[:_LONGEST],
        NumberOfSeriesRelatedInstances=series.instances,
    )
    return found


def image_object(study: ListedStudy, image: ListedInstance, retrieve_ae_title: str) -> Dataset:
    """Return what is known of an image."""
    found = _located(retrieve_ae_title)
    found.QueryRetrieveLevel = "IMAGE"
    put(
        found,
        StudyInstanceUID=study.study_uid,
        SeriesInstanceUID=image.series_uid,
        SOPInstanceUID=image.sop_uid,
        SOPClassUID=image.sop_class_uid,
        InstanceNumber=_number(image.instance_number),
    )
    return found


def _located(retrieve_ae_title: str) -> Dataset:
    """Say where the objects can be had: not here, there is no C-MOVE and no C-GET."""
    found = Dataset()
    if retrieve_ae_title:
        found.RetrieveAETitle = retrieve_ae_title
    found.InstanceAvailability = "ONLINE" if retrieve_ae_title else "UNAVAILABLE"
    return found


def _describe(found: Dataset, study: ListedStudy) -> None:
    date, time = study.study_date, study.study_time
    put(
        found,
        StudyInstanceUID=study.study_uid,
        StudyDate=date if re.fullmatch("[0-9]{8}", date) else "",
        StudyTime=time if re.fullmatch(r"[0-9]{2,6}(\.[0-9]{1,6})?", time) else "",
        AccessionNumber=study.accession_number[:16],
        StudyID="",
        StudyDescription=study.study_description[:_LONGEST],
    )
    name_patient(found, study)


def _number(number: int | None) -> Any:
    return "" if number is None else number
