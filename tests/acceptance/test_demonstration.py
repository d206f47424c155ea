"""`ichnode demo` as a person runs it, and that its exit code can say no."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from ichnode.domain.findings import LABELS
from ichnode.service import demo_tables
from ichnode.service.demo_pacs import DemoPacs, ReadingTask, ReceivedDocument
from ichnode.service.demo_plan import PlannedStudy, ScannedStudy, plan
from ichnode.service.demonstration import Scanned

pytestmark = pytest.mark.slow


@pytest.mark.timeout(280)
def test_the_demonstration_ends_well(tmp_path):
    """Few studies: every bleed above every other study, nothing lost, exit code 0."""
    done = subprocess.run(
        [sys.executable, "-m", "ichnode", "demo", "--studies", "4", "--folder", str(tmp_path)],
        capture_output=True, text=True, timeout=270, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing was lost" in done.stdout
    assert "not for clinical use" in " ".join(done.stdout.replace("│", " ").split())
    assert "DOSE REPORT" in done.stdout
    reports = list((tmp_path / "pacs").glob("SR-*.dcm"))
    assert len(reports) >= 1


def test_the_bleeds_come_late_and_every_kind_has_its_turn():
    """The plan scans calm studies first, adds what scanners send along, and something else."""
    planned = plan(15)
    bleeding = [i for i, study in enumerate(planned) if study.bleeds]
    assert len(bleeding) == 5
    assert {study.bleeds[0] for study in planned if study.bleeds} == set(LABELS[1:])
    assert min(bleeding) > len(planned) / 2
    assert sum(not study.head for study in planned) == 1
    assert {extra for study in planned for extra in study.extras} == {
        "localizer", "dose_report", "bone",
    }  # fmt: skip


class Shown:
    """What `find_faults` looks at, put together by hand."""

    def __init__(self, order, *, bleeds, reports=1, refused=0, recorded=True):
        self.scanned = [
            Scanned(
                ScannedStudy(PlannedStudy(1, ("subdural",) if uid in bleeds else ()), uid, uid, {}),
                accepted=3,
                refused=refused,
            )
            for uid in sorted(order)
        ]
        tasks = [ReadingTask(uid, uid, uid, "", "", number) for number, uid in enumerate(order)]
        for task in tasks:
            if task.study_uid in bleeds:
                task.documents = [ReceivedDocument(None, "SR", 0.0)] * reports
        self.pacs = SimpleNamespace(reading_list=lambda: tasks)
        rows = [SimpleNamespace(study_uid=uid) for uid in order]
        views = SimpleNamespace(reading_list=lambda limit, offset=0: rows[offset:limit])
        self.worklist = SimpleNamespace(views=views)
        self.all_recorded = lambda: recorded


@pytest.mark.parametrize(
    ("shown", "says"),
    [
        (Shown(["a", "b", "c"], bleeds={"b"}), "do not bleed"),
        (Shown(["b", "a", "c"], bleeds={"b"}, reports=0), "has 0 reports"),
        (Shown(["b", "a", "c"], bleeds={"b"}, reports=2), "has 2 reports"),
        (Shown(["b", "a", "c"], bleeds={"b"}, refused=1), "refused"),
        (Shown(["b", "a", "c"], bleeds={"b"}, recorded=False), "does not have every image"),
    ],
)
def test_each_fault_is_found(shown, says):
    """A wrong order, a missing or double report, a refused or a lost image: exit code 1."""
    assert any(says in fault for fault in demo_tables.find_faults(shown))


def test_no_fault_is_found_where_there_is_none():
    """The bleed first, one report, everything recorded."""
    assert demo_tables.find_faults(Shown(["b", "a", "c"], bleeds={"b"})) == []


def test_the_demonstration_pacs_lists_first_in_first_out_until_a_priority_arrives(tmp_path):
    """Its list is what a site's own would be: by priority, then by arrival."""
    pacs = DemoPacs(tmp_path)
    try:
        for number in range(3):
            pacs._tasks[str(number)] = ReadingTask(str(number), str(number), "", "", "", number)
        assert [t.uid for t in pacs.reading_list()] == ["0", "1", "2"]
        pacs._tasks["2"].priority = "HIGH"
        assert [t.uid for t in pacs.reading_list()] == ["2", "0", "1"]
        assert [t.uid for t in pacs.arrivals()] == ["0", "1", "2"]
    finally:
        pacs.stop()
