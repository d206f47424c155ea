"""What stands beside a finding and may fail alone: volume, outline and heat map cost no alert."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import structlog

log = structlog.get_logger(__name__)
_Made = TypeVar("_Made")


def unless_it_fails(what: str, make: Callable[[], _Made], otherwise: _Made) -> _Made:
    """Return what `make` makes, or `otherwise` where it fails, however it does.

    The error's type is logged and nothing of its text, which may hold a patient's data.

    Parameters
    ----------
    what : str
        "volume", "mask" or "heat", for the log.
    """
    try:
        return make()
    except Exception as error:  # noqa: BLE001 - the finding stands, whatever fails beside it
        log.warning("beside.failed", what=what, error=type(error).__name__)
        return otherwise
