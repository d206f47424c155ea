"""Reconstruction kernels by vendor: which are soft, which are sharp. Data, not code.

A sharp (bone) kernel has three to five times the noise of a soft one, and the edge enhancement next
to bone looks like a subdural haematoma. Convolution Kernel (0018,1210) has no defined terms; names
are the vendors'. What is in no table is unknown, which is decided by the noise in the pixels.

Sources. The soft Siemens families H, J, Hr, Hc, Qr and Br below 50 are those of a curated set of
361,000 head scans (NYU). The rest, further Siemens families included, is the vendors' naming as
radiographers know it and was not checked against each conformance statement; Siemens numbers its
kernels by sharpness, so a family and a number are enough.
"""

from __future__ import annotations

import re
from typing import Literal

Sharpness = Literal["soft", "sharp", "unknown"]

_SIEMENS = re.compile(r"(?P<family>[A-Z][a-z]?)(?P<number>\d{2})[a-z]?")
_SIEMENS_SOFT_FAMILIES = frozenset(("H", "J", "B", "I", "Hr", "Hc", "Hv", "Br", "Qr", "Bv", "Qc"))
_SIEMENS_SOFT_BELOW = 50
_SIEMENS_SHARP_FROM = 55
_SIEMENS_SHARP_FAMILIES = frozenset(("U", "V", "Ur", "Hp"))  # ultra high resolution

_GE_SOFT = frozenset(("STANDARD", "SOFT"))
_GE_SHARP = frozenset(("BONE", "BONEPLUS", "EDGE", "LUNG", "ULTRA", "HD BONE"))
_PHILIPS_SOFT = frozenset(("A", "B", "UA", "UB", "EB", "EC"))
_PHILIPS_SHARP = frozenset(("C", "D", "E", "YA", "YB", "YC", "YD", "L"))
_CANON = re.compile(r"FC(?P<number>\d{2})")
_CANON_SOFT = frozenset((*range(20, 30), *range(62, 69)))  # head, with and without beam hardening
_CANON_SHARP = frozenset((*range(30, 36), *range(80, 87)))


def sharpness(kernel: str, manufacturer: str) -> Sharpness:
    r"""Return how sharp a kernel is.

    Parameters
    ----------
    kernel : str
        Convolution Kernel; of several values (``J37s\1``) the first that is known counts.
    manufacturer : str
        Manufacturer (0008,0070): the one-letter names of Philips mean nothing elsewhere.
    """
    for value in kernel.split("\\"):
        found = _sharpness(value.strip(), manufacturer.upper())
        if found != "unknown":
            return found
    return "unknown"


def _sharpness(name: str, manufacturer: str) -> Sharpness:
    if "PHILIPS" in manufacturer:
        return _in_tables(name.upper(), _PHILIPS_SOFT, _PHILIPS_SHARP)
    if match := _CANON.match(name.upper()):
        return _in_tables(int(match["number"]), _CANON_SOFT, _CANON_SHARP)
    if match := _SIEMENS.fullmatch(name):
        return _siemens(match["family"], int(match["number"]))
    return _in_tables(name.upper(), _GE_SOFT, _GE_SHARP)  # plain words, whoever writes them


def _in_tables(
    name: str | int, soft: frozenset[str] | frozenset[int], sharp: frozenset[str] | frozenset[int]
) -> Sharpness:
    if name in soft:
        return "soft"
    return "sharp" if name in sharp else "unknown"


def _siemens(family: str, number: int) -> Sharpness:
    if family in _SIEMENS_SHARP_FAMILIES or number >= _SIEMENS_SHARP_FROM:
        return "sharp"
    if family in _SIEMENS_SOFT_FAMILIES and number < _SIEMENS_SOFT_BELOW:
        return "soft"
    return "unknown"
