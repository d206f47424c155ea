"""Destinations that are reached by HTTP, each of its own way."""

from __future__ import annotations

import re
from typing import ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from ichnode.domain.work import DeliveryKind
from ichnode.settings import templates
from ichnode.settings.destinations import HttpDestination

_URL = re.compile(
    r"https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?([/?][!-\[\]-~]*)?", re.ASCII
)
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?([ -~]*)", re.ASCII)
_OURS = ("host", "connection", "content-length", "transfer-encoding", "x-ichnode-")


class ServerDestination(HttpDestination):
    """A server, and how its TLS is checked."""

    timeout_s: float = Field(30.0, gt=0, le=60)
    """For an exchange as a whole."""
    ca_file: str = ""
    """The authorities that sign its certificate; empty means those of the system."""
    certificate_file: str = ""
    """Our own certificate, for servers that ask for one; with its chain, PEM."""
    key_file: str = ""
    """Its key; empty where the certificate's file holds it."""

    @field_validator("url")
    @classmethod
    def _plain(cls, value: str) -> str:
        if not _URL.fullmatch(value) or "#" in value:
            raise ValueError("that is no URL of the form https://host:port/path")
        _ = urlsplit(value).port  # raises where it is out of range
        return value

    @model_validator(mode="after")
    def _key_needs_a_certificate(self) -> ServerDestination:
        if self.key_file and not self.certificate_file:
            raise ValueError("key_file is of no use without certificate_file")
        return self


class RestDestination(ServerDestination):
    """A server with resources below one URL, and what we show at its door."""

    user: str = ""
    password: SecretStr = SecretStr("")
    token: SecretStr = SecretStr("")
    """A bearer token, in place of user and password."""

    @field_validator("url")
    @classmethod
    def _base(cls, value: str) -> str:
        if "?" in value:
            raise ValueError(
                "that is a URL with a question; give the one that all others start with"
            )
        return value.rstrip("/")

    @model_validator(mode="after")
    def _one_way_in(self) -> RestDestination:
        token = self.token.get_secret_value()
        if token and self.user:
            raise ValueError("give user and password, or a token, not both")
        if not re.fullmatch(r"[!-~]*", token):
            raise ValueError("a token has no blanks and no letters beyond ASCII")
        if ":" in self.user:
            raise ValueError("a user name for HTTP has no colon")
        return self


class OrthancSettings(RestDestination):
    """An Orthanc: a label on the study, metadata, or both."""

    way: ClassVar[str] = "Orthanc"

    label: str = Field("ich-suspected", pattern=r"^[A-Za-z0-9_-]{0,64}$")
    """Empty where the Orthanc is older than 1.12.0, which has no labels."""
    metadata: str = Field("", pattern=r"^[A-Za-z0-9_-]{0,64}$")
    """A number from 1024 to 65535, or a name that its UserMetadata knows; empty for none."""

    @model_validator(mode="after")
    def _something(self) -> OrthancSettings:
        if not self.label and not self.metadata:
            raise ValueError("give a label, metadata, or both: there is nothing to tell otherwise")
        return self

    @property
    def takes(self) -> frozenset[DeliveryKind]:
        """The alert."""
        return frozenset(("orthanc",))


class UpsRsSettings(RestDestination):
    """A worklist of Unified Procedure Steps behind DICOMweb."""

    way: ClassVar[str] = "UPS-RS"

    create_if_missing: bool = False
    """Create a reading task where the study has none that is open."""

    @property
    def takes(self) -> frozenset[DeliveryKind]:
        """The priority."""
        return frozenset(("ups_rs",))


class FhirSettings(RestDestination):
    """A FHIR R4 server."""

    way: ClassVar[str] = "FHIR"

    patient_system: str = Field("", pattern=r"^[!-~]*$")
    """The system of the Patient IDs in the images, as the server names it."""
    accession_system: str = Field("", pattern=r"^[!-~]*$")
    """The system of the accession numbers, likewise."""
    find_patient: bool = False
    """Let the server find the patient and refuse where it knows none, or two."""
    task: bool = True
    """Ask by a Task for the study to be read at once."""

    @property
    def takes(self) -> frozenset[DeliveryKind]:
        """The alert."""
        return frozenset(("fhir",))


class WebhookSettings(ServerDestination):
    """A server that is told in JSON of the site's own making."""

    way: ClassVar[str] = "web hook"

    method: Literal["POST", "PUT", "PATCH"] = "POST"
    headers: tuple[SecretStr, ...] = ()
    """As "Name: value"; what they hold is shown nowhere."""
    secret: SecretStr = SecretStr("")
    """Signs each body; see docs/outputs-http.md."""
    phi: bool = False
    """Whether it may be told who the patient is."""
    template: str = ""
    """The body; empty tells everything that may be told."""

    @field_validator("headers")
    @classmethod
    def _headers(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for header in value:
            found = _HEADER.fullmatch(header.get_secret_value())
            if found is None:
                raise ValueError('write each header as "Name: value"')
            if found[1].lower().startswith(_OURS):
                raise ValueError(f"{found[1]} is not for you to set")
        return value

    @model_validator(mode="after")
    def _template(self) -> WebhookSettings:
        if self.template:
            templates.check(self.template, phi=self.phi)
        return self

    @property
    def named_headers(self) -> tuple[tuple[str, str], ...]:
        """The headers as name and value."""
        written = (one.get_secret_value().partition(":") for one in self.headers)
        return tuple((name, value.strip()) for name, _, value in written)

    @property
    def takes(self) -> frozenset[DeliveryKind]:
        """The alert."""
        return frozenset(("webhook",))

    @property
    def address(self) -> str:
        """The server; the rest of the URL is often the secret of whoever may call it."""
        parts = urlsplit(self.url)
        hidden = (parts.path not in ("", "/")) or parts.query
        return f"{parts.scheme}://{parts.netloc}" + ("/..." if hidden else "")
