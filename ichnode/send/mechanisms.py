"""How each kind of delivery is made: the one place to add another.

A mechanism is a class with `deliver`; adding one is that class, its kind in
`ichnode.domain.work.DeliveryKind` and a line in `mechanisms_for`.
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
            When the destination does not answer.
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
