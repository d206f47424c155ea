"""Every coded concept that we write, each with where it was verified.

Public code for reports about haemorrhage is full of codes that mean something else (95455008,
often seen as "subdural", is a thrombosis of cerebral veins), and no library objects. A test pins
value, scheme and meaning of each.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.sr.coding import Code

from ichnode.domain.findings import Label, Presence


@dataclass(frozen=True, slots=True)
class LabelCodes:
    """How one label is coded: what was found, and where."""

    finding: Code
    site: Code


_INTRACRANIAL = Code("1101003", "SCT", "Intracranial")
_BRAIN = Code("12738006", "SCT", "Brain")
_CRANIAL_SUBARACHNOID = Code("33930006", "SCT", "Cranial Subarachnoid Space")

# SNOMED CT findings, as in the pydicom dictionary, the OHDSI vocabulary and the CPRD Aurum maps;
# sites as in the pydicom dictionary (CID 4 and the anatomy context groups of PS3.16).
LABEL_CODES: dict[Label, LabelCodes] = {
    "any": LabelCodes(Code("1386000", "SCT", "Intracranial hemorrhage"), _INTRACRANIAL),
    "epidural": LabelCodes(Code("82999001", "SCT", "Epidural hemorrhage"), _INTRACRANIAL),
    "intraparenchymal": LabelCodes(Code("274100004", "SCT", "Cerebral hemorrhage"), _BRAIN),
    "intraventricular": LabelCodes(Code("23276006", "SCT", "Intraventricular hemorrhage"), _BRAIN),
    "subarachnoid": LabelCodes(
        Code("21454007", "SCT", "Subarachnoid hemorrhage"), _CRANIAL_SUBARACHNOID
    ),
    "subdural": LabelCodes(
        Code("35486000", "SCT", "Subdural intracranial hemorrhage"), _INTRACRANIAL
    ),
}

# PS3.16 CID 240; 2667000 "Absent" is not in it.
PRESENCE_CODES: dict[Presence, Code] = {
    Presence.PRESENT: Code("52101004", "SCT", "Present"),
    Presence.ABSENT: Code("272519000", "SCT", "Absent"),
    Presence.UNDETERMINED: Code("373068000", "SCT", "Undetermined"),
}

PRESENCE = Code("705057003", "SCT", "Presence")  # the property; RSNA/ACR finding models
CERTAINTY = Code("111012", "DCM", "Certainty of Finding")  # PS3.16 D: by a device, in per cent
PERCENT = Code("%", "UCUM", "Percent")
VOLUME = Code("118565006", "SCT", "Volume")  # CID 7469
MILLILITER = Code("ml", "UCUM", "Milliliter")  # UCUM, as PS3.16 writes it in Bq/ml
SUM_OF_VOXELS = Code("126030", "DCM", "Sum of segmented voxel method for volume")  # CID 7474
SIGNIFICANCE = Code("121403", "DCM", "Level of Significance")  # PS3.16 D
ACTIONABLE = Code("RID49480", "RADLEX", "ACR Category 1 Actionable Finding")  # CID 7035: minutes
CT_HEAD = Code("24725-4", "LN", "CT Head")  # LOINC; 24627-2 is CT chest
REPORT_TITLE = Code("126000", "DCM", "Imaging Measurement Report")  # CID 7021
DEVICE = Code("121007", "DCM", "Device")  # CID 270
AI_FAMILY = Code("123110", "DCM", "Artificial Intelligence")  # CID 7162
COMMENT = Code("121106", "DCM", "Comment")  # PS3.16 D
ENGLISH = Code("en-US", "RFC5646", "English (United States)")  # CID 5000
PROCESSING_EQUIPMENT = Code("109102", "DCM", "Processing Equipment")  # CID 7005; IHE AIR 6.5.3.1
OF_INTEREST = Code("113000", "DCM", "Of Interest")  # CID 7010
KEY_OBJECT_DESCRIPTION = Code("113012", "DCM", "Key Object Description")  # TID 2010
LANGUAGE = Code("121049", "DCM", "Language of Content Item and Descendants")  # TID 1204
OBSERVER_TYPE = Code("121005", "DCM", "Observer Type")  # TID 1002; this and below PS3.16 D
DEVICE_OBSERVER_UID = Code("121012", "DCM", "Device Observer UID")  # TID 1004
DEVICE_OBSERVER_NAME = Code("121013", "DCM", "Device Observer Name")
DEVICE_OBSERVER_MANUFACTURER = Code("121014", "DCM", "Device Observer Manufacturer")
DEVICE_OBSERVER_MODEL_NAME = Code("121015", "DCM", "Device Observer Model Name")
SOURCE_IMAGE = Code("121322", "DCM", "Source image for image processing operation")  # CID 7202
