"""The configuration: one commented TOML file < environment < command line.

Settings describe and never build anything; each room is handed its own section. A misspelt key or
variable and a missing file are errors that name the nearest right one, because pydantic-settings by
itself ignores both.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import socket
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from ichnode.domain.errors import ConfigurationError
from ichnode.domain.ids import is_ae_title

DEFAULT_FILE = Path("/etc/ichnode/ichnode.toml")
FILE_VARIABLE = "ICHNODE_CONFIG"
_PREFIX = "ICHNODE_"
# Variables of the surroundings that share our prefix and are no settings.
_NOT_SETTINGS = {
    "ICHNODE_CONFIG",
    "ICHNODE_REAL_DATA",
    "ICHNODE_REQUIRE_PEERS",
    "ICHNODE_SUPERVISOR",  # see ichnode.service.orphans
}


def _ae_title(value: str) -> str:
    if not is_ae_title(value):
        raise ValueError("an AE title has 1 to 16 printable characters and no backslash")
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
    drain_s: float = Field(30.0, ge=0)
    """How long a stop waits for live associations."""

    @field_validator("networks")
    @classmethod
    def _cidr(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            ipaddress.ip_network(network, strict=False)
        return value


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
    manufacturer: str = "ichnode"
    institution: str = ""
    series_number_sr: int = 9001
    series_number_sc: int = 9003


class DestinationSettings(Section):
    """Where results go."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    ae_title: AETitle
    host: str
    port: int = Field(ge=1, le=65535)
    sr: bool = True
    sc: bool = True
    ups: bool = False
    """Raise the Scheduled Procedure Step Priority of the study's reading task (UPS)."""
    create_if_missing: bool = False
    """Create a reading task where the study has none."""
    timeout_s: float = Field(30.0, gt=0)

    @property
    def is_loopback(self) -> bool:
        """Whether the destination is on this machine, and so open in observe mode."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


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


class HousekeepSettings(Section):
    """Retention and the disk guard."""

    retention_days: float = Field(14.0, ge=0)
    """Images of studies older than this are purged, once everything about them is delivered."""
    label_wait_days: float = Field(90.0, ge=0)
    """Images that a label may still come for are kept so long, within the disk budget."""
    disk_budget_bytes: int = Field(200 << 30, ge=1 << 20)
    """Above this, or when the disk runs short, the oldest delivered studies are purged earlier."""


class LogSettings(Section):
    """Logging to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    style: Literal["auto", "json", "console"] = "auto"


class Settings(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=_PREFIX,
        env_nested_delimiter="__",
        validate_default=True,
    )

    node: NodeSettings = NodeSettings()
    receive: ReceiveSettings = ReceiveSettings()
    series: SeriesSettings = SeriesSettings()
    queue: QueueSettings = QueueSettings()
    infer: InferSettings = InferSettings()
    report: ReportSettings = ReportSettings()
    destinations: tuple[DestinationSettings, ...] = ()
    send: SendSettings = SendSettings()
    web: WebSettings = WebSettings()
    housekeep: HousekeepSettings = HousekeepSettings()
    logs: LogSettings = LogSettings()

    @field_validator("destinations")
    @classmethod
    def _unique(cls, value: tuple[DestinationSettings, ...]) -> tuple[DestinationSettings, ...]:
        names = [destination.name for destination in value]
        if len(set(names)) != len(names):
            raise ValueError("two destinations have the same name")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - likewise
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - likewise
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over what was handed in, which is the file."""
        return (env_settings, init_settings)


def find_file(path: Path | None, environment: Mapping[str, str] = os.environ) -> Path | None:
    """Return the configuration file to read.

    The one that was asked for, else the one that the variable ``ICHNODE_CONFIG`` names, else
    `DEFAULT_FILE` where it exists, else None.

    Raises
    ------
    ConfigurationError
        When a file that was named does not exist; the message names the nearest one that does.
    """
    named = path or (Path(environment[FILE_VARIABLE]) if FILE_VARIABLE in environment else None)
    if named is None:
        return DEFAULT_FILE if DEFAULT_FILE.exists() else None
    if not named.is_file():
        here = [p.name for p in named.parent.glob("*.toml")] if named.parent.is_dir() else []
        raise ConfigurationError(
            f"There is no configuration file {named}.{_nearest(named.name, here)}"
        )
    return named


def load_settings(
    path: Path | None = None,
    *,
    flags: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Settings:
    """Read the configuration.

    Parameters
    ----------
    path : Path, optional
        The TOML file; see `find_file`.
    flags : mapping of str to Any, optional
        Values of the command line by dotted name (``{"receive.port": 104}``); they win. Text is
        read as a variable's would be.
    environment : mapping of str to str
        Where ``ICHNODE_SECTION__KEY`` variables are looked up when checking their spelling.

    Raises
    ------
    ConfigurationError
        For a missing file, a misspelt key or variable, or a wrong value, in one sentence each.
    """
    content = _read_toml(find_file(path, environment))
    _refuse_unknown_variables(environment)
    try:
        return _below(flags)(**content) if flags else Settings(**content)
    except ValidationError as error:
        raise ConfigurationError(explain(error)) from None


def _below(flags: Mapping[str, Any]) -> type[Settings]:
    """Return the settings with the command line on top of their sources."""
    nested: dict[str, Any] = {}
    for dotted, value in flags.items():
        if dotted not in known_names():
            raise ConfigurationError(f"{dotted} is no setting.{_nearest(dotted, known_names())}")
        section, _, key = dotted.partition(".")
        nested |= {section: nested.get(section, {}) | {key: value} if key else value}

    class WithFlags(Settings):
        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], *sources: Any, **named: Any
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            below = super().settings_customise_sources(settings_cls, *sources, **named)
            return (InitSettingsSource(settings_cls, nested), *below)

    return WithFlags


def origins(
    path: Path | None = None,
    *,
    flags: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] = os.environ,
) -> dict[str, str]:
    """Say for every set value, by dotted name, where it came from: file, variable, command line."""
    file = find_file(path, environment)
    found = {f"{name}": f"{file}" for name in _dotted(_read_toml(file))}
    for variable in environment:
        if variable.startswith(_PREFIX) and variable not in _NOT_SETTINGS:
            name = variable.removeprefix(_PREFIX).lower().replace("__", ".")
            found[name] = f"environment variable {variable}"
    return found | dict.fromkeys(flags or {}, "command line")


def _dotted(content: Mapping[str, Any]) -> Iterator[str]:
    for section, value in content.items():
        if isinstance(value, Mapping):
            yield from (f"{section}.{key}" for key in value)
        else:
            yield section


def _read_toml(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}.") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.") from None


def known_names() -> list[str]:
    """Return every setting's dotted name."""
    names = []
    for section, field in Settings.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, Section):
            names += [f"{section}.{key}" for key in annotation.model_fields]
        else:
            names.append(section)
    return names


def _refuse_unknown_variables(environment: Mapping[str, str]) -> None:
    known = {f"{_PREFIX}{name.replace('.', '__')}".upper() for name in known_names()}
    known |= {f"{_PREFIX}{section}".upper() for section in Settings.model_fields}
    for variable in environment:
        if not variable.startswith(_PREFIX) or variable in _NOT_SETTINGS:
            continue
        if variable.upper() not in known:
            raise ConfigurationError(
                f"The environment variable {variable} is no setting."
                f"{_nearest(variable, sorted(known))}"
            )


def explain(error: ValidationError) -> str:
    """Turn a validation error into sentences that name the setting and what to do."""
    sentences = []
    for one in error.errors(include_url=False, include_input=False):
        name = ".".join(str(part) for part in one["loc"])
        if one["type"] == "extra_forbidden":
            sentences.append(f"{name} is no setting.{_nearest(name, _known_beside(one['loc']))}")
        else:
            sentences.append(f"{name}: {one['msg'].removeprefix('Value error, ')}.")
    return " ".join(sentences)


def _known_beside(place: tuple[int | str, ...]) -> list[str]:
    """Return the right names where a wrong one was found."""
    if len(place) == 3 and place[0] == "destinations":
        return [f"destinations.{place[1]}.{key}" for key in DestinationSettings.model_fields]
    return [*known_names(), *Settings.model_fields]


def _nearest(name: str, candidates: list[str]) -> str:
    close = difflib.get_close_matches(name, candidates, n=1, cutoff=0.6)
    return f" Did you mean {close[0]}?" if close else ""
