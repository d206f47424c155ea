"""``ichnode run`` and ``ichnode demo``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from ichnode.cli.configuring import chosen


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(epilog="Example: ichnode run   or, one role alone:  ichnode run infer")(run)
    app.command(epilog="Example: ichnode demo --keep")(demo)


def run(
    context: typer.Context,
    role: Annotated[
        str | None,
        typer.Argument(
            help="receive, infer, deliver, web, housekeep or listen; all of them when left out."
        ),
    ] = None,
) -> None:
    """Run the node, or one role of it.

    Without a role every role is started in a process of its own and restarted when it dies.
    SIGTERM or Ctrl-C stops in order: no new associations, live ones finish; a second one stops now.
    """
    from ichnode.service.roles import run_node, run_role

    said = chosen(context)
    settings = said.settings()
    arguments = said.arguments()
    if role is None:
        raise typer.Exit(run_node(settings, arguments))
    _leave(run_role(role, settings, arguments))


def _leave(code: int) -> NoReturn:
    """End the process of a role that has stopped, without taking the interpreter down.

    Everything is closed by now. Native threads of torch may still run, and the end of the
    interpreter beneath them has been seen to abort the process on a busy machine: a stop in order
    that looks like a crash.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the node up afterwards.")] = False,
    studies: Annotated[int, typer.Option(min=4, max=40, help="How many head CTs.")] = 12,
    folder: Annotated[
        Path | None, typer.Option(help="Where to work; a temporary folder when left out.")
    ] = None,
) -> None:
    """Show the whole node at work on simulated scans, on this machine only.

    Starts a node, a small PACS and a simulated scanner whose bleeds come late, and shows the
    reading list before and after. Exit code 0 only if every bleed ended above every negative and
    nothing was lost.
    """
    from ichnode.service.demo import run_demo

    raise typer.Exit(run_demo(studies=studies, keep=keep, folder=folder))
