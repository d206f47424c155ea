"""Whether a destination is there: the least that can be asked of it, which changes nothing."""

from __future__ import annotations

from typing import TypeVar

from ichnode.send.command import CommandMechanism
from ichnode.send.fhir import FhirMechanism
from ichnode.send.mllp import look
from ichnode.send.orthanc import OrthancMechanism
from ichnode.send.sender import Echo, echo
from ichnode.send.ups_rs import UpsRsMechanism
from ichnode.send.webhook import WebhookMechanism
from ichnode.settings import (
    CommandSettings,
    Destination,
    DestinationSettings,
    FhirSettings,
    Hl7Destination,
    OrthancSettings,
    SubscriberSettings,
    UpsRsSettings,
    WebhookSettings,
)

LONGEST_S = 10.0
D = TypeVar("D", bound=Destination)


def ask(destination: Destination, calling_ae: str) -> Echo:
    """Ask a destination whether it is there: by C-ECHO, or in a way that changes nothing.

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
        case OrthancSettings():
            return OrthancMechanism(_brisk(destination)).look()
        case UpsRsSettings():
            return UpsRsMechanism(_brisk(destination)).look()
        case WebhookSettings():
            return WebhookMechanism(_brisk(destination)).look()
        case FhirSettings():
            return FhirMechanism(_brisk(destination)).look()
        case CommandSettings():
            return CommandMechanism(destination).look()
        case Hl7Destination():
            return look(destination.model_copy(update={"timeout_s": timeout_s}))
        case _:
            raise TypeError(f"nobody asks a {type(destination).__name__}")


def _brisk(destination: D) -> D:
    """Return a destination that is given `LONGEST_S` to answer, and no longer."""
    timeout_s = min(destination.timeout_s, LONGEST_S)
    return destination.model_copy(update={"timeout_s": timeout_s})
