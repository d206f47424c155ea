"""Reading the configuration: one commented TOML file < environment < command line.

A misspelt key or variable and a missing file are errors that name the nearest right one, because
pydantic-settings by itself ignores both.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from ichnode.domain.errors import ConfigurationError
from ichnode.settings.commands import CommandSettings
from ichnode.settings.destinations import Destination, DestinationSettings, SubscriberSettings
from ichnode.settings.hl7 import Hl7Destination, Hl7ListenSettings
from ichnode.settings.over_http import FhirSettings, OrthancSettings, UpsRsSettings, WebhookSettings
from ichnode.settings.sections import (
    HousekeepSettings,
    InferSettings,
    LogSettings,
    NodeSettings,
    QuerySettings,
    QueueSettings,
    ReceiveSettings,
    ReconcileSettings,
    ReportSettings,
    RetrainSettings,
    RulesSettings,
    Section,
    SendSettings,
    SeriesSettings,
    WebSettings,
)

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
    rules: RulesSettings = RulesSettings()
    infer: InferSettings = InferSettings()
    report: ReportSettings = ReportSettings()
    destinations: tuple[DestinationSettings, ...] = ()
    orthanc: tuple[OrthancSettings, ...] = ()
    ups_rs: tuple[UpsRsSettings, ...] = ()
    fhir: tuple[FhirSettings, ...] = ()
    webhooks: tuple[WebhookSettings, ...] = ()
    commands: tuple[CommandSettings, ...] = ()
    hl7: tuple[Hl7Destination, ...] = ()
    send: SendSettings = SendSettings()
    hl7_listen: Hl7ListenSettings = Hl7ListenSettings()
    query: QuerySettings = QuerySettings()
    subscribers: tuple[SubscriberSettings, ...] = ()
    web: WebSettings = WebSettings()
    housekeep: HousekeepSettings = HousekeepSettings()
    reconcile: ReconcileSettings = ReconcileSettings()
    retrain: RetrainSettings = RetrainSettings()
    logs: LogSettings = LogSettings()

    @model_validator(mode="after")
    def _unique(self) -> Settings:
        names = [destination.name for destination in self.outputs]
        if len(set(names)) != len(names):
            raise ValueError("two destinations have the same name")
        return self

    @property
    def outputs(self) -> tuple[Destination, ...]:
        """Everywhere results go, whatever the way."""
        return tuple(one for section in DESTINATIONS for one in getattr(self, section))

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


DESTINATIONS: Mapping[str, type[Destination]] = {
    "destinations": DestinationSettings,
    "orthanc": OrthancSettings,
    "ups_rs": UpsRsSettings,
    "fhir": FhirSettings,
    "webhooks": WebhookSettings,
    "commands": CommandSettings,
    "hl7": Hl7Destination,
    "subscribers": SubscriberSettings,
}
"""The sections that are lists of destinations, ``[[section]]`` in the file."""


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
    if len(place) == 3 and (kind := DESTINATIONS.get(str(place[0]))):
        return [f"{place[0]}.{place[1]}.{key}" for key in kind.model_fields]
    return [*known_names(), *Settings.model_fields]


def _nearest(name: str, candidates: list[str]) -> str:
    close = difflib.get_close_matches(name, candidates, n=1, cutoff=0.6)
    return f" Did you mean {close[0]}?" if close else ""
