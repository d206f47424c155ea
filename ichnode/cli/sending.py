"""``ichnode send``, ``echo`` and ``phantom``: the scanner's side of the door."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ichnode.domain.errors import ConfigurationError
from ichnode.domain.ids import split_peer


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(epilog="Example: ichnode send ./study ICHNODE@127.0.0.1:11112")(send)
    app.command(epilog="Example: ichnode echo ICHNODE@127.0.0.1:11112")(echo)
    app.command(epilog="Example: ichnode phantom ./scans --studies 3 --bleed subdural")(phantom)


def parse_peer(text: str) -> tuple[str, str, int]:
    """Split ``AE@HOST:PORT``.

    Raises
    ------
    ConfigurationError
        When it is not of that form.
    """
    split = split_peer(text)
    if split is None:
        raise ConfigurationError(
            f"{text!r} is not of the form AE@HOST:PORT, e.g. PACS@10.0.0.5:104."
        )
    return split


def send(
    folder: Annotated[Path, typer.Argument(help="A file, or a folder with all below it.")],
    peer: Annotated[str, typer.Argument(help="AE@HOST:PORT")],
    calling_ae: Annotated[str, typer.Option(help="Our own AE title.")] = "ICHNODE_SEND",
    associations: Annotated[int, typer.Option(min=1, max=16, help="Side by side.")] = 1,
    one_by_one: Annotated[
        bool, typer.Option("--one-by-one", help="One association per image, as some scanners do.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Send DICOM files by C-STORE, with a progress bar; the bytes go as they are.

    Exit code 1 when any file was not accepted; each of those is listed with its status.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from ichnode.send.sender import find_files, send_files

    ae_title, host, port = parse_peer(peer)
    files = find_files(folder)
    if not files:
        raise ConfigurationError(f"There are no DICOM files in {folder}.")
    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=as_json) as progress:
        bar = progress.add_task("sending", total=len(files))
        results = send_files(
            files,
            host=host,
            port=port,
            called_ae=ae_title,
            calling_ae=calling_ae,
            associations=associations,
            one_per_association=one_by_one,
            on_sent=lambda _result: progress.advance(bar),
        )
    failed = [r for r in results if not r.accepted]
    if as_json:
        rows = [{"path": str(r.path), "status": r.status, "error": r.error} for r in failed]
        typer.echo(json.dumps({"sent": len(results) - len(failed), "failed": rows}))
    else:
        typer.echo(f"{len(results) - len(failed)} of {len(results)} accepted by {ae_title}.")
        for result in failed:
            typer.echo(f"  {result.path}: {result.error}", err=True)
    raise typer.Exit(1 if failed else 0)


def echo(
    peer: Annotated[str, typer.Argument(help="AE@HOST:PORT")],
    calling_ae: Annotated[str, typer.Option(help="Our own AE title.")] = "ICHNODE_SEND",
) -> None:
    """Ask a DICOM peer whether it is there (C-ECHO); exit code 1 when it is not."""
    from ichnode.send.sender import echo as c_echo

    ae_title, host, port = parse_peer(peer)
    answer = c_echo(host, port, called_ae=ae_title, calling_ae=calling_ae)
    typer.echo(f"{peer}: {answer.sentence}")
    raise typer.Exit(0 if answer.ok else 1)


def phantom(
    folder: Annotated[Path, typer.Argument(help="Where to write; created where it is missing.")],
    studies: Annotated[int, typer.Option(min=1, max=10_000, help="How many studies.")] = 1,
    bleed: Annotated[
        list[str] | None,
        typer.Option(help="Kind of bleed, may be repeated; 'none' for none; random if left out."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first study.")] = 950_000,
    extras: Annotated[
        bool, typer.Option("--extras", help="Also a localizer, a dose report, a bone series.")
    ] = False,
) -> None:
    """Write simulated head CT studies as DICOM. Simulated, and marked so in every name."""
    from rich.progress import track

    from ichnode.domain.findings import LABELS
    from ichnode.phantom.studies import Extra, write_study

    wanted = tuple(kind for kind in bleed or () if kind != "none")
    kinds = tuple(label for label in LABELS[1:] if label in wanted)
    if unknown := set(wanted) - set(kinds):
        raise ConfigurationError(f"{unknown.pop()!r} is no kind of bleed: {', '.join(LABELS[1:])}.")
    along: tuple[Extra, ...] = ("localizer", "dose_report", "bone") if extras else ()
    for number in track(range(seed, seed + studies), description="simulating"):
        drawn = None if bleed is None else kinds
        write_study(folder / f"study-{number}", number, bleeds=drawn, extras=along)
    typer.echo(f"{studies} simulated studies in {folder}.")
