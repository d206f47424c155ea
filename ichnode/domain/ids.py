"""Identifiers: parsed once at the door, then trusted."""

from __future__ import annotations

import re
import uuid

_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")
_LENIENT_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_PEER = re.compile(r"(?P<ae>[^@]{1,16})@(?P<host>\[[^\]]+\]|[^:@]+):(?P<port>[0-9]{1,5})")
_NAMESPACE = uuid.UUID("1f6a3c0e-7f0c-5b0e-9a55-6b1d2c3e4f50")

AE_TITLE_MAX = 16
UID_MAX = 64

IMPLEMENTATION_VERSION_NAME = "ICHNODE_1"  # PS3.7 D.3.3.2: what we call ourselves to every peer


def is_uid(text: str) -> bool:
    """Say whether `text` is a UID that may be used as a key.

    Leading zeros in a component, which PS3.5 9.1 forbids and scanners send, are let through; path
    characters, letters, emptiness and more than 64 characters are not.
    """
    return 0 < len(text) <= UID_MAX and _LENIENT_UID.fullmatch(text) is not None


def is_strict_uid(text: str) -> bool:
    """Say whether `text` obeys PS3.5 9.1 to the letter (what we write must)."""
    return len(text) <= UID_MAX and _UID.fullmatch(text) is not None


def result_uid(*parts: str) -> str:
    """Return the deterministic UID of something that we make.

    The same parts always give the same UID, so that a report which is rebuilt after a crash is the
    same report (promise 4 of the design).

    Parameters
    ----------
    *parts : str
        What the thing is and what it was made from, e.g. ``("sr", series_uid, set_digest,
        model_uid)``.

    Returns
    -------
    str
        A UID below ``2.25`` (PS3.5 B.2), at most 44 characters.
    """
    return f"2.25.{uuid.uuid5(_NAMESPACE, '|'.join(parts)).int}"


IMPLEMENTATION_CLASS_UID = result_uid("implementation", "1")


def is_ae_title(text: str) -> bool:
    """Say whether `text` is an AE title (PS3.5 6.2: 1 to 16 printable characters)."""
    return 0 < len(text.strip()) <= AE_TITLE_MAX and all(
        " " <= character <= "~" and character != "\\" for character in text
    )


def split_peer(text: str) -> tuple[str, str, int] | None:
    """Split ``AE@HOST:PORT`` into its parts; None where it is not of that form."""
    match = _PEER.fullmatch(text)
    if match is None or not is_ae_title(match["ae"]) or not 0 < int(match["port"]) < 65536:
        return None
    return match["ae"], match["host"].strip("[]"), int(match["port"])
