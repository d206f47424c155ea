"""The codes that we write, pinned: value, scheme and meaning."""

from __future__ import annotations

import pytest
from pydicom.sr.codedict import codes as dictionary

from ichnode.domain.findings import LABELS, Presence
from ichnode.report import codes

PINNED = {
    "any": ("1386000", "SCT", "Intracranial hemorrhage", "1101003", "Intracranial"),
    "epidural": ("82999001", "SCT", "Epidural hemorrhage", "1101003", "Intracranial"),
    "intraparenchymal": ("274100004", "SCT", "Cerebral hemorrhage", "12738006", "Brain"),
    "intraventricular": ("23276006", "SCT", "Intraventricular hemorrhage", "12738006", "Brain"),
    "subarachnoid": (
        "21454007",
        "SCT",
        "Subarachnoid hemorrhage",
        "33930006",
        "Cranial Subarachnoid Space",
    ),
    "subdural": (
        "35486000",
        "SCT",
        "Subdural intracranial hemorrhage",
        "1101003",
        "Intracranial",
    ),
}

OTHERS = {
    "PRESENCE": ("705057003", "SCT", "Presence"),
    "CERTAINTY": ("111012", "DCM", "Certainty of Finding"),
    "PERCENT": ("%", "UCUM", "Percent"),
    "VOLUME": ("118565006", "SCT", "Volume"),
    "MILLILITER": ("ml", "UCUM", "Milliliter"),
    "SUM_OF_VOXELS": ("126030", "DCM", "Sum of segmented voxel method for volume"),
    "SIGNIFICANCE": ("121403", "DCM", "Level of Significance"),
    "ACTIONABLE": ("RID49480", "RADLEX", "ACR Category 1 Actionable Finding"),
    "CT_HEAD": ("24725-4", "LN", "CT Head"),
    "REPORT_TITLE": ("126000", "DCM", "Imaging Measurement Report"),
    "DEVICE": ("121007", "DCM", "Device"),
    "AI_FAMILY": ("123110", "DCM", "Artificial Intelligence"),
    "COMMENT": ("121106", "DCM", "Comment"),
    "ENGLISH": ("en-US", "RFC5646", "English (United States)"),
    "PROCESSING_EQUIPMENT": ("109102", "DCM", "Processing Equipment"),
    "OF_INTEREST": ("113000", "DCM", "Of Interest"),
    "KEY_OBJECT_DESCRIPTION": ("113012", "DCM", "Key Object Description"),
    "LANGUAGE": ("121049", "DCM", "Language of Content Item and Descendants"),
    "OBSERVER_TYPE": ("121005", "DCM", "Observer Type"),
    "DEVICE_OBSERVER_UID": ("121012", "DCM", "Device Observer UID"),
    "DEVICE_OBSERVER_NAME": ("121013", "DCM", "Device Observer Name"),
    "DEVICE_OBSERVER_MANUFACTURER": ("121014", "DCM", "Device Observer Manufacturer"),
    "DEVICE_OBSERVER_MODEL_NAME": ("121015", "DCM", "Device Observer Model Name"),
    "SOURCE_IMAGE": ("121322", "DCM", "Source image for image processing operation"),
}


def triple(code):
    return (code.value, code.scheme_designator, code.meaning)


@pytest.mark.parametrize("label", LABELS)
def test_each_label_has_its_code_and_its_site(label):
    """Finding and site of every label are the verified ones, meaning included."""
    held = codes.LABEL_CODES[label]
    value, scheme, meaning, site, site_meaning = PINNED[label]
    assert triple(held.finding) == (value, scheme, meaning)
    assert triple(held.site) == (site, "SCT", site_meaning)


def test_presence_is_coded_by_context_group_240():
    """Present, absent and undetermined are the concepts of CID 240."""
    assert {presence: triple(code) for presence, code in codes.PRESENCE_CODES.items()} == {
        Presence.PRESENT: ("52101004", "SCT", "Present"),
        Presence.ABSENT: ("272519000", "SCT", "Absent"),
        Presence.UNDETERMINED: ("373068000", "SCT", "Undetermined"),
    }


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_every_other_concept_is_pinned(name):
    """Each further concept is the verified one."""
    assert triple(getattr(codes, name)) == OTHERS[name]


def test_no_concept_is_left_unpinned():
    """A concept that is added without a line here fails."""
    named = {name for name in vars(codes) if name.isupper() and not name.startswith("_")}
    assert named - {"LABEL_CODES", "PRESENCE_CODES"} == set(OTHERS)


def test_what_the_dictionary_of_pydicom_knows_agrees_with_it():
    """Codes of DICOM's own context groups carry the values of pydicom's dictionary."""
    known = (
        (dictionary.DCM.CertaintyOfFinding, codes.CERTAINTY),
        (dictionary.DCM.LevelOfSignificance, codes.SIGNIFICANCE),
        (dictionary.DCM.ImagingMeasurementReport, codes.REPORT_TITLE),
        (dictionary.SCT.Volume, codes.VOLUME),
        (dictionary.cid7474.SumOfSegmentedVoxelMethodForVolume, codes.SUM_OF_VOXELS),
        (dictionary.cid7005.ProcessingEquipment, codes.PROCESSING_EQUIPMENT),
        (dictionary.cid7162.ArtificialIntelligence, codes.AI_FAMILY),
        (dictionary.cid240.Present, codes.PRESENCE_CODES[Presence.PRESENT]),
        (dictionary.cid240.Absent, codes.PRESENCE_CODES[Presence.ABSENT]),
        (dictionary.cid240.Undetermined, codes.PRESENCE_CODES[Presence.UNDETERMINED]),
    )
    for theirs, ours in known:
        assert triple(theirs)[:2] == triple(ours)[:2]
