"""The ``ichnode`` command: thin, and quick to start because every command imports what it needs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ichnode import __version__
from ichnode.cli import (
    administering,
    labelling,
    looking,
    models,
    outputs,
    reconciling,
    running,
    sending,
    simulating,
    training,
)
from ichnode.cli.configuring import choose
from ichnode.domain.errors import ConfigurationError, Fatal, IchnodeError, Transient

EXIT_WRONG = 1
EXIT_UNAVAILABLE = 69  # EX_UNAVAILABLE of sysexits.h: the database or a peer does not answer
EXIT_CONFIGURATION = 78  # EX_CONFIG: a person must change something first

app = typer.Typer(
    name="ichnode",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help=(
        "A DICOM node that finds intracranial haemorrhage on head CT and moves those studies to "
        "the front of the reading list. Not for clinical use without local validation."
    ),
    epilog="Example: ichnode --config ./ichnode.toml --set receive.port=104 run",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ichnode {__version__}")
        raise typer.Exit


@app.callback()
def configure(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            envvar="ICHNODE_CONFIG",
            help="The configuration file; /etc/ichnode/ichnode.toml where it exists.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="A setting for this command, above the environment and the file, as in "
            "receive.port=104; may be repeated. Lists are written as TOML: "
            "receive.networks='[\"10.1.2.0/24\"]'.",
        ),
    ] = None,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Remember where the configuration is, and what stands above it."""
    context.obj = choose(config, settings or ())


running.register(app)
looking.register(app)
sending.register(app)
administering.register(app)
models.register(app)
outputs.register(app)
reconciling.register(app)
labelling.register(app)
training.register(app)
simulating.register(app)


def main() -> None:
    """Run a command; an error that we know becomes one sentence and an exit code."""
    try:
        app()
    except ConfigurationError as error:
        _end(error, EXIT_CONFIGURATION)
    except Transient as error:
        _end(error, EXIT_UNAVAILABLE)
    except Fatal as error:
        _end(error, EXIT_CONFIGURATION)
    except IchnodeError as error:
        _end(error, EXIT_WRONG)


def _end(error: IchnodeError, code: int) -> None:
    typer.echo(f"ichnode: {error}", err=True)
    sys.exit(code)
