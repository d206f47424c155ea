"""HL7 version 2: where messages go, and where they come from."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from ichnode.domain.work import DeliveryKind
from ichnode.settings.destinations import Destination, is_loopback
from ichnode.settings.sections import Section, check_networks


class Hl7Destination(Destination):
    """A receiver of HL7 version 2 messages over MLLP: a RIS, an interface engine."""

    way: ClassVar[str] = "HL7"

    host: str
    port: int = Field(2575, ge=1, le=65535)
    result: bool = True
    """Send what was found as a preliminary result (ORU^R01)."""
    order: Literal["", "OMI", "ORM"] = ""
    """Raise the priority of the study's order to S (stat), by OMI^O23 or ORM^O01."""
    version: Literal["2.5.1", "2.3.1"] = "2.5.1"
    charset: Literal["ASCII", "8859/1", "UNICODE UTF-8"] = "UNICODE UTF-8"
    sending_application: str = "ICHNODE"
    sending_facility: str = ""
    receiving_application: str = ""
    receiving_facility: str = ""
    assigning_authority: str = ""
    """Who gave the Patient ID, where the images do not say it."""
    processing: Literal["P", "T", "D"] = "P"
    """MSH-11: production, training or debugging."""
    accept_ack: bool = False
    """Ask for an accept acknowledgement (enhanced mode) instead of an application's."""
    tls: bool = False
    tls_ca: str = ""
    """Who may vouch for the peer; empty takes the authorities that this host trusts."""
    tls_certificate: str = ""
    tls_key: str = ""

    @model_validator(mode="after")
    def _together(self) -> Hl7Destination:
        if self.order == "OMI" and self.version == "2.3.1":
            raise ValueError("OMI came with version 2.5: take order ORM with version 2.3.1")
        if not self.tls and (self.tls_ca or self.tls_certificate or self.tls_key):
            raise ValueError("files for TLS are given, and tls is off")
        return self

    @property
    def takes(self) -> frozenset[DeliveryKind]:
        """The kinds that are switched on."""
        kinds: dict[DeliveryKind, bool] = {"hl7": self.result, "hl7_order": bool(self.order)}
        return frozenset(kind for kind, wanted in kinds.items() if wanted)

    @property
    def address(self) -> str:
        """Host and port."""
        return f"{'mllps' if self.tls else 'mllp'}://{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether the peer is on this machine."""
        return is_loopback(self.host)


class Hl7ListenSettings(Section):
    """The door for HL7 messages: ordered priorities, final reports, corrections."""

    enabled: bool = False
    bind: str = "127.0.0.1"
    port: int = Field(2575, ge=0, le=65535)
    """0 lets the system choose (tests)."""
    networks: tuple[str, ...] = ()
    """Where from, as CIDR; empty means everywhere."""
    tls_certificate: str = ""
    """With a certificate only TLS is spoken."""
    tls_key: str = ""
    tls_ca: str = ""
    """Only clients with a certificate of this authority may speak."""
    max_connections: int = Field(20, ge=1, le=1000)
    max_message_bytes: int = Field(1 << 20, ge=1 << 10, le=1 << 26)
    idle_s: float = Field(300.0, gt=0)
    """A connection that is silent for so long is closed."""
    unknown: Literal["AA", "AR"] = "AA"
    """What answers a message of a kind that means nothing here."""
    assigning_authority: str = ""
    """Who gave the Patient IDs of images and messages that do not say it."""
    keep_reports: bool = False
    """Keep the text of final reports, for labels."""

    @field_validator("networks")
    @classmethod
    def _cidr(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return check_networks(value)

    @model_validator(mode="after")
    def _together(self) -> Hl7ListenSettings:
        if (self.tls_key or self.tls_ca) and not self.tls_certificate:
            raise ValueError("files for TLS are given, and no tls_certificate")
        return self
