"""What `ichnode demo` shows at its end, and what it makes its exit code of."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from ichnode.service.demo_pacs import ReadingTask
from ichnode.service.demonstration import Demonstration


def introduce(console: Console, folder: Path, studies: int) -> None:
    """Say what is going to happen, and that none of it is real."""
    console.print(
        Panel(
            f"{studies} [bold]simulated[/bold] head CT studies, and one CT of something else, go "
            "from a simulated scanner to a small PACS and to the real ichnode node, all on this "
            "machine. The bleeds are large and are scanned late.\n"
            f"Everything is kept in {folder}\n"
            "[yellow]Simulated scans, and a small model trained on simulated scans: not for "
            "clinical use.[/yellow]",
            title="ichnode demo",
        )
    )


def conclude(demo: Demonstration) -> bool:
    """Show what came of it and say whether it is as it must be."""
    demo.console.print(_lists(demo))
    demo.console.print(_times(demo))
    demo.console.print(_refused(demo))
    _point_to_documents(demo)
    faults = find_faults(demo)
    for fault in faults:
        demo.console.print(f"[bold red]FAULT[/bold red] {fault}")
    if not faults:
        demo.console.print(
            "[bold green]Every bleed ended above every other study, and nothing was lost."
            "[/bold green]"
        )
    demo.console.print(
        "\nTo run it for real: edit deploy/ichnode.toml, then `ichnode --config FILE db upgrade`, "
        "`ichnode --config FILE doctor` and `ichnode --config FILE run`; see docs/operating.md. A "
        "fresh node observes: nothing outside this machine gets anything until `ichnode "
        "commission`."
    )
    return not faults


def find_faults(demo: Demonstration) -> list[str]:
    """Return what went wrong, in sentences; an empty list is success."""
    bleeds = {s.study.study_uid for s in demo.scanned if s.study.bleeds}
    order = [task.study_uid for task in demo.pacs.reading_list()]
    faults = []
    if set(order[: len(bleeds)]) != bleeds:
        above = [uid for uid in order[: len(bleeds)] if uid not in bleeds]
        faults.append(
            f"{len(above)} of the first {len(bleeds)} studies of the PACS's list do not bleed."
        )
    own = [row.study_uid for row in demo.worklist.views.reading_list(limit=len(order), offset=0)]
    if set(own[: len(bleeds)]) != bleeds:
        faults.append("The node's own list does not begin with the bleeds.")
    if refused := sum(s.refused for s in demo.scanned):
        faults.append(f"{refused} images were refused.")
    if not demo.all_recorded():
        faults.append("The worklist does not have every image that was acknowledged.")
    faults += _missing_reports(demo, bleeds)
    return faults


def _missing_reports(demo: Demonstration, bleeds: set[str]) -> list[str]:
    faults = []
    for task in demo.pacs.reading_list():
        reports = [d for d in task.documents if d.modality == "SR"]
        if task.study_uid in bleeds and len(reports) != 1:
            faults.append(f"A bleeding study has {len(reports)} reports at the PACS, not one.")
    return faults


def _lists(demo: Demonstration) -> Table:
    bleeds = {s.study.study_uid: s.study.plan.bleeds for s in demo.scanned}

    def cell(task: ReadingTask) -> str:
        kinds = ", ".join(bleeds[task.study_uid])
        name = task.accession_number
        return f"[bold red]{name} ({kinds})[/bold red]" if kinds else name

    table = Table(title="The reading list of the PACS (in red: what truly bleeds; simulated)")
    for heading in ("", "before: first in, first out", "after ichnode", "priority"):
        table.add_column(heading)
    pairs = zip(demo.pacs.arrivals(), demo.pacs.reading_list(), strict=True)
    for place, (before, after) in enumerate(pairs, start=1):
        table.add_row(str(place), cell(before), cell(after), after.priority)
    return table


def _times(demo: Demonstration) -> Table:
    table = Table(title="From the last slice to the report that the PACS acknowledged")
    for heading in ("study", "truth (simulated)", "ichnode says", "images", "seconds"):
        table.add_column(heading, justify="right" if heading in ("images", "seconds") else "left")
    rows = {row.study_uid: row for row in demo.worklist.views.reading_list(limit=200, offset=0)}
    tasks = {task.study_uid: task for task in demo.pacs.reading_list()}
    for scanned in demo.scanned:
        study = scanned.study
        reports = [d.at - scanned.last_slice_at for d in tasks[study.study_uid].documents]
        table.add_row(
            study.accession_number,
            ", ".join(study.plan.bleeds) or ("no bleed" if study.plan.head else "no head"),
            rows[study.study_uid].sentence,
            str(scanned.accepted),
            f"{min(reports):.1f}" if reports and scanned.last_slice_at else "-",
        )
    return table


def _refused(demo: Demonstration) -> Table:
    table = Table(title="Series that were not analysed, and why")
    for heading in ("series", "images", "why"):
        table.add_column(heading)
    for row in demo.worklist.views.not_analysed(limit=100):
        sentence = row.reason.sentence if row.reason else "The analysis failed."
        table.add_row(
            row.series_description,
            str(row.instances),
            f"{sentence} {row.detail}",
        )
    return table


def _point_to_documents(demo: Demonstration) -> None:
    documents = [d for task in demo.pacs.reading_list() for d in task.documents]
    reports = sum(d.modality == "SR" for d in documents)
    demo.console.print(
        f"{reports} Structured Reports and {len(documents) - reports} key images are in "
        f"{demo.pacs.folder} (see one with dsrdump or any DICOM viewer)."
    )


def keep_up(demo: Demonstration, port: int) -> None:
    """Say how to go on with the node that stays up."""
    demo.console.print(
        f"\nThe node stays up until Ctrl-C.\n"
        f"  the list    http://127.0.0.1:{demo.web_port()}/\n"
        f"  send        ichnode send FOLDER ICHNODE@127.0.0.1:{port}\n"
        f"  look        ichnode --config {demo.config} status"
    )
