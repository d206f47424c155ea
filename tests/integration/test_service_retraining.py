"""A retraining from the node's side: collect, start, tell; and housekeeping that starts one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ichnode.domain.findings import Finding
from ichnode.nets.registry import Registry
from ichnode.service.orphans import SUPERVISOR_VARIABLE
from ichnode.service.retrain_schedule import RetrainingStands, RetrainSchedule
from ichnode.service.retraining import (
    LEAST,
    LEAST_UNFLAGGED,
    AlreadyRunning,
    Outcome,
    Retraining,
    Wish,
    is_running,
)
from ichnode.settings import InferSettings, NodeSettings, RetrainSettings, Settings
from ichnode.worklist.engine import connect
from ichnode.worklist.history import RETRAINING
from ichnode.worklist.worklist import Worklist
from tests.models import write_model
from tests.site_kit import SimulatedSite
from tests.worklist_kit import POLICY, HandClock, analysed

DAY_S = 86400.0
STAND_IN = """
import json, shutil, sys, os
from pathlib import Path
from ichnode.nets.registry import Registry
here = Path({folder!r})
with (here / "calls").open("a") as calls:
    print(json.dumps(sys.argv[1:]), file=calls)
options = dict(zip(sys.argv[2::2], sys.argv[3::2]))
assert (Path(options["--export"]) / "export.json").is_file()
work = Path(options["--work"]) / "abc"
work.mkdir(parents=True, exist_ok=True)
code = int((here / "code").read_text())
if code < 0:
    os.kill(os.getpid(), -code)
refusal = {{"gate": "D1", "sentences": ["7 more are needed."]}} if code == 3 else None
(work / "retrain-report.html").write_text("<p>report</p>")
(work / "retrain-report.json").write_text(json.dumps({{"refusal": refusal}}))
if code == 0:
    registry = Registry(Path(options["--registry"]))
    registry.challenge(registry.install(here / "bundle"))
sys.exit(code)
"""
"""Stands where `python -m train` stands: takes its options, leaves what it leaves, ends as told."""


class Learner:
    """A site that may retrain, with something that ends as it is told in place of the training."""

    def __init__(self, worklist: Worklist, clock: HandClock, folder: Path) -> None:
        self.folder = folder
        self.site = SimulatedSite(worklist, clock, folder / "spool")
        self.settings = Settings(
            node=NodeSettings(host_id="test", spool=folder / "spool"),
            infer=InferSettings(models=folder / "models"),
            retrain=RetrainSettings(folder=folder / "retrain", every_days=30.0),
        )
        registry = Registry(folder / "models")
        write_model(folder / "champion", logit=-3.0)
        registry.promote(registry.install(folder / "champion"))
        write_model(folder / "bundle", logit=6.0, version="2")
        (folder / "program.py").write_text(STAND_IN.format(folder=str(folder)))
        self.ends_with(3)

    def ends_with(self, code: int) -> None:
        (self.folder / "code").write_text(str(code))

    def retraining(self, wish: Wish | None = None) -> Retraining:
        program = (sys.executable, str(self.folder / "program.py"))
        return Retraining(self.settings, self.site.worklist, wish=wish, program=program)

    def run(self, wish: Wish | None = None) -> Outcome:
        return self.retraining(wish).run(lambda _done, _of: None)

    def calls(self) -> list[list[str]]:
        lines = (self.folder / "calls").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def history(self) -> list[str]:
        lines = self.site.worklist.history.latest(RETRAINING, "began", "ended", limit=20)
        return [line.verb for line in reversed(lines)]


@pytest.fixture
def learner(worklist: Worklist, hand_clock: HandClock, tmp_path: Path) -> Learner:
    return Learner(worklist, hand_clock, tmp_path)


@pytest.fixture
def small(databases, hand_clock: HandClock, tmp_path: Path):
    """The same on SQLite alone, where the engine makes no difference."""
    worklist = Worklist(connect(databases.migrated("sqlite")), POLICY, hand_clock)
    yield Learner(worklist, hand_clock, tmp_path)
    worklist.close()


def test_a_refusal_is_told_with_its_reasons_and_changes_nothing(learner: Learner) -> None:
    """The export is there, the training got its options, the history says how it ended."""
    study = learner.site.scan(analysed(Finding.POSITIVE), bleeds=["subdural"])
    learner.site.label(study, subdural=True)
    outcome = learner.run(Wish(full=True, by="Dr B", corrections=2))
    assert (outcome.kind, outcome.sentences) == ("refused", ("7 more are needed.",))
    assert outcome.report == learner.folder / "retrain" / "work" / "abc" / "retrain-report.html"
    (call,) = learner.calls()
    assert call[0] == "retrain"
    assert call[-5:] == ["--full", "--corrections", "2", "--by", "Dr B"]
    assert len((learner.folder / "retrain" / "export" / "studies.jsonl").read_text()) > 100
    assert learner.history() == ["began", "ended"]
    (ended,) = learner.site.worklist.history.latest(RETRAINING, "ended")
    assert ended.detail == {
        "outcome": "refused",
        "exit_code": 3,
        "reasons": ["7 more are needed."],
    }
    registry = Registry(learner.folder / "models")
    assert [one.alias for one in registry.entries()] == ["champion", "previous"]


def test_a_challenger_is_noted_once(small: Learner) -> None:
    """With the moment that the registry says."""
    small.ends_with(0)
    assert small.run().kind == "challenger"
    entry = Registry(small.folder / "models").challenger()
    assert entry is not None
    (noted,) = small.site.worklist.history.latest("model", "challenged", limit=9)
    assert noted.detail["model_uid"] == entry.model_uid
    assert entry.since is not None
    assert noted.detail["given_at"] == entry.since.at.isoformat()


def test_a_training_that_fails_is_a_failure(small: Learner) -> None:
    """Any other exit code; nothing is taken for a report of it."""
    small.ends_with(1)
    outcome = small.run()
    assert (outcome.kind, outcome.exit_code, outcome.report) == ("failed", 1, None)


def test_a_training_that_was_killed_goes_on_with_the_studies_that_it_had(small: Learner) -> None:
    """On a node that receives, one study more would be another run; once ended, it counts."""
    small.site.scan(analysed(Finding.NEGATIVE))
    small.ends_with(-9)
    assert small.run().kind == "failed"
    studies = small.folder / "retrain" / "export" / "studies.jsonl"
    before = studies.read_text()
    small.site.scan(analysed(Finding.NEGATIVE))
    small.ends_with(3)
    assert small.run().kind == "refused"
    assert studies.read_text() == before
    assert small.run().kind == "refused"
    assert len(studies.read_text().splitlines()) == len(before.splitlines()) + 1


def test_another_wish_or_champion_collects_anew(small: Learner) -> None:
    """What was cut off was asked for otherwise, so there is nothing to go on with."""
    small.site.scan(analysed(Finding.NEGATIVE))
    small.ends_with(-9)
    small.run()
    studies = small.folder / "retrain" / "export" / "studies.jsonl"
    before = studies.read_text()
    small.site.scan(analysed(Finding.NEGATIVE))
    small.run(Wish(full=True))
    assert len(studies.read_text().splitlines()) == len(before.splitlines()) + 1


def test_one_run_at_a_time_and_the_training_holds_the_lock(small: Learner) -> None:
    """A second one is refused while the training of the first lives, though its parent is gone."""
    folder = small.folder / "retrain"
    program = small.folder / "program.py"
    program.write_text("import sys\nprint('on', flush=True)\nsys.stdin.readline()\n")
    assert not is_running(folder)
    script = f"""
import fcntl, os, subprocess, sys
from pathlib import Path
folder = Path({str(folder)!r})
folder.mkdir(parents=True)
lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT)
fcntl.flock(lock, fcntl.LOCK_EX)
subprocess.Popen([sys.executable, {str(program)!r}], pass_fds=(lock,))
os._exit(0)
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    assert parent.stdin is not None
    assert parent.stdout.readline() == b"on\n"
    assert parent.wait(20) == 0
    assert is_running(folder)
    with pytest.raises(AlreadyRunning):
        small.run()
    parent.stdin.close()  # the training ends
    deadline = time.monotonic() + 20
    while is_running(folder) and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    small.ends_with(3)
    program.write_text(STAND_IN.format(folder=str(small.folder)))
    assert small.run().kind == "refused"
    parent.stdout.close()


@pytest.mark.slow
def test_the_training_itself_refuses_too_few_studies(small: Learner) -> None:
    """The real one, on a real export: it says how many more of what, and nothing is changed."""
    for number in range(3):
        study = small.site.scan(
            analysed(Finding.NEGATIVE), bleeds=["subdural"] if number == 0 else ()
        )
        small.site.label(study, any=number == 0)
    program = (sys.executable, "-m", "train")
    before = (small.folder / "models" / "aliases.json").read_bytes()
    outcome = Retraining(small.settings, small.site.worklist, program=program).run(
        lambda _done, _of: None
    )
    assert outcome.kind == "refused"
    assert outcome.report is not None
    assert "Refused" in outcome.report.read_text()
    assert any("more labelled studies with haemorrhage" in one for one in outcome.sentences)
    assert (small.folder / "models" / "aliases.json").read_bytes() == before


def test_a_plan_counts_and_says_what_is_missing(learner: Learner) -> None:
    """By label, flagged and not, and how many more of what; nothing is written."""
    site = learner.site
    seen = site.scan(analysed(Finding.POSITIVE), bleeds=["subdural"])
    site.scan(analysed(Finding.NEGATIVE), bleeds=["epidural"])
    site.label(seen, subdural=True)
    plan = learner.retraining().plan()
    assert (plan.studies, plan.analysed, plan.labelled, plan.usable) == (2, 2, 1, 1)
    assert (plan.flagged, plan.unflagged) == ([1, 1], [0, 1])
    assert plan.labels["subdural"] == [1, 0]
    assert plan.labels["epidural"] == [0, 0]
    missing = "\n".join(plan.missing)
    assert f"{LEAST['labelled'] - 1} more studies labelled (1 of about {LEAST['labelled']})" in (
        missing
    )
    assert "1 more analysed studies that were not flagged (0 of 1" in missing
    assert not (learner.folder / "retrain").exists()
    assert not (learner.folder / "models" / "site-salt").exists()
    learner.run()
    assert learner.retraining().plan().usable == 1


def test_what_the_plan_asks_for_is_what_the_training_asks_for() -> None:
    """The node does not import the training, so that its figures are told twice, and equal."""
    from train.retrain.policy import Policy

    policy = Policy()
    train, _, calibration, holdout = policy.shares
    assert LEAST["labelled"] == round(policy.least_train_series / train)
    positives = (
        policy.least_train_positives / train,
        policy.least_calibration_positives / calibration,
        policy.least_holdout_positives / holdout,
    )
    assert LEAST["with haemorrhage"] == round(max(positives))
    assert LEAST["without"] == round(policy.least_holdout_negatives / holdout)
    assert policy.least_unflagged_coverage == LEAST_UNFLAGGED


# ------------------------------------------------------------------ the schedule


class Scheduled:
    """Housekeeping's schedule over a site, with the hour that the test says."""

    def __init__(self, learner: Learner, **environment: str) -> None:
        self.learner, self.hour = learner, 23
        started = learner.folder / "started"
        program = learner.folder / "starts.py"
        program.write_text(f"open({str(started)!r}, 'a').write('x')\n")
        self._make: Callable[[], RetrainSchedule] = lambda: RetrainSchedule(
            learner.settings,
            learner.site.worklist,
            environment=environment,
            program=(sys.executable, str(program)),
            local_hour=lambda: self.hour,
        )
        self.schedule = self._make()

    def again(self) -> None:
        """Start housekeeping anew."""
        self.schedule = self._make()


@pytest.fixture
def scheduled(small: Learner) -> Scheduled:
    return Scheduled(small)


def test_the_first_one_starts_in_its_hours(scheduled: Scheduled) -> None:
    """From 22 to 5, over midnight, and once."""
    for hour in (5, 12, 21):
        scheduled.hour = hour
        assert not scheduled.schedule.retrain()
    scheduled.hour = 3
    assert scheduled.schedule.retrain()
    assert not scheduled.schedule.retrain(), "it was just started"
    process = scheduled.schedule._process
    assert process is not None
    assert process.wait(20) == 0
    assert (scheduled.learner.folder / "started").read_text() == "x"


def test_the_next_one_starts_when_its_days_are_over(scheduled: Scheduled) -> None:
    """Counted from the end of the last one."""
    scheduled.learner.run()
    assert not scheduled.schedule.retrain()
    scheduled.learner.site.clock.forward(29 * DAY_S)
    assert not scheduled.schedule.retrain()
    scheduled.learner.site.clock.forward(1 * DAY_S)
    assert scheduled.schedule.retrain()


def test_a_challenger_that_waits_for_a_person_is_not_replaced(scheduled: Scheduled) -> None:
    """Its shadow would begin anew each time, and nobody would ever decide."""
    scheduled.learner.ends_with(0)
    scheduled.learner.run()
    scheduled.learner.site.clock.forward(31 * DAY_S)
    assert not scheduled.schedule.retrain()


def test_what_was_cut_short_goes_on_but_not_for_ever(scheduled: Scheduled) -> None:
    """After three times it stands still and shows so."""
    history = scheduled.learner.site.worklist.history
    for _ in range(2):
        history.note(RETRAINING, "began")
        scheduled.again()
        assert scheduled.schedule.retrain()
    history.note(RETRAINING, "began")
    scheduled.again()
    with pytest.raises(RetrainingStands, match="cut short 3 times"):
        scheduled.schedule.retrain()
    scheduled.learner.site.clock.forward(31 * DAY_S)
    assert scheduled.schedule.retrain()


def test_a_failure_shows_until_the_next_one(scheduled: Scheduled) -> None:
    """A job of housekeeping that fails is in the heartbeat, and so in the health check."""
    scheduled.learner.ends_with(1)
    scheduled.learner.run()
    with pytest.raises(RetrainingStands, match="failed"):
        scheduled.schedule.retrain()
    scheduled.learner.ends_with(3)
    scheduled.learner.run()
    assert not scheduled.schedule.retrain()


def test_without_a_schedule_nothing_starts(small: Learner) -> None:
    """As it ships."""
    assert Settings().retrain.every_days == 0
    off = small.settings.retrain.model_copy(update={"every_days": 0.0})
    small.settings = small.settings.model_copy(update={"retrain": off})
    assert not Scheduled(small).schedule.retrain()


def test_under_systemd_a_request_is_left_for_the_path_unit(small: Learner) -> None:
    """Nothing is started here; a supervisor of our own below systemd starts it as elsewhere."""
    asked = Scheduled(small, INVOCATION_ID="1")
    request = small.folder / "retrain" / "requested"
    assert asked.schedule.retrain()
    assert request.exists()
    assert asked.schedule._process is None
    assert not asked.schedule.retrain(), "it is asked for already"
    old = time.time() - 4000
    os.utime(request, (old, old))
    with pytest.raises(RetrainingStands, match=r"ichnode-retrain\.path"):
        asked.schedule.retrain()
    small.run()
    assert not request.exists()
    started = Scheduled(small, INVOCATION_ID="1", **{SUPERVISOR_VARIABLE: "7"})
    small.site.clock.forward(31 * DAY_S)
    assert started.schedule.retrain()
    assert not request.exists()
