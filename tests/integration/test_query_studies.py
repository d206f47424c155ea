"""The plain Study Root query: studies in the list's order, series and images of one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ichnode.domain.findings import Finding
from ichnode.worklist.worklist import Worklist
from tests.integration.test_query_tasks import record
from tests.query_kit import STUDY_ROOT, client, find, published
from tests.worklist_kit import slices


@pytest.fixture
def engine_name() -> str:
    """SQLite: the statements are those of the tasks."""
    return "sqlite"


@pytest.fixture
def association(worklist: Worklist, tmp_path: Path) -> Iterator[Any]:
    """A client of a receiver that says where the images are."""
    with (
        published(worklist, tmp_path, retrieve_ae_title="PACS") as receiver,
        client(receiver.port, STUDY_ROOT) as asking,
    ):
        yield asking


def test_studies_are_found_in_the_lists_order(worklist: Worklist, association: Any) -> None:
    """By name, number, date and order; with what the rows hold of them."""
    record(worklist, study_date="20260301", patient_name="Roe^Jane")
    urgent = record(worklist, Finding.POSITIVE, study_date="20260228", study_description="CT head")
    keys = {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "", "StudyDate": ""}

    def found(**more: object) -> list[Any]:
        matches, status, _ = find(association, STUDY_ROOT, **(keys | more))
        assert status == 0
        return matches

    listed = [row.study_uid for row in worklist.views.reading_list()]
    assert [one.StudyInstanceUID for one in found()] == listed
    (one,) = found(
        PatientName="doe*",
        StudyDate="20260201-20260301",
        ModalitiesInStudy="CT",
        NumberOfStudyRelatedInstances="",
        NumberOfStudyRelatedSeries="",
        StudyDescription="",
        AccessionNumber="A1",
    )
    assert one.StudyInstanceUID == urgent
    assert (one.NumberOfStudyRelatedSeries, one.NumberOfStudyRelatedInstances) == (1, 2)
    assert (one.StudyDescription, one.RetrieveAETitle) == ("CT head", "PACS")
    assert one.QueryRetrieveLevel == "STUDY"
    assert found(ModalitiesInStudy="MR") == []
    assert found(StudyDate="20270101-") == []
    assert len(found(StudyDate="20260301")) == 1


def test_series_and_images_of_one_study(worklist: Worklist, association: Any) -> None:
    """With the unique keys of the levels above, and with nothing less."""
    first, second = slices(3), slices(2)
    study_uid = first[0].header.study_uid
    of_first = [
        replace(one, header=replace(one.header, study_uid=study_uid, series_number=7))
        for one in second
    ]
    worklist.record([*first, *of_first])
    found, status, _ = find(
        association,
        STUDY_ROOT,
        QueryRetrieveLevel="SERIES",
        StudyInstanceUID=study_uid,
        SeriesInstanceUID="",
        SeriesNumber="7",
        NumberOfSeriesRelatedInstances="",
    )
    assert (status, len(found)) == (0, 1)
    assert found[0].SeriesInstanceUID == second[0].header.series_uid
    assert found[0].NumberOfSeriesRelatedInstances == 2
    images, status, _ = find(
        association,
        STUDY_ROOT,
        QueryRetrieveLevel="IMAGE",
        StudyInstanceUID=study_uid,
        SeriesInstanceUID=first[0].header.series_uid,
        SOPInstanceUID="",
        InstanceNumber="",
    )
    assert (status, [one.InstanceNumber for one in images]) == (0, [1, 2, 3])
    for wrong in (
        {"QueryRetrieveLevel": "SERIES", "SeriesInstanceUID": ""},
        {"QueryRetrieveLevel": "SERIES", "StudyInstanceUID": ["1.2", "1.3"]},
        {"QueryRetrieveLevel": "IMAGE", "StudyInstanceUID": study_uid},
        {"QueryRetrieveLevel": "PATIENT", "PatientID": ""},
        {"PatientID": ""},
    ):
        assert find(association, STUDY_ROOT, **wrong)[1] == 0xA900, wrong
