"""Whether a destination is there: the least that can be asked of it, which changes nothing."""

from __future__ import annotations

from ichnode.send.sender import Echo, echo
from ichnode.settings import Destination, DestinationSettings, SubscriberSettings

LONGEST_S = 10.0


def ask(destination: Destination, calling_ae: str) -> Echo:
    """Ask a destination whether it is there: a DICOM peer by C-ECHO.

    Parameters
    ----------
    destination : Destination
        Whom.
    calling_ae : str
        Our AE title.
    """
    timeout_s = min(destination.timeout_s, LONGEST_S)
    match destination:
        case DestinationSettings() | SubscriberSettings():
            return echo(
                destination.host,
                destination.port,
                called_ae=destination.ae_title,
                calling_ae=calling_ae,
                timeout_s=timeout_s,
            )
        case _:
            raise TypeError(f"nobody asks a {type(destination).__name__}")
