"""The sections of the configuration: what can be set, its default and its limits.

The reasons are in the commented file, deploy/ichnode.toml; docs/configuration.md is made from both.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

from ichnode.domain.ids import is_ae_title
from ichnode.domain.triage import LAST_RANK, ORDERED_RANK


def _ae_title(value: str) -> str:
    if not is_ae_title(value):
        raise ValueError("an AE title has 1 to 16 printable characters and no backslash")
    return value


def check_networks(value: tuple[str, ...]) -> tuple[str, ...]:
    """Return networks as they are, or raise ValueError for one that is none."""
    for network in value:
        ipaddress.ip_network(network, strict=False)
    return value


AETitle = Annotated[str, AfterValidator(_ae_title)]


class Section(BaseModel):
    """A frozen part of the settings that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class NodeSettings(Section):
    """What this host is."""

    host_id: str = Field(default_factory=lambda: socket.gethostname().split(".")[0] or "host")
    """Names this host's journal and leases; unique among the hosts of a node."""
    spool: Path = Path("/var/lib/ichnode/spool")
    """Images and documents; on one file system that all hosts of the node share."""
    database: SecretStr = SecretStr("sqlite:////var/lib/ichnode/worklist.db")
    """A SQLAlchemy address: SQLite, or postgresql+psycopg://user:password@host/name."""

    @field_validator("host_id")
    @classmethod
    def _plain(cls, value: str) -> str:
        if not value or not all(c.isalnum() or c in "-_" for c in value):
            raise ValueError("use letters, digits, - and _ only")
        return value


class ReceiveSettings(Section):
    """The Storage SCP."""

    ae_title: AETitle = "ICHNODE"
    bind: str = "127.0.0.1"
    """The address to listen on; 0.0.0.0 for every interface."""
    port: int = Field(11112, ge=0, le=65535)
    """0 lets the system choose (tests)."""
    calling_ae_titles: tuple[str, ...] = ()
    """Who may send; empty means everybody."""
    networks: tuple[str, ...] = ()
    """Where from, as CIDR; empty means everywhere."""
    check_called_ae_title: bool = False
    """Refuse associations that call another AE title than ours."""
    processes: int = Field(1, ge=1, le=16)
    """Receiving processes that share the port; more than one for several fast scanners."""
    max_associations: int = Field(50, ge=1, le=1000)
    max_associations_per_peer: int = Field(20, ge=1, le=1000)
    idle_s: float = Field(60.0, gt=0)
    """An association that is silent for so long is aborted."""
    handshake_s: float = Field(10.0, gt=0)
    """A connection that has not asked for an association by then is closed."""
    max_instance_bytes: int = Field(1 << 30, ge=1 << 20)
    """A larger object is refused with 0xA700."""
    reserve_bytes: int = Field(2 << 30, ge=0)
    """With less than this left on disk nothing new is accepted; results still get out. 0: never."""
    max_backlog: int = Field(20_000, ge=1)
    """Instances that may be durable and not yet recorded (the database is slow or down)."""
    drain_s: float = Field(30.0, ge=0, le=40)
    """How long a stop waits for live associations; after 60 s the supervisor kills the role."""

    @field_validator("networks")
    @classmethod
    def _cidr(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return check_networks(value)


class SeriesSettings(Section):
    """When a series is looked at (design, section 3)."""

    plausible_quiet_s: float = Field(2.0, gt=0)
    final_quiet_s: float = Field(20.0, gt=0)
    final_quiet_thin_s: float = Field(60.0, gt=0)
    """For slices thinner than 3 mm, of which more are to come."""


class QueueSettings(Section):
    """Leases and retries."""

    lease_s: float = Field(60.0, gt=1)
    attempts: int = Field(3, ge=1)
    """Tries of an analysis or a document before it is given up and shown."""
    poll_s: float = Field(0.1, gt=0)
    """The shortest pause of an idle worker; it grows to five times this."""
    waiting_cap_minutes: float = Field(120.0, gt=0)
    """A study that has waited longer goes to the front of its group."""


Weight = Annotated[int, Field(ge=-LAST_RANK, le=LAST_RANK)]


class RulesSettings(Section):
    """What a site puts first on the reading list, among the studies in which nothing was found."""

    ae_title_weights: dict[AETitle, Weight] = {}
    """By the calling AE title: steps of ordered priority, forward where positive."""
    station_weights: dict[str, Weight] = {}
    """By Station Name (0008,1010)."""
    priority_weights: dict[str, Weight] = {}
    """By Requested Procedure Priority (0040,1003)."""

    @field_validator("priority_weights")
    @classmethod
    def _known(cls, value: dict[str, int]) -> dict[str, int]:
        known = {name: weight for name, weight in value.items() if name in ORDERED_RANK}
        if unknown := sorted(value.keys() - known.keys()):
            raise ValueError(f"{unknown[0]!r} is none of {', '.join(filter(None, ORDERED_RANK))}")
        return value


class InferSettings(Section):
    """The worker that runs the models."""

    models: Path = Path("/var/lib/ichnode/models")
    """The registry; when it is empty the bundle that ships with ichnode is used."""
    device: Literal["auto", "cuda", "cpu"] = "auto"
    threads: int = Field(0, ge=0)
    """CPU threads; 0 takes all cores."""


class ReportSettings(Section):
    """What is written about a series."""

    negative_sr: bool = False
    """Also send an SR of negative series."""
    key_image: bool = True
    """Send a Secondary Capture key image of positive series."""
    heat_map: bool = True
    """Show in it where the model suspects blood, beside the plain slice."""
    manufacturer: str = "ichnode"
    institution: str = ""
    series_number_sr: int = 9001
    series_number_sc: int = 9003
    series_number_kos: int = 9005
    series_number_gsps: int = 9007


class SendSettings(Section):
    """The outbox."""

    retry_first_s: float = Field(2.0, gt=0)
    retry_longest_s: float = Field(300.0, gt=0)
    negative_attempts: int = Field(50, ge=1)
    """Tries of a delivery that is not a positive; positives are tried for ever."""
    batch: int = Field(16, ge=1, le=256)
    """Objects per association."""


class WebSettings(Section):
    """The reading list, health and metrics over HTTP; on loopback only."""

    bind: str = "127.0.0.1"
    port: int = Field(8042, ge=0, le=65535)

    @field_validator("bind")
    @classmethod
    def _loopback(cls, value: str) -> str:
        if not ipaddress.ip_address(value).is_loopback:
            raise ValueError(
                "the page shows patients and has no log-in: bind it to 127.0.0.1 or ::1 and put a "
                "reverse proxy with authentication in front"
            )
        return value


class QuerySettings(Section):
    """The reading list over DICOM: UPS tasks and a plain query, at the receiver's door."""

    enabled: bool = False
    calling_ae_titles: tuple[str, ...] = ()
    """Who may ask; nobody else."""
    networks: tuple[str, ...] = ()
    """Where from, as CIDR; nowhere else."""
    max_associations: int = Field(8, ge=1, le=1000)
    """Associations of those who ask, in one receiving process; they count to the receiver's too."""
    max_results: int = Field(500, ge=1, le=10_000)
    """Matches that one query gets; where there are more the last answer is 0xA700."""
    worklist_label: str = Field("ICHNODE", min_length=1, max_length=64)
    retrieve_ae_title: str = Field("", max_length=16)
    """Where the images can be had; empty says nothing of it."""

    @field_validator("networks")
    @classmethod
    def _cidr(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            ipaddress.ip_network(network, strict=False)
        return value

    @model_validator(mode="after")
    def _somebody(self) -> QuerySettings:
        if self.enabled and not (self.calling_ae_titles and self.networks):
            raise ValueError(
                "answers name patients: with enabled = true name who may ask in calling_ae_titles, "
                "and where from in networks"
            )
        return self


class HousekeepSettings(Section):
    """Retention and the disk guard."""

    retention_days: float = Field(14.0, ge=0)
    """Images of studies older than this are purged, once everything about them is delivered."""
    label_wait_days: float = Field(90.0, ge=0)
    """Images that a label may still come for are kept so long, within the disk budget."""
    disk_budget_bytes: int = Field(200 << 30, ge=1 << 20)
    """Above this, or when the disk runs short, the oldest delivered studies are purged earlier."""


class ReconcileSettings(Section):
    """Asking an archive for head CTs that never came here."""

    peer: str = ""
    """The name of a destination, or AE@HOST:PORT; empty asks nobody."""
    every_minutes: float = Field(0.0, ge=0)
    """How often housekeeping asks; 0 never does."""
    hours: float = Field(24.0, gt=0, le=24 * 31)
    """Studies that began within so many hours are asked for."""
    grace_minutes: float = Field(30.0, ge=0)
    """A study may take so long from its beginning, and between two images, to arrive."""
    time_zone: str = ""
    """The modalities' time zone, such as Europe/Zurich; empty is this host's."""
    body_parts: tuple[str, ...] = ("HEAD", "BRAIN", "SKULL", "HEADNECK")
    patterns: tuple[str, ...] = (
        r"\bhead",
        "brain",
        "crani",
        "skull",
        "cereb",
        "neuro",
        "stroke",
        r"\bn?cct\b",
        "kopf",
        "hirn",
        r"sch(ä|ae)del",
        r"cr[aâ]n[eio]",
        r"enc[eé]f",
        r"\bt[eê]te\b",
        r"\btesta\b",
    )
    """Regular expressions: what study or series descriptions of head CTs contain."""
    least_images: int = Field(8, ge=1)
    """Series with fewer are not waited for."""
    whole_studies: bool = True
    """A series of which nothing came is missing, too."""
    fetch: bool = False
    """Have what is missing sent to us by C-MOVE, without a person."""
    move_destination: str = ""
    """What the archive calls us; empty is receive.ae_title."""
    timeout_s: float = Field(30.0, gt=0)

    @field_validator("patterns")
    @classmethod
    def _readable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
        return value

    @field_validator("time_zone")
    @classmethod
    def _known(cls, value: str) -> str:
        if value:
            try:
                ZoneInfo(value)
            except (ValueError, OSError, KeyError):
                raise ValueError(f"{value!r} is no time zone that this host knows") from None
        return value

    @field_validator("move_destination")
    @classmethod
    def _title(cls, value: str) -> str:
        return _ae_title(value) if value else value


class RetrainSettings(Section):
    """Learning from the site's own labelled studies, and the watch over a new model."""

    folder: Path = Path("/var/lib/ichnode/retrain")
    """The de-identified export of labelled studies, and the work of retrainings."""
    every_days: float = Field(0.0, ge=0)
    """How often housekeeping starts one; 0 never does."""
    from_hour: int = Field(22, ge=0, le=23)
    until_hour: int = Field(5, ge=0, le=23)
    """Between these hours of local time; the same hour twice means at any time."""
    window_days: float = Field(365.0, gt=0)
    """Studies that arrived within so many days are exported, every one of them listed."""
    shadow_studies: int = Field(200, ge=0)
    """A challenger reads so many live studies in the shadow before it may be promoted ..."""
    shadow_days: float = Field(7.0, ge=0)
    """... over so many days at least ..."""
    shadow_disagreement: float = Field(0.05, ge=0, le=1)
    """... and puts at most this share of them in another band than the champion."""
    auto_rollback: bool = False
    """Go back to the previous model without a person when the watch finds a hard alarm."""


class LogSettings(Section):
    """Logging to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    style: Literal["auto", "json", "console"] = "auto"
