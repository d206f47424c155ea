"""The Structured Report, written and re-read before anything is said of it."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread

from ichnode.domain.findings import LABELS, Finding, Presence
from ichnode.domain.ids import result_uid
from ichnode.domain.work import DocumentRef
from ichnode.report.source import Source
from ichnode.report.stage import ReportStage
from ichnode.report.structured_report import SR_CLASSES, structured_report
from ichnode.settings import ReportSettings
from ichnode.spool import document_path, resolve
from tests.documents import (
    MODEL_UID,
    ct_slice,
    document_work,
    keep,
    keep_series,
    part10,
    result,
    with_volume,
)


@pytest.fixture(scope="module")
def spool(tmp_path_factory):
    return tmp_path_factory.mktemp("spool")


@pytest.fixture(scope="module")
def instances(spool):
    """Five slices."""
    return keep_series(spool, 5)


def write(spool, work, settings=None):
    """Build a report and return its path."""
    return resolve(spool, ReportStage(spool, settings or ReportSettings()).handle(work).path)


def items(container, code):
    """Return the content items of a container with this concept name."""
    return [
        item
        for item in container.ContentSequence
        if item.ConceptNameCodeSequence[0].CodeValue == code
    ]


def groups(report):
    """Return the six measurement groups."""
    (measurements,) = items(report, "126010")
    return items(measurements, "125007")


def presence_of(group):
    (item,) = items(group, "705057003")
    return item.ConceptCodeSequence[0].CodeMeaning


def test_the_report_is_a_tid_1500_that_highdicom_reads(spool, instances):
    """Highdicom parses it as TID 1500 with one group per label, in the order of labels."""
    path = write(spool, document_work(instances))
    report = hd.sr.srread(path)
    assert isinstance(report, hd.sr.Comprehensive3DSR)
    assert isinstance(report.content, hd.sr.MeasurementReport)
    found = report.content.get_image_measurement_groups()
    assert [group.tracking_identifier for group in found] == [f"ICH-{label}" for label in LABELS]
    assert len({group.tracking_uid for group in found}) == 6
    evidence = {sop_uid for _, _, sop_uid, _ in report.get_evidence()}
    assert evidence == {one.header.sop_uid for one in instances}


def test_images_that_were_left_out_are_no_evidence(spool, instances):
    """What was not looked at is not named as if it had been."""
    seen = [one.header.sop_uid for one in instances[:-2]]
    report = dcmread(write(spool, document_work(instances, result=result(seen))))
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    named = [item.ReferencedSOPInstanceUID for item in series.ReferencedSOPSequence]
    assert named == sorted(seen)


def test_a_positive_report_says_what_was_found_and_where(spool, instances):
    """Presence, certainty, key slice and significance of a positive are those of the result."""
    report = dcmread(write(spool, document_work(instances)))
    first, *others = groups(report)
    assert presence_of(first) == "Present"
    assert items(first, "111012")[0].MeasuredValueSequence[0].NumericValue == 97.0
    assert items(first, "121403")[0].ConceptCodeSequence[0].CodeValue == "RID49480"
    (image,) = items(first, "121112")
    reference = image.ReferencedSOPSequence[0]
    assert reference.ReferencedSOPInstanceUID == instances[-2].header.sop_uid
    assert items(first, "121106")[0].TextValue.startswith("Not for diagnostic use")
    assert [presence_of(group) for group in others] == [
        "Absent",
        "Present",
        "Absent",
        "Absent",
        "Absent",
    ]
    assert [len(items(group, "121112")) for group in others] == [0, 1, 0, 0, 0]
    assert items(others[1], "111012")[0].MeasuredValueSequence[0].NumericValue == 91.3
    assert not any(items(group, "121403") for group in others)


def test_a_volume_is_a_measurement_with_its_method(spool, instances):
    """In ml, of what is present, with the method and in words that the truth was simulated."""
    uids = [one.header.sop_uid for one in instances]
    stated = with_volume(result(uids), 12.34, np.zeros((512, 512), bool))
    path = write(spool, document_work(instances, result=stated))
    first, *others = groups(dcmread(path))
    (volume,) = items(first, "118565006")
    (value,) = volume.MeasuredValueSequence
    assert value.NumericValue == 12.3
    assert value.MeasurementUnitsCodeSequence[0].CodeValue == "ml"
    assert value.MeasurementUnitsCodeSequence[0].CodingSchemeDesignator == "UCUM"
    (method,) = items(volume, "370129005")
    assert method.ConceptCodeSequence[0].CodeValue == "126030"
    assert "simulated" in items(volume, "111002")[0].TextValue
    assert items(volume, "111001")[0].TextValue == "ichnode-ich-test"
    assert "no measurement to treat by" in items(first, "121106")[0].TextValue
    assert [len(items(group, "118565006")) for group in others] == [0, 1, 0, 0, 0]
    report = hd.sr.srread(path)
    measured = report.content.get_image_measurement_groups()[0].get_measurements()
    assert [one.name.meaning for one in measured] == ["Certainty of Finding", "Volume"]


def test_without_a_volume_nothing_is_said_of_one(spool, instances):
    """A model that measures none writes the report that it always wrote."""
    path = write(spool, document_work(instances))
    assert b"118565006" not in path.read_bytes()
    assert b"volume" not in path.read_bytes().lower()


def test_a_review_is_undetermined_and_not_actionable(spool, instances):
    """REVIEW writes Undetermined with its key slice and no level of significance."""
    report = dcmread(write(spool, document_work(instances, finding=Finding.REVIEW)))
    first = groups(report)[0]
    assert presence_of(first) == "Undetermined"
    assert len(items(first, "121112")) == 1
    assert items(first, "121403") == []


def test_a_negative_states_absences_and_points_to_no_slice(spool, instances):
    """A negative has six absences with their certainty; only the evidence names the images."""
    report = dcmread(write(spool, document_work(instances, finding=Finding.NEGATIVE)))
    assert [presence_of(group) for group in groups(report)] == ["Absent"] * 6
    assert not any(items(group, "121112") for group in groups(report))
    assert all(items(group, "111012") for group in groups(report))
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    assert len(series.ReferencedSOPSequence) == 5


def test_it_says_that_nobody_has_verified_it(spool, instances):
    """Flags, title and description say what the document is."""
    report = dcmread(write(spool, document_work(instances)))
    assert report.VerificationFlag == "UNVERIFIED"
    assert report.PreliminaryFlag == "PRELIMINARY"
    assert report.CompletionFlag == "COMPLETE"
    assert report.SeriesDescription == "AI ICH triage - NOT FOR DIAGNOSIS"
    assert report.Modality == "SR"
    assert report.SeriesNumber == 9001
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"


def test_the_equalities_of_ihe_air_hold(spool, instances):
    """Contributing Equipment, device observer and algorithm name one model alike."""
    settings = ReportSettings(manufacturer="Hersteller GmbH")
    report = dcmread(write(spool, document_work(instances), settings))
    (equipment,) = report.ContributingEquipmentSequence
    assert equipment.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
    assert equipment.DeviceUID == MODEL_UID == items(report, "121012")[0].UID
    assert equipment.Manufacturer == items(report, "121014")[0].TextValue == "Hersteller GmbH"
    assert equipment.ManufacturerModelName == items(report, "121015")[0].TextValue
    for group in groups(report):
        assert items(group, "111001")[0].TextValue == equipment.ManufacturerModelName
        assert items(group, "111003")[0].TextValue == equipment.SoftwareVersions == "2026.1"
        assert items(group, "123110") == []
    assert report.ManufacturerModelName == "ichnode"  # the packager, not the model


def test_the_operating_point_is_stated_once(spool, instances):
    """Thresholds stand with "any" and nowhere else."""
    report = dcmread(write(spool, document_work(instances)))
    stated = [[item.TextValue for item in items(group, "111002")] for group in groups(report)]
    assert stated == [["threshold_any=0.5", "threshold_review=0.2"], [], [], [], [], []]


def test_warnings_about_the_input_are_in_the_comment(spool, instances):
    """A reader learns of gaps in what was analysed."""
    work = document_work(instances)
    work = replace(work, result=replace(work.result, warnings=("2 gaps",)))
    first = groups(dcmread(write(spool, work)))[0]
    assert items(first, "121106")[0].TextValue.endswith("Input: 2 gaps.")


@pytest.mark.parametrize("sop_class", SR_CLASSES)
def test_the_class_is_the_one_that_was_asked_for(spool, instances, sop_class):
    """Content and flags are the same in all three classes; only the class differs."""
    path = write(spool, document_work(instances, sop_class_uid=sop_class))
    report = dcmread(path)
    assert report.SOPClassUID == report.file_meta.MediaStorageSOPClassUID == sop_class
    assert hd.sr.srread(path).content[0].name.value == "126000"
    usual = dcmread(write(spool, document_work(instances)))
    assert report.ContentSequence == usual.ContentSequence


def test_the_same_work_gives_the_same_bytes(spool, instances):
    """Built twice, by two stages, a report is byte for byte one; its name is its digest."""
    work = document_work(instances)
    first = ReportStage(spool, ReportSettings()).handle(work)
    second = ReportStage(spool, ReportSettings()).handle(work)
    assert first == second
    content = resolve(spool, first.path).read_bytes()
    assert first.path == document_path(hashlib.sha256(content).hexdigest())
    assert first.size_bytes == len(content)


def test_uids_are_those_of_the_work_and_of_its_series(spool, instances):
    """SOP UID as the worklist fixed it, one series per analysed series and model."""
    work = document_work(instances)
    built = ReportStage(spool, ReportSettings()).handle(work)
    report = dcmread(resolve(spool, built.path))
    assert report.SOPInstanceUID == work.sop_uid
    assert report.StudyInstanceUID == work.study_uid
    assert report.SeriesInstanceUID == built.document_series_uid
    assert built.document_series_uid == result_uid(
        "sr-series", work.study_uid, work.series_uid, MODEL_UID
    )


def test_predecessors_are_named_and_counted(spool, instances):
    """A successor names every document that it replaces and has the next instance number."""
    study = instances[0].header.study_uid
    earlier = [
        DocumentRef(SR_CLASSES[0], result_uid("a"), result_uid("series a"), study),
        DocumentRef(SR_CLASSES[0], result_uid("b"), result_uid("series b"), study),
    ]
    report = dcmread(write(spool, document_work(instances, predecessors=tuple(earlier))))
    (named,) = report.PredecessorDocumentsSequence
    assert named.StudyInstanceUID == study
    found = {
        (series.SeriesInstanceUID, reference.ReferencedSOPInstanceUID)
        for series in named.ReferencedSeriesSequence
        for reference in series.ReferencedSOPSequence
    }
    assert found == {(one.series_uid, one.sop_uid) for one in earlier}
    assert report.InstanceNumber == 3


def test_a_frame_of_a_multiframe_image_is_referred_to(spool):
    """The key slice of an Enhanced CT is named with its frame."""
    image = keep(
        spool,
        part10(ct_slice(0, name="frames", SOPClassUID="1.2.840.10008.5.1.4.1.1.2.1")),
    )
    uid = image.header.sop_uid
    work = document_work((image,), result=result([f"{uid}#1", f"{uid}#2", f"{uid}#3"]))
    first = groups(dcmread(write(spool, work)))[0]
    reference = items(first, "121112")[0].ReferencedSOPSequence[0]
    assert reference.ReferencedSOPInstanceUID == uid
    assert reference.ReferencedFrameNumber == 2


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")  # the reader's, on re-reading
def test_uids_that_break_the_rules_are_referred_to_as_they_are(spool):
    """A scanner's UID with a leading zero is neither corrected nor fatal."""
    odd = "1.2.0840.1.7"
    pair = [
        keep(spool, part10(ct_slice(n, name="odd")).replace(*_renamed(n, odd))) for n in range(2)
    ]
    assert pair[0].header.sop_uid == f"{odd}.0"
    report = dcmread(write(spool, document_work(tuple(pair))))
    first = groups(report)[0]
    reference = items(first, "121112")[0].ReferencedSOPSequence[0]
    assert reference.ReferencedSOPInstanceUID == f"{odd}.0"


def _renamed(number, odd):
    """Return the encoded SOP Instance UID of a slice, and the odd one in the same length."""
    was = str(ct_slice(number, name="odd").SOPInstanceUID).encode()
    return was, f"{odd}.{number}".encode().ljust(len(was), b"\0")


def test_a_key_slice_outside_of_the_set_is_a_fault(spool, instances):
    """A result about other images than the work's is refused loudly."""
    work = document_work(instances, result=result(["1.2.3", "1.2.4", "1.2.5"]))
    with pytest.raises(KeyError):
        structured_report(work, ReportSettings(), Source(resolve(spool, instances[0].path)))


def test_an_undetermined_subtype_keeps_its_slice(spool, instances):
    """Present, undetermined and absent may stand side by side."""
    uids = [one.header.sop_uid for one in instances]
    mixed = result(uids, presences={"subdural": Presence.UNDETERMINED})
    report = dcmread(write(spool, document_work(instances, result=mixed)))
    assert presence_of(groups(report)[5]) == "Undetermined"
    assert len(items(groups(report)[5], "121112")) == 1


def test_a_probability_beyond_its_range_is_still_a_percentage(spool, instances):
    """Rounding noise around 0 and 1 never leaves 0 to 100 per cent."""
    uids = [one.header.sop_uid for one in instances]
    noisy = result(uids, probabilities=(1.0000001, -1e-9, 0.99949, 0.00049, 0.5, 0.5))
    report = dcmread(write(spool, document_work(instances, result=noisy)))
    values = [
        items(group, "111012")[0].MeasuredValueSequence[0].NumericValue for group in groups(report)
    ]
    assert values == [100, 0, 99.9, 0, 50, 50]
