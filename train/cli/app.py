"""``python -m train``: puts the commands together and turns errors into one sentence."""

from __future__ import annotations

import functools
import importlib
import os
import pkgutil
import sys

import typer

import train.cli
from ichnode.logs import configure_logging
from train.errors import TrainingError

EXIT_WRONG = 1
EXIT_INTERRUPTED = 130  # as a shell says of a command that Ctrl-C ended

app = typer.Typer(
    name="python -m train",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help=(
        "Train networks that find intracranial haemorrhage on head CT: from folders of scans to a "
        "bundle that the node runs. Not for clinical use without local validation."
    ),
    epilog="Example: python -m train data add simulated 0:300 --cache cache",
)


@functools.cache
def register_all() -> None:
    """Add the commands of every module here that has some; once is enough."""
    for found in pkgutil.iter_modules(train.cli.__path__):
        if hasattr(module := importlib.import_module(f"train.cli.{found.name}"), "register"):
            module.register(app)


def main() -> None:
    """Run a command; an error that we know becomes one sentence and an exit code."""
    configure_logging(level="info")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    register_all()
    try:
        app()
    except TrainingError as error:
        typer.echo(f"train: {error}", err=True)
        sys.exit(EXIT_WRONG)
    except KeyboardInterrupt:
        typer.echo("train: interrupted; the same command goes on from here.", err=True)
        sys.exit(EXIT_INTERRUPTED)
