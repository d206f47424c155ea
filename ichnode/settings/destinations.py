"""Where results go, one section for each way to get them there.

The name of a destination is unique among all of them: it is what pages, logs and metrics show.
"""

from __future__ import annotations

import ipaddress
from typing import ClassVar
from urllib.parse import urlsplit

from pydantic import Field

from ichnode.domain.work import DeliveryKind
from ichnode.settings.sections import AETitle, Section


def is_loopback(host: str) -> bool:
    """Say whether a host is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Destination(Section):
    """What every destination has."""

    way: ClassVar[str]
    """How results get there, for people."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    timeout_s: float = Field(30.0, gt=0)

    @property
    def takes(self) -> frozenset[DeliveryKind]:
        """The kinds of delivery that the destination gets."""
        raise NotImplementedError

    @property
    def address(self) -> str:
        """Where it is, for people; without passwords."""
        raise NotImplementedError

    @property
    def is_loopback(self) -> bool:
        """Whether the destination is on this machine, and so open in observe mode."""
        raise NotImplementedError


class DestinationSettings(Destination):
    """A DICOM peer."""

    way: ClassVar[str] = "DICOM"

    ae_title: AETitle
    host: str
    port: int = Field(ge=1, le=65535)
    sr: bool = True
    sc: bool = True
    kos: bool = False
    """Name the key slices of positives in a Key Object Selection."""
    gsps: bool = False
    """Send a presentation state of the key slices of positives: brain window, words, outline."""
    ups: bool = False
    """Raise the Scheduled Procedure Step Priority of the study's reading task (UPS)."""
    create_if_missing: bool = False
    """Create a reading task where the study has none that is open."""
    commit: bool = False
    """Ask it to answer for documents (storage commitment) before images are purged."""

    @property
    def takes(self) -> frozenset[DeliveryKind]:
        """The kinds that are switched on."""
        kinds: tuple[DeliveryKind, ...] = ("sr", "sc", "kos", "gsps", "ups")
        return frozenset(kind for kind in kinds if getattr(self, kind))

    @property
    def address(self) -> str:
        """AE title, host and port."""
        return f"{self.ae_title}@{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether the peer is on this machine."""
        return is_loopback(self.host)


class SubscriberSettings(Destination):
    """A DICOM peer that may subscribe to reading tasks: where its events go."""

    way: ClassVar[str] = "UPS events"

    ae_title: AETitle
    host: str
    port: int = Field(ge=1, le=65535)

    @property
    def takes(self) -> frozenset[DeliveryKind]:
        """Nothing of the outbox: it gets what it subscribes to."""
        return frozenset()

    @property
    def address(self) -> str:
        """AE title, host and port."""
        return f"{self.ae_title}@{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether the peer is on this machine."""
        return is_loopback(self.host)


class HttpDestination(Destination):
    """What every destination behind a URL has."""

    url: str = Field(pattern=r"^https?://[^/?#@]+")

    @property
    def address(self) -> str:
        """The URL; it holds no password, which is a setting of its own."""
        return self.url

    @property
    def is_loopback(self) -> bool:
        """Whether the server is on this machine."""
        return is_loopback(urlsplit(self.url).hostname or "")
