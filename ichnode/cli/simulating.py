"""``ichnode simulate``: waiting times with and without re-ordering, at stated assumptions."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ichnode.cli.configuring import settings_of

if TYPE_CHECKING:
    from ichnode.service.simulating import Interval, Waits


class Spread(Enum):
    """How reading times lie around their mean."""

    EXPONENTIAL = "exponential"
    FIXED = "fixed"


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(
        epilog="Example: ichnode simulate --prevalence 0.1 --sensitivity 0.9 --specificity 0.9 "
        "--readers 2 --load 0.8 --plot waiting.svg"
    )(simulate)


def simulate(
    context: typer.Context,
    prevalence: Annotated[float, typer.Option(help="Share of positives on the list.")] = 0.1,
    sensitivity: Annotated[float, typer.Option(help="Of the model, by study.")] = 0.9,
    specificity: Annotated[float, typer.Option(help="Of the model, by study.")] = 0.9,
    readers: Annotated[int, typer.Option(min=1, help="People who read, all the time.")] = 1,
    per_day: Annotated[
        float, typer.Option(min=0.01, help="Studies a day, at random moments.")
    ] = 100.0,
    load: Annotated[
        float | None,
        typer.Option(help="Instead: the share of their time for which the readers are busy."),
    ] = None,
    arrivals: Annotated[
        Path | None,
        typer.Option(
            help="Instead: a CSV with a column `arrived` (minutes, or ISO 8601) and, where known, "
            "`positive`, `band`, `priority`, `minutes` (to read it)."
        ),
    ] = None,
    positive_minutes: Annotated[float, typer.Option(help="Mean time to read a positive.")] = 10.0,
    negative_minutes: Annotated[float, typer.Option(help="Mean time to read a negative.")] = 10.0,
    spread: Annotated[
        Spread, typer.Option(help="How reading times lie around their mean.")
    ] = Spread.EXPONENTIAL,
    cap_minutes: Annotated[
        float | None,
        typer.Option(help="Waiting cap; inf for none; queue.waiting_cap_minutes if left out."),
    ] = None,
    result_after: Annotated[
        float, typer.Option(min=0, help="Seconds from a study's arrival to its verdict.")
    ] = 0.0,
    preemptive: Annotated[
        bool, typer.Option("--preemptive", help="Urgent studies interrupt other readings.")
    ] = False,
    stat: Annotated[
        float, typer.Option(help="Share of studies ordered STAT; the others state no priority.")
    ] = 0.0,
    interrupting: Annotated[
        float, typer.Option(help="Share of studies that are on no list and read at once.")
    ] = 0.0,
    interrupting_minutes: Annotated[float, typer.Option(help="Mean time to read those.")] = 5.0,
    days: Annotated[float, typer.Option(help="Days of one replication.")] = 30.0,
    warm_up_days: Annotated[float, typer.Option(help="Days before those, not counted.")] = 1.0,
    replications: Annotated[int, typer.Option(min=1, help="For the intervals.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn.")] = 1,
    plot: Annotated[
        Path | None, typer.Option(help="Write a picture (SVG) of the waiting times.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Simulate how long positives and negatives wait to be read, with and without ichnode's order.

    Draws a site's days, replays the same studies in the order of arrival and in the order of the
    reading list (its own rules, waiting cap included), and prints means, medians, 90th percentiles
    and the longest wait, each with its 95 % interval over the replications. What comes out is as
    good as the assumptions, and says nothing about a real site.
    """
    from ichnode.service.arrivals import read_arrivals
    from ichnode.service.simulating import Assumptions
    from ichnode.service.simulating import simulate as replayed

    if cap_minutes is None:
        cap_minutes = settings_of(context).queue.waiting_cap_minutes
    assumptions = Assumptions(
        per_day=per_day,
        prevalence=prevalence,
        sensitivity=sensitivity,
        specificity=specificity,
        readers=readers,
        positive_min=positive_minutes,
        negative_min=negative_minutes,
        spread=spread.value,
        waiting_cap_min=cap_minutes,
        result_after_min=result_after / 60,
        preemptive=preemptive,
        stat=stat,
        interrupting=interrupting,
        interrupting_min=interrupting_minutes,
        days=days,
        warm_up_days=warm_up_days,
        replications=replications,
        seed=seed,
    )
    if load is not None:
        assumptions = assumptions.at_load(load)
    waits = replayed(assumptions, read_arrivals(arrivals) if arrivals is not None else ())
    if plot is not None:
        from ichnode.service.waiting_picture import draw
        from ichnode.spool import write_durable

        write_durable(plot, draw(waits).encode())
    if as_json:
        typer.echo(json.dumps(waits.summary(), indent=2, allow_nan=False))
        return
    _show(waits)
    if plot is not None:
        typer.echo(f"Picture: {plot}")


def _show(waits: Waits) -> None:
    from rich.console import Console
    from rich.table import Table

    from ichnode.service.simulating import GROUPS, LISTS

    assumed = waits.assumptions
    typer.echo(
        f"SIMULATED: {assumed.replications} times {waits.cases} studies. Minutes until read:"
    )
    table = Table("", "list", "mean", "median", "90 %", "longest")
    for group, words in GROUPS.items():
        for number, (name, groups) in enumerate(waits.figures.items()):
            cells = [_told(value) for value in groups[group].values()]
            table.add_row("" if number else words, LISTS[name], *cells)
        table.add_section()
    Console().print(table)
    for group, words in GROUPS.items():
        saved = waits.saved[group]
        when = "later" if saved.mean < 0 else "earlier"
        typer.echo(f"{words}: {_told(saved, sign=-1 if saved.mean < 0 else 1)} minutes {when}.")
    typer.echo("After \u00b1 half of the 95 % interval over the replications.")


def _told(value: Interval, *, sign: int = 1) -> str:
    from math import isfinite

    if not isfinite(value.mean):
        return "none"
    digits = 0 if value.mean >= 100 else 1
    half = f" \u00b1 {value.high - value.mean:.{digits}f}" if isfinite(value.high) else ""
    return f"{sign * value.mean:.{digits}f}{half}"
