"""``python -m train reports``: labels from the text of radiology reports."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from train.reports.checking import Agreement, Disagreement
    from train.reports.rules import Rules
    from train.reports.tables import Labelled, Reports
    from train.reports.training_labels import Policy

commands = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Read what reports of head CT say of haemorrhage, as labels to train with.",
    epilog="Example: python -m train reports label reports.csv --out labels.csv --show 5",
)


class OfChronic(StrEnum):
    """What blood is that is chronic throughout."""

    UNKNOWN = "unknown"
    PRESENT = "present"
    ABSENT = "absent"


class OfUnmentioned(StrEnum):
    """What a kind is that is not mentioned beside another that is present."""

    UNKNOWN = "unknown"
    ABSENT = "absent"


IdOption = Annotated[
    str, typer.Option("--id", help="Column of the identifiers: accession_number or study_uid.")
]
TextOption = Annotated[str, typer.Option("--text", help="Column of the texts.")]
RulesOption = Annotated[
    Path | None, typer.Option("--rules", help="Rules of the site's own, like the rules.toml there.")
]
ChronicOption = Annotated[
    OfChronic, typer.Option(help="What to make of haemorrhage that is chronic only.")
]
UnmentionedOption = Annotated[
    OfUnmentioned,
    typer.Option(help="What to make of a kind that is not mentioned beside one that is present."),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(commands, name="reports")


@commands.command(
    epilog="Example: python -m train reports label reports.csv --out labels.csv "
    "--evidence evidence.csv"
)
def label(
    source: Annotated[
        Path,
        typer.Argument(
            help="A CSV with accession_number or study_uid, and text; or a folder of .txt files "
            "named so."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Where the labels go.")] = Path("labels.csv"),
    evidence: Annotated[
        Path | None,
        typer.Option(
            help="Where the reason of each label goes, with its sentence: it holds patient data."
        ),
    ] = None,
    without_sentences: Annotated[
        bool,
        typer.Option("--without-sentences", help="Leave the sentences out of the evidence."),
    ] = False,
    show: Annotated[
        int, typer.Option(min=0, help="Print so many reports with what decided: patient data.")
    ] = 0,
    chronic: ChronicOption = OfChronic.UNKNOWN,
    unmentioned: UnmentionedOption = OfUnmentioned.UNKNOWN,
    identifier: IdOption = "",
    text: TextOption = "",
    rules: RulesOption = None,
) -> None:
    """Label reports of head CT, in English: present, absent or unknown for each kind of blood.

    The labels go to a CSV that `ichnode labels import` and `data add dicom-folder` read. They are
    what the report says, read by rules: look at some (--show), and compare some hundred with labels
    by hand (`reports check`) before a network learns from them.
    """
    from rich.console import Console

    from train.reports.rules import load_rules
    from train.reports.showing import show as show_report
    from train.reports.tables import read_reports, write_evidence, write_labels

    reports = read_reports(source, identifier=identifier, text=text)
    studies = _labelled(reports, load_rules(rules), _policy(chronic, unmentioned))
    written = write_labels(out, reports.column, studies)
    if evidence is not None:
        write_evidence(evidence, reports.column, studies, with_sentences=not without_sentences)
    console = Console(highlight=False)
    for number, study in enumerate(_worth_showing(studies, show), start=1):
        show_report(console, study, number)
    _tell(console, reports, studies, written, out)


@commands.command(epilog="Example: python -m train reports check labelled.csv --show 10")
def check(
    labelled: Annotated[
        Path,
        typer.Argument(
            help="A CSV of reports as for label, with columns any, epidural, intraparenchymal, "
            "intraventricular, subarachnoid, subdural as people read them: present, absent or blank"
        ),
    ],
    show: Annotated[
        int, typer.Option(min=0, help="Print the sentences of so many differences: patient data.")
    ] = 0,
    chronic: ChronicOption = OfChronic.UNKNOWN,
    unmentioned: UnmentionedOption = OfUnmentioned.UNKNOWN,
    identifier: IdOption = "",
    text: TextOption = "",
    rules: RulesOption = None,
) -> None:
    """Compare the labels with those that people gave the same reports."""
    from rich.console import Console

    from train.reports.checking import check as compare
    from train.reports.rules import load_rules
    from train.reports.tables import read_reports

    reports = read_reports(labelled, identifier=identifier, text=text)
    agreements, differing = compare(
        reports.reports, load_rules(rules), _policy(chronic, unmentioned)
    )
    console = Console(highlight=False)
    _print_agreements(console, agreements)
    _print_differences(differing, show)


def _policy(chronic: OfChronic, unmentioned: OfUnmentioned) -> Policy:
    from train.reports.training_labels import Policy

    return Policy(chronic.value, unmentioned.value)


def _labelled(reports: Reports, rules: Rules, policy: Policy) -> list[Labelled]:
    """Label reports; several of one study become one."""
    from rich.console import Console
    from rich.progress import track

    from train.reports.labelling import ReportLabels, label_report
    from train.reports.merging import merged
    from train.reports.tables import Labelled
    from train.reports.training_labels import training_labels

    said: dict[str, list[tuple[str, ReportLabels]]] = {}
    console = Console(stderr=True)
    for one in track(reports.reports, "Reading reports", console=console, transient=True):
        said.setdefault(one.identifier, []).append((one.text, label_report(one.text, rules)))
    studies = []
    for identifier, held in said.items():
        text, report = merged(held)
        studies.append(Labelled(identifier, report, training_labels(report, policy), text))
    return studies


def _worth_showing(studies: list[Labelled], count: int) -> list[Labelled]:
    """Return reports to look at: those in doubt first, then with blood, then without."""
    order = {"uncertain": 0, "present": 1, "absent": 2, "not mentioned": 3}
    return sorted(studies, key=lambda study: order[study.report["any"].answer])[:count]


def _tell(
    console: Console, reports: Reports, studies: list[Labelled], written: int, out: Path
) -> None:
    from rich.table import Table

    from ichnode.domain.findings import LABELS

    table = Table(box=None, pad_edge=False)
    for heading in ("label", "present", "absent", "unknown"):
        table.add_column(heading, justify="left" if heading == "label" else "right")
    for name in LABELS:
        values = [study.labels[name].value for study in studies]
        table.add_row(name, *(str(values.count(value)) for value in (True, False, None)))
    typer.echo(f"{len(reports.reports)} reports of {len(studies)} studies.")
    console.print(table)
    if reports.without_text:
        typer.echo(f"{reports.without_text} lines had no identifier or no text.")
    typer.echo(f"Labels of {written} studies are in {out}; of the others nothing is known.")


def _print_agreements(console: Console, agreements: list[Agreement]) -> None:
    from rich.table import Table

    from train.reports.checking import interval, total

    table = Table(box=None, pad_edge=False)
    for heading in ("label", "present", "absent", "sensitivity", "specificity", "PPV", "decided"):
        table.add_column(heading, justify="left" if heading == "label" else "right")
    for one in agreements:
        parts = (one.sensitivity, one.specificity, one.predictive_value)
        shares = [_percent(*interval(part)) for part in parts]
        present = one.found + one.missed + one.open_present
        absent = one.right + one.false + one.open_absent
        decided = f"{100 * interval(one.decided)[0]:.0f} %"
        table.add_row(one.label, str(present), str(absent), *shares, decided)
    console.print(table)
    right, count = total(agreements)
    share, low, high = interval((right, count))
    agree = _percent(share, low, high)
    typer.echo(f"Of {count} labels decided, {right} agree: {agree}.")
    typer.echo(
        "95 % intervals (Wilson). Sensitivity, specificity and PPV are of what was decided; the "
        "rest is unknown and masked in training."
    )


def _percent(share: float, low: float, high: float) -> str:
    if math.isnan(share):
        return "-"
    return f"{100 * share:.0f} % ({100 * low:.0f}-{100 * high:.0f})"


def _print_differences(differing: list[Disagreement], show: int) -> None:
    if not differing:
        typer.echo("No difference.")
        return
    typer.echo(f"{len(differing)} differences:")
    for number, one in enumerate(differing):
        by_hand = "present" if one.by_hand else "absent"
        typer.echo(
            f"  line {one.line}: {one.label} is {by_hand} by hand, the report was read as "
            f"{one.read.answer} ({one.read.rule})"
        )
        if number < show and one.read.evidence is not None:
            evidence = one.read.evidence
            typer.echo(f"    {' '.join(one.text[evidence.start : evidence.end].split())}")
