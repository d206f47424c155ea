"""Every coded concept that we write, each with where it was verified.

Those that others than DICOM know as well are in `ichnode.domain.codes`. No library objects to a
wrong code; a test pins value, scheme and meaning of each.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.sr.coding import Code

from ichnode.domain import codes
from ichnode.domain.findings import Label, Presence


@dataclass(frozen=True, slots=True)
class LabelCodes:
    """How one label is coded: what was found, and where."""

    finding: Code
    site: Code


LABEL_CODES: dict[Label, LabelCodes] = {
    label: LabelCodes(Code(*finding), Code(*codes.SITES[label]))
    for label, finding in codes.FINDINGS.items()
}

PRESENCE_CODES: dict[Presence, Code] = {one: Code(*codes.PRESENCES[one]) for one in Presence}

PRESENCE = Code("705057003", "SCT", "Presence")  # the property; RSNA/ACR finding models
CERTAINTY = Code(*codes.CERTAINTY)
PERCENT = Code(*codes.PERCENT)
VOLUME = Code(*codes.VOLUME)
MILLILITER = Code(*codes.MILLILITER)
SUM_OF_VOXELS = Code("126030", "DCM", "Sum of segmented voxel method for volume")  # CID 7474
SIGNIFICANCE = Code(*codes.SIGNIFICANCE)
ACTIONABLE = Code(*codes.ACTIONABLE)
CT_HEAD = Code(*codes.CT_HEAD)
REPORT_TITLE = Code("126000", "DCM", "Imaging Measurement Report")  # CID 7021
DEVICE = Code("121007", "DCM", "Device")  # CID 270
AI_FAMILY = Code("123110", "DCM", "Artificial Intelligence")  # CID 7162
COMMENT = Code(*codes.COMMENT)
ENGLISH = Code("en-US", "RFC5646", "English (United States)")  # CID 5000
PROCESSING_EQUIPMENT = Code("109102", "DCM", "Processing Equipment")  # CID 7005; IHE AIR 6.5.3.1
SOURCE_IMAGE = Code("121322", "DCM", "Source image for image processing operation")  # CID 7202
