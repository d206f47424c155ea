"""How each kind of delivery is made.

Adding a mechanism takes, here, a class with `deliver` and a line in `mechanisms_for`; and elsewhere

* its kind in `domain.work`: an `AlertKind` for one that tells of an urgent study, whose rows are
  then made, withheld and retried like those that are there; a `DocumentKind` for one that carries
  a new kind of document, which `report` writes,
* a place in what a kind of destination takes (`settings.destinations`), or a new kind of
  destination in `settings.loading.DESTINATIONS`,
* its word on the page (`web.wording.KINDS`), its block in deploy/ichnode.toml.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from ichnode.domain.work import DOCUMENT_KINDS, DeliveryItem, DeliveryKind, DeliveryResult
from ichnode.send.association import Peer
from ichnode.send.command import CommandMechanism
from ichnode.send.fhir import FhirMechanism
from ichnode.send.mllp import Hl7Mechanism
from ichnode.send.orthanc import OrthancMechanism
from ichnode.send.scu import StoreMechanism
from ichnode.send.ups import UpsMechanism
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


class Mechanism(Protocol):
    """A way to get something to a destination."""

    def deliver(self, items: Sequence[DeliveryItem]) -> Iterator[tuple[int, DeliveryResult]]:
        """Try the rows in order and yield each one's result; a row without one was not tried.

        Raises
        ------
        PeerFailure
            When the destination does not answer; `ichnode.send.association.FellSilent` where it
            took the association and then stopped: the last result is that of the row whose answer
            did not come.
        """
        ...

    def preview(self, item: DeliveryItem) -> str:
        """Return what `deliver` would send about this row, as text; nothing is sent."""
        ...


def mechanisms_for(
    destination: Destination, spool: Path, calling_ae: str
) -> Mapping[DeliveryKind, Mechanism]:
    """Return the mechanism of each kind of delivery that a destination takes."""
    match destination:
        case DestinationSettings():
            return _dicom(destination, spool, calling_ae)
        case OrthancSettings():
            return {"orthanc": OrthancMechanism(destination)}
        case UpsRsSettings():
            return {"ups_rs": UpsRsMechanism(destination)}
        case WebhookSettings():
            return {"webhook": WebhookMechanism(destination)}
        case FhirSettings():
            return {"fhir": FhirMechanism(destination)}
        case CommandSettings():
            return {"command": CommandMechanism(destination)}
        case Hl7Destination():
            return dict.fromkeys(destination.takes, Hl7Mechanism(destination))
        case SubscriberSettings():
            return {}  # it is told of what it subscribed to, see ichnode.query.notifying
        case _:
            raise TypeError(f"nothing is sent to a {type(destination).__name__}")


def _dicom(
    destination: DestinationSettings, spool: Path, calling_ae: str
) -> Mapping[DeliveryKind, Mechanism]:
    peer = Peer(
        destination.host,
        destination.port,
        destination.ae_title,
        calling_ae,
        destination.timeout_s,
    )
    store = StoreMechanism(peer, spool)
    return {
        **dict.fromkeys(DOCUMENT_KINDS, store),
        "ups": UpsMechanism(peer, create_if_missing=destination.create_if_missing),
    }
