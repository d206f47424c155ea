"""The Key Object Selection, written and re-read."""

from __future__ import annotations

import highdicom as hd
import pytest
from pydicom import dcmread

from ichnode.domain.findings import Presence
from ichnode.report.stage import ReportStage
from ichnode.settings import ReportSettings
from ichnode.spool import resolve
from tests.documents import (
    MODEL_UID,
    ct_slice,
    document_work,
    keep,
    keep_series,
    part10,
    request_attributes,
    result,
)


@pytest.fixture(scope="module")
def spool(tmp_path_factory):
    return tmp_path_factory.mktemp("spool")


@pytest.fixture(scope="module")
def instances(spool):
    """Five slices, with an order."""
    return keep_series(spool, 5, RequestAttributesSequence=[request_attributes()])


def write(spool, work, settings=None):
    """Build a document and re-read it."""
    built = ReportStage(spool, settings or ReportSettings()).handle(work)
    return dcmread(resolve(spool, built.path))


def items(document, value_type):
    return [item for item in document.ContentSequence if item.ValueType == value_type]


def images(document):
    """What the image items refer to: (SOP Instance UID, frame)."""
    references = [item.ReferencedSOPSequence[0] for item in items(document, "IMAGE")]
    return [(one.ReferencedSOPInstanceUID, one.get("ReferencedFrameNumber")) for one in references]


def evidence(document):
    """The study, the series and the images of the evidence."""
    (study,) = document.CurrentRequestedProcedureEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    named = [one.ReferencedSOPInstanceUID for one in series.ReferencedSOPSequence]
    return study.StudyInstanceUID, series.SeriesInstanceUID, named


def test_it_has_all_that_the_standard_asks_for(spool, instances):
    """Each mandatory attribute of the modules of PS3.3 A.35.4 has its value."""
    work = document_work(instances, "kos")
    document = write(spool, work)
    assert document.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.59"
    assert document.SOPInstanceUID == work.sop_uid
    for empty_or_not in (  # type 2
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
        "StudyDate",
        "StudyTime",
        "ReferringPhysicianName",
        "StudyID",
        "AccessionNumber",
        "ReferencedPerformedProcedureStepSequence",
        "Manufacturer",
    ):
        assert empty_or_not in document, empty_or_not
    assert document.StudyInstanceUID == work.study_uid
    assert document.SeriesInstanceUID not in {work.series_uid, work.study_uid}
    assert (document.Modality, document.SeriesNumber, document.InstanceNumber) == ("KO", 9005, 1)
    assert (document.ContentDate, len(document.ContentTime)) == ("20260304", 6)
    assert (document.ValueType, document.ContinuityOfContent) == ("CONTAINER", "SEPARATE")
    (title,) = document.ConceptNameCodeSequence
    assert (title.CodeValue, title.CodingSchemeDesignator) == ("113000", "DCM")
    (template,) = document.ContentTemplateSequence
    assert (template.MappingResource, template.TemplateIdentifier) == ("DCMR", "2010")
    assert document.ReferencedRequestSequence[0].RequestedProcedureID == "RP-1"
    assert document.ContributingEquipmentSequence[0].DeviceUID == MODEL_UID


def test_it_has_nothing_that_belongs_to_reports_alone(spool, instances):
    """A selection has no flags of completion and no person's verification."""
    document = write(spool, document_work(instances, "kos"))
    for alien in ("CompletionFlag", "VerificationFlag", "PreliminaryFlag", "ContentLabel"):
        assert alien not in document, alien


def test_it_names_the_key_slices_of_what_is_present_and_no_other(spool, instances):
    """That of "any" first; in the evidence are the same, and only those."""
    document = write(spool, document_work(instances, "kos"))
    expected = [instances[-2].header.sop_uid, instances[0].header.sop_uid]
    assert images(document) == [(uid, None) for uid in expected]
    work = document_work(instances, "kos")
    assert evidence(document) == (work.study_uid, work.series_uid, sorted(expected))


def test_a_slice_of_several_labels_is_named_once(spool, instances):
    """With each of its labels in the words."""
    uids = [one.header.sop_uid for one in instances]
    present = {"subdural": Presence.PRESENT, "epidural": Presence.UNDETERMINED}
    document = write(spool, document_work(instances, "kos", result=result(uids, presences=present)))
    assert images(document) == [(uids[-2], None), (uids[0], None)]
    (told,) = (one for one in items(document, "TEXT") if "not for" in one.TextValue)
    assert "image 4 (any haemorrhage 97 %)" in told.TextValue
    assert "image 1 (intraparenchymal 91 %, subdural 30 %)" in told.TextValue
    assert "epidural" not in told.TextValue


def test_its_description_says_what_it_is(spool, instances):
    """AI, preliminary, not for diagnostic use, and which model."""
    document = write(spool, document_work(instances, "kos"))
    description = items(document, "TEXT")[-1]
    assert description.ConceptNameCodeSequence[0].CodeValue == "113012"
    assert description.TextValue.startswith("AI output, preliminary, not for diagnostic use.")
    assert "ichnode-ich-test 2026.1" in description.TextValue
    assert document.SeriesDescription == "AI ICH key slices - NOT FOR DIAGNOSIS"


def test_highdicom_reads_it(spool, instances):
    """As a selection by a device, with references that it can resolve."""
    document = hd.ko.KeyObjectSelectionDocument.from_dataset(
        write(spool, document_work(instances, "kos"))
    )
    (observer,) = document.content.get_observer_contexts()
    assert observer.observer_identifying_attributes.uid == MODEL_UID
    assert len(document.content.get_references()) == 2
    key = instances[-2].header
    assert document.resolve_reference(key.sop_uid) == (key.study_uid, key.series_uid, key.sop_uid)


def test_a_frame_of_a_multiframe_image_is_referred_to(spool):
    """Key slices that are frames of one object are items with a frame each, and one evidence."""
    enhanced = "1.2.840.10008.5.1.4.1.1.2.1"
    image = keep(spool, part10(ct_slice(0, name="frames", SOPClassUID=enhanced)))
    uid = image.header.sop_uid
    given = result([f"{uid}#1", f"{uid}#2", f"{uid}#3"])
    document = write(spool, document_work((image,), "kos", result=given))
    assert images(document) == [(uid, 2), (uid, 1)]
    assert evidence(document)[2] == [uid]
    assert "image 1 frame 2 (any" in items(document, "TEXT")[-1].TextValue


def test_names_come_through_in_whatever_character_set(spool):
    """The patient's bytes are those of the images, with their declaration."""
    name = "Müller^Łucja"
    utf8 = keep_series(spool, 3, name="utf8", SpecificCharacterSet="ISO_IR 192", PatientName=name)
    document = write(spool, document_work(utf8, "kos"))
    assert (document.SpecificCharacterSet, document.PatientName) == ("ISO_IR 192", name)


def test_the_same_work_gives_the_same_bytes(spool, instances):
    """Built twice, by another instance of the stage too, it is byte for byte one."""
    work = document_work(instances, "kos")
    settings = ReportSettings(series_number_kos=77)
    assert ReportStage(spool, settings).handle(work) == ReportStage(spool, settings).handle(work)
    assert write(spool, work, settings).SeriesNumber == 77
