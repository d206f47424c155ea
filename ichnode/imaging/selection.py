"""Is this a series that we analyse? What the tags alone say, and how well suited a series is.

Two kinds of judgement. A gate refuses, with one of `ichnode.domain.reasons.Reason`. The score ranks
the series of one study that passed the gates; it refuses nothing. Tags lie in both directions, so
whatever can be seen in the pixels is judged there (`ichnode.imaging.appearance`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from ichnode.domain.errors import NotAnalysable
from ichnode.domain.reasons import Reason
from ichnode.domain.series import Header
from ichnode.imaging.geometry import plane_of
from ichnode.imaging.kernels import sharpness

CT_CLASSES = frozenset(
    (
        "1.2.840.10008.5.1.4.1.1.2",  # CT Image Storage
        "1.2.840.10008.5.1.4.1.1.2.1",  # Enhanced CT Image Storage
        "1.2.840.10008.5.1.4.1.1.2.2",  # Legacy Converted Enhanced CT Image Storage
    )
)
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"  # and its multi-frame kinds .7.1 to .7.4
_DOSE_SR = "1.2.840.10008.5.1.4.1.1.88.67"

YOUNGEST_YEARS = 7.0
"""Children under seven were left out of the sets that head CT models are validated on."""

_LOWEST_KEV = 60
_OWN_MODEL = "ichnode"

_DOSE_WORDS = frozenset(("SCREEN SAVE", "DOSE", "DOSE_INFO"))
_LOCALIZER_WORDS = frozenset(("LOCALIZER", "SCOUT", "TOPOGRAM", "SURVIEW", "SCANOGRAM"))
_REFORMATTED_WORDS = frozenset(
    (
        "REFORMATTED",
        "MPR",
        "CSA MPR",
        "CSAMPR",
        "CSAPARALLEL",
        "MIP",
        "MINIP",
        "VRT",
        "PROJECTION IMAGE",
        "SHADED",
        "VOLREN",
        "SSD",
    )
)
_SPECTRAL_WORDS = frozenset(
    ("IODINE", "VNC", "VIRTUAL_NON_CONTRAST", "RHO", "RHO_Z", "Z_EFF", "ZEFF",
     "EFFECTIVE_ATOMIC_NUM", "MATERIAL_SPECIFIC", "MAT_SPECIFIC", "MAT_FRACTIONAL",
     "MAT_REMOVED", "ELECTRON_DENSITY")
)  # fmt: skip
_NO_AGENT = frozenset(
    ("", "NONE", "NO", "N", "NON", "NA", "N/A", "W/O", "WO", "WITHOUT", "NO CONTRAST", "0", "-",
     "NON CONTRAST", "NON-CONTRAST", "NONCONTRAST", "WITHOUT CONTRAST", "UNENHANCED", "PLAIN")
)  # fmt: skip

_DOSE_TEXT = re.compile(r"DOSE\s*(REPORT|INFO|RECORD|SUMMARY)|EXAM\s*SUMMARY|PATIENT\s*PROTOCOL")
_LOCALIZER_TEXT = re.compile(r"\b(SCOUT|TOPOGRAM|LOCALI[SZ]ER|SURVIEW|SCANOGRAM)\b")
_PERFUSION_TEXT = re.compile(r"\b(CT\s?P|PERF(USION)?)\b|TEST\s?BOLUS|PRE-?MONITOR|\bMONITORING\b")
_CONTRAST_TEXT = re.compile(
    r"\bCT[AV]\b|ANGIO|\bVENOUS\b|\bARTERIAL\b|\bBOLUS\b|(?<![A-Z])C\+|\+C\b"
    r"|\b(POST|WITH|W)[\s_-]+(IV[\s_-]+)?CON(TRAST)?\b|\bPOST[\s_-]+(IV|C)\b|\bCE[\s_-]?CT\b"
)
_PLAIN_TEXT = re.compile(
    r"\bNC(CT)?\b|\bNE?CT\b|\bPLAIN\b|\bNATIVE?\b|\bWO\b|\bW/O\b|\bWITHOUT\b|\bC-(?!\w)"
    r"|\bNON[\s-]?CON|\bUNENHANCED\b|\bPRE[\s-]?CON"
)
_SPECTRAL_TEXT = re.compile(
    r"\bIODINE\b|\bVNC\b|VIRTUAL\s?NON|\bRHO\b|Z\s?_?EFF|EFFECTIVE\s?Z|ELECTRON\s?DENSITY"
)
_KEV_TEXT = re.compile(r"(\d{2,3})\s*_?KEV")
_AGE = re.compile(r"(\d{1,3})([DWMY])")
_YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}

_GOOD_NAME = re.compile(r"BRAIN|HEAD|ROUTINE|AXIAL|PLAIN|\bNC(CT)?\b|\bWO\b|WITHOUT")
_BAD_NAME = re.compile(
    r"BONE|SKULL|FACE|SINUS|ORBIT|TEMPORAL|\bIAC\b|SPINE|NECK|\bMPR|\bCOR|\bSAG|\b3D|\bMIP|\bVRT|THIN"
)


class Covered(Protocol):
    """What the score asks of a volume; `ichnode.imaging.volume.CtVolume` is one."""

    @property
    def brain_mm(self) -> float:
        """How much of the brain is covered."""
        ...

    @property
    def gaps(self) -> int:
        """Places where slices are missing."""
        ...

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Spacing (z, y, x)."""
        ...


def judge_headers(headers: Sequence[Header]) -> None:
    """Refuse a series that its tags alone show to be none of ours.

    Raises
    ------
    NotAnalysable
        With the reason that most of its instances give; ``may_change`` only where nothing came yet.
    """
    analysable(headers)


def analysable(headers: Sequence[Header]) -> tuple[Header, ...]:
    """Return the headers that nothing speaks against; localizers among axial slices are dropped.

    Raises
    ------
    NotAnalysable
        When none is left, or one shows something that holds for the whole series (contrast medium,
        age).
    """
    if not headers:
        raise NotAnalysable(Reason.TOO_FEW_SLICES, "no instance", may_change=True)
    objections = [objection(header) for header in headers]
    kept = tuple(h for h, reason in zip(headers, objections, strict=True) if reason is None)
    counted = Counter(reason for reason in objections if reason is not None)
    for reason in (Reason.CONTRAST, Reason.OUT_OF_SCOPE_AGE):
        if counted[reason]:
            raise NotAnalysable(reason)
    if not kept:
        order = list(Reason)
        most = max(counted, key=lambda reason: (counted[reason], -order.index(reason)))
        raise NotAnalysable(most)
    return kept


def objection(header: Header) -> Reason | None:
    """Return the first thing that speaks against one instance, or None."""
    for speaks_against, reason in _GATES:
        if speaks_against(header):
            return reason
    return None


def _words(header: Header) -> frozenset[str]:
    return frozenset(word.upper() for word in header.image_type)


def _described(header: Header) -> str:
    """Return the series description for matching; underscores part words as blanks do."""
    return header.series_description.upper().replace("_", " ")


def _names(header: Header) -> tuple[str, str]:
    """Return series description and protocol name for matching."""
    return _described(header), header.protocol_name.upper().replace("_", " ")


def _is_own(header: Header) -> bool:
    return header.model_name.strip().lower() == _OWN_MODEL


def _is_dose_report(header: Header) -> bool:
    return (
        header.sop_class_uid == _DOSE_SR
        or bool(_words(header) & _DOSE_WORDS)
        or _DOSE_TEXT.search(_described(header)) is not None
    )


def _is_secondary_capture(header: Header) -> bool:
    known = header.sop_class_uid
    return known == _SECONDARY_CAPTURE or known.startswith(_SECONDARY_CAPTURE + ".")


def _is_not_ct(header: Header) -> bool:
    return header.sop_class_uid not in CT_CLASSES or header.modality not in ("CT", "")


def _is_localizer(header: Header) -> bool:
    in_name = _LOCALIZER_TEXT.search(_described(header)) is not None
    return in_name or bool(_words(header) & _LOCALIZER_WORDS)


def _is_reformatted(header: Header) -> bool:
    """Say whether it is derived otherwise than by averaging axial slices (PS3.3 C.8.2.1.1.1)."""
    words = tuple(word.upper() for word in header.image_type)
    if _REFORMATTED_WORDS.intersection(words[2:]):
        return True
    return words[:2] == ("DERIVED", "SECONDARY") and "AXIAL" not in words[2:3]


def _is_not_axial(header: Header) -> bool:
    plane = plane_of(header.orientation) if header.orientation else None
    return plane is not None and not plane.is_axial


def _is_spectral(header: Header) -> bool:
    if _words(header) & _SPECTRAL_WORDS or _SPECTRAL_TEXT.search(_described(header)):
        return True
    energy = _KEV_TEXT.search(_described(header))
    return energy is not None and int(energy[1]) < _LOWEST_KEV


def _is_perfusion(header: Header) -> bool:
    return _PERFUSION_TEXT.search(_described(header)) is not None


def _has_contrast(header: Header) -> bool:
    """Say whether the agent, the series description or the protocol name tells of contrast medium.

    A stroke protocol is often named after its angiography, also in the plain series that begins
    it: where the series calls itself plain, the protocol's name is not held against it. Study
    Description is too coarse to be asked: it names everything that was ordered.
    """
    if header.contrast_agent.strip().upper() not in _NO_AGENT:
        return True
    described, protocol = _names(header)
    if _CONTRAST_TEXT.search(described):
        return True
    return _PLAIN_TEXT.search(described) is None and _CONTRAST_TEXT.search(protocol) is not None


def _is_sharp(header: Header) -> bool:
    return sharpness(header.kernel, header.manufacturer) == "sharp"


def _is_too_young(header: Header) -> bool:
    years = age_years(header)
    return years is not None and years < YOUNGEST_YEARS


def age_years(header: Header) -> float | None:
    """Return the age by Patient's Age, else by birth date and study date; None where unknown."""
    if match := _AGE.fullmatch(header.patient_age.strip().upper()):
        return int(match[1]) * _YEARS[match[2]]
    born, seen = header.patient_birth_date, header.study_date
    if len(born) != 8 or len(seen) != 8 or not (born + seen).isdecimal():
        return None
    years = int(seen[:4]) - int(born[:4]) - (seen[4:] < born[4:])
    return float(years) if years >= 0 else None


_GATES: tuple[tuple[Callable[[Header], bool], Reason], ...] = (
    (_is_own, Reason.OWN_DOCUMENT),
    (_is_dose_report, Reason.DOSE_REPORT),
    (_is_secondary_capture, Reason.SECONDARY_CAPTURE),
    (_is_not_ct, Reason.NOT_CT),
    (_is_localizer, Reason.LOCALIZER),
    (_is_spectral, Reason.SPECTRAL),
    (_is_perfusion, Reason.PERFUSION),
    (_has_contrast, Reason.CONTRAST),
    (_is_reformatted, Reason.DERIVED),
    (_is_not_axial, Reason.NOT_AXIAL),
    (_is_sharp, Reason.SHARP_KERNEL),
    (_is_too_young, Reason.OUT_OF_SCOPE_AGE),
)


def suitability(headers: Sequence[Header], volume: Covered) -> tuple[float, tuple[str, ...]]:
    """Score how well a series that passed the gates is suited, higher being better, and say why.

    The study's verdict trusts the best-suited series: original axial slices of a soft kernel, 2.5
    to 6 mm thick, covering the brain without a gap. Ties are broken by the caller (thicker, then
    more slices, then UID).

    Returns
    -------
    float, tuple of str
        The sum, and its terms such as ``"+30 soft kernel"``.
    """
    eligible = [header for header in headers if objection(header) is None] or headers
    first = min(eligible, key=lambda header: header.sop_uid)
    terms = [
        *_acquisition_terms(first),
        _thickness_term(headers, volume),
        (20.0 * min(1.0, volume.brain_mm / 120.0), f"{volume.brain_mm:.0f} mm of brain"),
        (-10.0 * min(volume.gaps, 3), f"{volume.gaps} gaps"),
        *_name_terms(first),
    ]
    said = [(points, words) for points, words in terms if points]
    return sum(points for points, _ in said), tuple(f"{p:+.0f} {words}" for p, words in said)


def _acquisition_terms(header: Header) -> list[tuple[float, str]]:
    words = tuple(word.upper() for word in header.image_type[:3])
    original = words[:2] == ("ORIGINAL", "PRIMARY") and words[2:] in (("AXIAL",), ("VOLUME",))
    kernel = sharpness(header.kernel, header.manufacturer)
    return [
        (40.0 if original else 0.0, "original axial"),
        ({"soft": 30.0, "unknown": 0.0, "sharp": -60.0}[kernel], f"{kernel} kernel"),
    ]


def _thickness_term(headers: Sequence[Header], volume: Covered) -> tuple[float, str]:
    stated = [h.slice_thickness_mm for h in headers if h.slice_thickness_mm is not None]
    thickness = float(np.median(stated)) if stated else volume.spacing_mm[0]
    for least, points in ((6.01, -5.0), (4.0, 20.0), (2.5, 15.0), (1.0, 8.0)):
        if thickness >= least:
            return points, f"{thickness:g} mm slices"
    return 4.0, f"{thickness:g} mm slices"


def _name_terms(header: Header) -> list[tuple[float, str]]:
    name = _described(header)
    return [
        (6.0 if _GOOD_NAME.search(name) else 0.0, "name of a plain head series"),
        (-15.0 if _BAD_NAME.search(name) else 0.0, "name of another kind of series"),
        (-100.0 if _KEV_TEXT.search(name) else 0.0, "monoenergetic"),
    ]
