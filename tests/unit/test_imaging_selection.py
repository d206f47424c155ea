"""What the tags alone refuse, and what they must not refuse."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ichnode.domain.errors import NotAnalysable
from ichnode.domain.reasons import Reason
from ichnode.domain.series import Header
from ichnode.imaging.kernels import sharpness
from ichnode.imaging.selection import age_years, analysable, judge_headers, objection

PLAIN = Header(
    sop_uid="1.2.3.4",
    sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
    series_uid="1.2.3",
    study_uid="1.2",
    modality="CT",
    manufacturer="SIEMENS",
    kernel="H37s",
    image_type=("ORIGINAL", "PRIMARY", "AXIAL"),
    orientation=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    patient_age="064Y",
    series_description="Head 5.0 H37s",
)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_name": "ichnode"}, Reason.OWN_DOCUMENT),
        ({"sop_class_uid": "1.2.840.10008.5.1.4.1.1.88.67"}, Reason.DOSE_REPORT),
        ({"image_type": ("DERIVED", "SECONDARY", "SCREEN SAVE")}, Reason.DOSE_REPORT),
        ({"series_description": "Dose Report"}, Reason.DOSE_REPORT),
        (
            {"sop_class_uid": "1.2.840.10008.5.1.4.1.1.7", "series_description": "Exam Summary"},
            Reason.DOSE_REPORT,
        ),
        ({"sop_class_uid": "1.2.840.10008.5.1.4.1.1.7"}, Reason.SECONDARY_CAPTURE),
        ({"sop_class_uid": "1.2.840.10008.5.1.4.1.1.7.2"}, Reason.SECONDARY_CAPTURE),
        ({"sop_class_uid": "1.2.840.10008.5.1.4.1.1.4", "modality": "MR"}, Reason.NOT_CT),
        ({"sop_class_uid": "1.2.840.10008.5.1.4.1.1.88.33", "modality": "SR"}, Reason.NOT_CT),
        ({"modality": "PT"}, Reason.NOT_CT),
        ({"image_type": ("ORIGINAL", "PRIMARY", "LOCALIZER")}, Reason.LOCALIZER),
        ({"series_description": "Topogram 0.6"}, Reason.LOCALIZER),
        ({"image_type": ("DERIVED", "PRIMARY", "AXIAL", "IODINE")}, Reason.SPECTRAL),
        ({"series_description": "MonoE 40keV"}, Reason.SPECTRAL),
        ({"series_description": "VNC Head"}, Reason.SPECTRAL),
        ({"series_description": "CT Perfusion 4D"}, Reason.PERFUSION),
        ({"series_description": "TestBolus"}, Reason.PERFUSION),
        ({"contrast_agent": "Iohexol 350"}, Reason.CONTRAST),
        ({"series_description": "CTA Head 0.75"}, Reason.CONTRAST),
        ({"series_description": "HEAD W CON"}, Reason.CONTRAST),
        ({"series_description": "Head with contrast"}, Reason.CONTRAST),
        ({"series_description": "Head_post_contrast"}, Reason.CONTRAST),
        ({"series_description": "Head C+"}, Reason.CONTRAST),
        ({"protocol_name": "CTA_Head_Neck"}, Reason.CONTRAST),
        ({"protocol_name": "Brain with contrast"}, Reason.CONTRAST),
        ({"image_type": ("DERIVED", "SECONDARY", "REFORMATTED", "AVERAGE")}, Reason.DERIVED),
        ({"image_type": ("DERIVED", "PRIMARY", "MPR")}, Reason.DERIVED),
        ({"image_type": ("DERIVED", "SECONDARY")}, Reason.DERIVED),
        ({"orientation": (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)}, Reason.NOT_AXIAL),
        ({"kernel": "H70h"}, Reason.SHARP_KERNEL),
        ({"patient_age": "006Y"}, Reason.OUT_OF_SCOPE_AGE),
        ({"patient_age": "010M"}, Reason.OUT_OF_SCOPE_AGE),
        (
            {"patient_age": "", "patient_birth_date": "20200310", "study_date": "20260309"},
            Reason.OUT_OF_SCOPE_AGE,
        ),
    ],
)
def test_each_gate_states_its_reason(changes, reason):
    """A series that the tags speak against is refused for good, with that reason."""
    with pytest.raises(NotAnalysable) as caught:
        judge_headers([replace(PLAIN, **changes)] * 3)
    assert caught.value.reason is reason
    assert not caught.value.may_change


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"sop_class_uid": "1.2.840.10008.5.1.4.1.1.2.1"},
        {"sop_class_uid": "1.2.840.10008.5.1.4.1.1.2.2"},
        {"body_part": "ABDOMEN"},
        {"body_part": ""},
        {"image_type": ()},
        {"image_type": ("DERIVED", "SECONDARY", "AXIAL")},
        {"image_type": ("DERIVED", "PRIMARY")},
        {"orientation": None},
        {"kernel": ""},
        {"kernel": "STD+", "manufacturer": "GE MEDICAL SYSTEMS"},
        {"contrast_agent": "NONE"},
        {"contrast_agent": "W/O"},
        {"series_description": "HEAD WITHOUT CONTRAST"},
        {"series_description": "HEAD W/O CON"},
        {"series_description": "HEAD WO CONTRAST"},
        {"series_description": "Posterior fossa"},
        {"series_description": "post op head"},
        {"series_description": "HEAD C-"},
        {"protocol_name": "HEAD W/O CONTRAST"},
        {"series_description": "NCCT 5mm", "protocol_name": "Stroke NCCT CTA CTP"},
        {"series_description": "Head plain 5.0", "protocol_name": "ANGIO HEAD"},
        {"study_description": "CT head with contrast"},
        {"series_description": "DE_Head F_0.5"},
        {"series_description": "MonoE 70keV"},
        {"patient_age": "007Y"},
        {"patient_age": "102Y"},
        {"patient_age": "unknown"},
        {"patient_age": "", "patient_birth_date": "19600101", "study_date": ""},
        {"model_name": "ichnode phantom"},
    ],
)
def test_an_ordinary_head_is_not_refused_by_its_tags(changes):
    """Empty, wrong or negated tags do not lose a head CT."""
    assert objection(replace(PLAIN, **changes)) is None


def test_a_localizer_among_slices_is_dropped():
    """What speaks against one instance only drops that one."""
    scout = replace(PLAIN, image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"))
    assert analysable([PLAIN, scout, PLAIN]) == (PLAIN, PLAIN)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"contrast_agent": "Iomeron"}, Reason.CONTRAST),
        ({"patient_age": "003Y"}, Reason.OUT_OF_SCOPE_AGE),
    ],
)
def test_contrast_and_age_hold_for_the_whole_series(changes, reason):
    """One slice with contrast medium means that the patient had some."""
    with pytest.raises(NotAnalysable) as caught:
        judge_headers([PLAIN, replace(PLAIN, **changes), PLAIN])
    assert caught.value.reason is reason


def test_the_reason_of_most_instances_is_stated():
    """A series of scouts with one dose sheet is a series of scouts."""
    scout = replace(PLAIN, image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"))
    with pytest.raises(NotAnalysable) as caught:
        judge_headers([scout, replace(PLAIN, series_description="Dose Report"), scout])
    assert caught.value.reason is Reason.LOCALIZER


def test_nothing_yet_may_change():
    """An empty set is refused only until something comes."""
    with pytest.raises(NotAnalysable) as caught:
        judge_headers([])
    assert caught.value.may_change


@pytest.mark.parametrize(
    ("kernel", "manufacturer", "expected"),
    [
        ("H37s", "SIEMENS", "soft"),
        ("J37s\\1", "SIEMENS", "soft"),
        ("Hr38s", "Siemens Healthineers", "soft"),
        ("Qr40s", "SIEMENS", "soft"),
        ("H60s", "SIEMENS", "sharp"),
        ("Hr68h", "SIEMENS", "sharp"),
        ("U90u", "SIEMENS", "sharp"),
        ("H50s", "SIEMENS", "unknown"),
        ("STANDARD", "GE MEDICAL SYSTEMS", "soft"),
        ("BONEPLUS", "GE MEDICAL SYSTEMS", "sharp"),
        ("DETAIL", "GE MEDICAL SYSTEMS", "unknown"),
        ("STD+", "GE MEDICAL SYSTEMS", "unknown"),
        ("UB", "Philips", "soft"),
        ("YC", "Philips Medical Systems", "sharp"),
        ("UB", "SIEMENS", "unknown"),
        ("Bone", "", "sharp"),
        ("STANDARD", "Anonymised", "soft"),
        ("FC26", "TOSHIBA", "soft"),
        ("FC30", "CANON", "sharp"),
        ("FC68", "CANON", "soft"),
        ("FC12", "TOSHIBA", "unknown"),
        ("", "", "unknown"),
        ("ANONYMIZED", "GE", "unknown"),
    ],
)
def test_kernels_are_known_by_vendor(kernel, manufacturer, expected):
    """The tables say soft, sharp, or nothing."""
    assert sharpness(kernel, manufacturer) == expected


@pytest.mark.parametrize(
    ("age", "born", "seen", "years"),
    [
        ("064Y", "", "", 64.0),
        ("018M", "", "", 1.5),
        ("", "19700615", "20260614", 55.0),
        ("", "19700615", "20260615", 56.0),
        ("", "1970", "20260615", None),
        ("", "20270615", "20260615", None),
    ],
)
def test_age_is_stated_or_computed(age, born, seen, years):
    """Patient's Age first, else the difference of the dates; nonsense is unknown."""
    header = replace(PLAIN, patient_age=age, patient_birth_date=born, study_date=seen)
    assert age_years(header) == years
