"""The coded concepts of what is found, for all that tells of it: DICOM, HL7 and FHIR alike.

Public code for reports about haemorrhage is full of codes that mean something else (95455008,
often seen as "subdural", is a thrombosis of cerebral veins). A test pins value, scheme and meaning
of each.
"""

from __future__ import annotations

from typing import NamedTuple

from ichnode.domain.findings import Label, Presence


class Coded(NamedTuple):
    """A code, the designator that DICOM has for its scheme (PS3.16 8), and its meaning."""

    value: str
    scheme: str
    meaning: str


# SNOMED CT findings, as in the pydicom dictionary, the OHDSI vocabulary and the CPRD Aurum maps.
FINDINGS: dict[Label, Coded] = {
    "any": Coded("1386000", "SCT", "Intracranial hemorrhage"),
    "epidural": Coded("82999001", "SCT", "Epidural hemorrhage"),
    "intraparenchymal": Coded("274100004", "SCT", "Cerebral hemorrhage"),
    "intraventricular": Coded("23276006", "SCT", "Intraventricular hemorrhage"),
    "subarachnoid": Coded("21454007", "SCT", "Subarachnoid hemorrhage"),
    "subdural": Coded("35486000", "SCT", "Subdural intracranial hemorrhage"),
}

_INTRACRANIAL = Coded("1101003", "SCT", "Intracranial")
_BRAIN = Coded("12738006", "SCT", "Brain")

# As in the pydicom dictionary (CID 4 and the anatomy context groups of PS3.16).
SITES: dict[Label, Coded] = {
    "any": _INTRACRANIAL,
    "epidural": _INTRACRANIAL,
    "intraparenchymal": _BRAIN,
    "intraventricular": _BRAIN,
    "subarachnoid": Coded("33930006", "SCT", "Cranial Subarachnoid Space"),
    "subdural": _INTRACRANIAL,
}

# PS3.16 CID 240; 2667000 "Absent" is not in it.
PRESENCES: dict[Presence, Coded] = {
    Presence.PRESENT: Coded("52101004", "SCT", "Present"),
    Presence.ABSENT: Coded("272519000", "SCT", "Absent"),
    Presence.UNDETERMINED: Coded("373068000", "SCT", "Undetermined"),
}

CERTAINTY = Coded("111012", "DCM", "Certainty of Finding")  # PS3.16 D: by a device, in per cent
VOLUME = Coded("118565006", "SCT", "Volume")  # CID 7469
CT_HEAD = Coded("24725-4", "LN", "CT Head")  # LOINC; 24627-2 is CT chest
INTERPRETATION = Coded("110005", "DCM", "Interpretation")  # CID 9231
PERCENT = Coded("%", "UCUM", "Percent")
MILLILITER = Coded("ml", "UCUM", "Milliliter")  # UCUM, as PS3.16 writes it in Bq/ml
SIGNIFICANCE = Coded("121403", "DCM", "Level of Significance")  # PS3.16 D
ACTIONABLE = Coded("RID49480", "RADLEX", "ACR Category 1 Actionable Finding")  # CID 7035: minutes
COMMENT = Coded("121106", "DCM", "Comment")  # PS3.16 D
STUDY_UID = Coded("110180", "DCM", "Study Instance UID")  # PS3.16 D
