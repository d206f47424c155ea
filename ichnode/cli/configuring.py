"""Where a command finds its settings: the file, the environment, and ``--set`` above both."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ichnode.domain.errors import ConfigurationError

if TYPE_CHECKING:
    from ichnode.settings import Settings


@dataclass(frozen=True, slots=True)
class Chosen:
    """What was said on the command line about the configuration."""

    config: Path | None = None
    flags: dict[str, Any] = field(default_factory=dict)
    assignments: tuple[str, ...] = ()

    def settings(self) -> Settings:
        """Read the configuration."""
        from ichnode.settings import load_settings

        return load_settings(self.config, flags=self.flags)

    def origins(self) -> dict[str, str]:
        """Say where each set value came from."""
        from ichnode.settings import origins

        return origins(self.config, flags=self.flags)

    def arguments(self) -> list[str]:
        """Return the options that say the same to another process."""
        config = ["--config", str(self.config)] if self.config else []
        return [*config, *(word for one in self.assignments for word in ("--set", one))]


def choose(config: Path | None, assignments: Iterable[str]) -> Chosen:
    """Take in the global options.

    Raises
    ------
    ConfigurationError
        For an assignment that is none.
    """
    kept = tuple(assignments)
    return Chosen(config, dict(map(_split, kept)), kept)


def chosen(context: typer.Context) -> Chosen:
    """Return what was chosen for this command."""
    found: Chosen = context.obj
    return found


def settings_of(context: typer.Context) -> Settings:
    """Read the configuration that was chosen for this command."""
    return chosen(context).settings()


def _split(assignment: str) -> tuple[str, Any]:
    name, equals, text = assignment.partition("=")
    if not equals or not name.strip():
        raise ConfigurationError(
            f"--set {assignment!r} is not of the form NAME=VALUE, e.g. receive.port=104."
        )
    return name.strip(), _value(name.strip(), text.strip())


def _value(name: str, text: str) -> Any:
    """Read lists, tables and quoted text as TOML; the rest is left to the setting's own type.

    A person at a terminal writes ``receive.ae_title=CT1`` and does not want to quote it for TOML
    inside quotes for the shell.
    """
    if not text.startswith(("[", "{", '"', "'")):
        return text
    try:
        content = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"--set {name}: that is not a TOML value: {error}.") from None
    return content["value"]
