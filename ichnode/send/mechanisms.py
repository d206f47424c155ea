"""How each kind of delivery is made.

Adding a mechanism takes, here, a class with `deliver` and a line in `mechanisms_for`; and elsewhere

* its kind in `DeliveryKind` and in the type of ``Delivery.kind`` (`domain.work`,
  `worklist.tables`),
* an option of that name in `DestinationSettings` and in `worklist.policy.Route`, which
  `service.assembly` makes of it,
* for one that raises a priority a place in `worklist.policy.PRIORITY_KINDS`: its rows are then
  made, withheld and retried like those that are there; one that carries a new kind of document
  also takes that document (`DocumentKind`, `report`, and the constraints that name the kinds),
* its word on the page (`web.wording.KINDS`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from ichnode.domain.work import DeliveryItem, DeliveryKind, DeliveryResult
from ichnode.send.association import Peer
from ichnode.send.scu import StoreMechanism
from ichnode.send.ups import UpsMechanism
from ichnode.settings import DestinationSettings


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


def mechanisms_for(
    destination: DestinationSettings, spool: Path, calling_ae: str
) -> Mapping[DeliveryKind, Mechanism]:
    """Return the mechanism of each kind of delivery, for one destination."""
    peer = Peer(
        destination.host,
        destination.port,
        destination.ae_title,
        calling_ae,
        destination.timeout_s,
    )
    store = StoreMechanism(peer, spool)
    return {
        "sr": store,
        "sc": store,
        "ups": UpsMechanism(peer, create_if_missing=destination.create_if_missing),
    }
