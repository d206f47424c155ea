"""The watch over a new champion: what it finds different, whom it tells, and what it never does."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ichnode.domain.findings import Finding
from ichnode.domain.labels import completed
from ichnode.domain.work import Failed
from ichnode.nets.registry import Registry
from ichnode.service.roles import Presence
from ichnode.service.stopping import Stopping
from ichnode.service.watching import Watch
from ichnode.settings import InferSettings, RetrainSettings, Settings
from ichnode.web.health import warnings_of
from ichnode.worklist import schema
from ichnode.worklist.engine import connect
from ichnode.worklist.labels import LabelLine
from ichnode.worklist.worklist import Worklist
from tests.models import write_model
from tests.worklist_kit import POLICY, HandClock, analysed, look, slices


class Site:
    """A node with a champion of three hours ago and the one before it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = HandClock()
        engine = connect(f"sqlite:///{folder}/worklist.db")
        schema.upgrade(engine)
        self.worklist = Worklist(engine, POLICY, self.clock)
        self.registry = Registry(folder / "models")
        for version in ("1", "2"):
            write_model(folder / version, logit=0.0, version=version)
            self.uid = self.registry.install(folder / version)
            self.registry.promote(self.uid, by="A. Physicist", reason="good")
        since = self.registry.find("champion").since
        assert since is not None
        self.since = since.at

    def watch(self, **changes: object) -> Watch:
        settings = Settings(
            infer=InferSettings(models=self.folder / "models"),
            retrain=RetrainSettings(folder=self.folder / "retrain", **changes),  # type: ignore[arg-type]
        )
        return Watch(settings, self.worklist)

    def before(self) -> None:
        """Go back to the time before the promotion."""
        self.clock.moment = self.since - timedelta(days=20)

    def after(self) -> None:
        """Come to the time since."""
        self.clock.moment = max(self.clock.moment, self.since + timedelta(hours=1))

    def studies(
        self,
        count: int,
        finding: Finding | None,
        *,
        true: bool | None = None,
        manufacturer: str = "ACME",
    ) -> None:
        """Let so many studies come, each of one series; None fails."""
        for _ in range(count):
            arrived = slices(1, expected_count=1, manufacturer=manufacturer)
            self.worklist.record([replace(a, received_at=self.clock.now()) for a in arrived])
            work = look(
                self.worklist,
                analysed(finding, model_uid=self.uid)
                if finding is not None
                else Failed("Boom", transient=False),
            )
            if true is not None:
                line = LabelLine(
                    2, work.study_uid, "", "", completed({"any": true}), "reader", "Dr B"
                )
                self.worklist.labels.enter([line])

    def alarms(self, **changes: object) -> list[str]:
        return [alarm.figure for alarm in self.watch(**changes).watch()]

    def history(self, *verbs: str) -> list[str]:
        lines = self.worklist.history.latest("model", *verbs, limit=99)
        return [f"{line.verb} {line.detail.get('figure', '')}".strip() for line in lines]


@pytest.fixture
def site(tmp_path: Path):
    made = Site(tmp_path)
    yield made
    made.worklist.close()


def test_the_same_as_before_is_no_alarm(site: Site) -> None:
    """One in ten is positive before and after."""
    site.before()
    site.studies(90, Finding.NEGATIVE)
    site.studies(10, Finding.POSITIVE)
    site.after()
    site.studies(54, Finding.NEGATIVE)
    site.studies(6, Finding.POSITIVE)
    assert site.alarms() == []
    assert site.history("alarm", "calmed") == []


def test_three_times_the_alerts_are_an_alarm_that_is_noted_once(site: Site) -> None:
    """In the history, in the heartbeat, in the health check; over when it is over."""
    site.before()
    site.studies(90, Finding.NEGATIVE)
    site.studies(10, Finding.POSITIVE)
    site.after()
    site.studies(40, Finding.NEGATIVE)
    site.studies(20, Finding.POSITIVE)
    watch = site.watch()
    (alarm,) = watch.watch()
    assert alarm.sentence.startswith("More alerts since the promotion: 20 of 60, 10 of 100")
    assert "ichnode models rollback" in alarm.sentence
    assert not alarm.hard
    watch.watch()
    site.watch().watch()  # housekeeping was restarted
    assert site.history("alarm", "calmed") == ["alarm alerts"]
    stopping = Stopping()
    Presence("housekeep", Settings(), site.worklist, stopping, warnings=watch.warnings).begin()
    stopping.event.set()
    assert warnings_of(site.worklist.views.heartbeats()) == [alarm.sentence]
    site.studies(140, Finding.NEGATIVE)
    assert watch.watch() == ()
    assert watch.warnings() == []
    assert site.history("alarm", "calmed") == ["calmed alerts", "alarm alerts"]


def test_failures_warn_and_go_back_only_where_that_was_wished_for(site: Site) -> None:
    """As it ships a person decides."""
    site.before()
    site.studies(100, Finding.NEGATIVE)
    site.after()
    site.studies(45, Finding.NEGATIVE)
    site.studies(15, None)
    assert site.alarms() == ["failed analyses"]
    assert site.registry.find("champion").model_uid == site.uid
    site.alarms(auto_rollback=True)
    champion = site.registry.find("champion")
    assert champion.model_uid != site.uid
    assert champion.since is not None
    assert "auto_rollback" in champion.since.by
    assert site.history("rolled_back") == ["rolled_back"]


def test_fewer_failures_are_no_reason_to_go_back(site: Site) -> None:
    """A better model is another one, too."""
    site.before()
    site.studies(70, Finding.NEGATIVE)
    site.studies(30, None)
    site.after()
    site.studies(60, Finding.NEGATIVE)
    site.alarms(auto_rollback=True)
    assert site.registry.find("champion").model_uid == site.uid


def test_alerts_that_are_right_less_often_are_an_alarm(site: Site) -> None:
    """Among those that people labelled, beyond what chance does."""
    site.before()
    site.studies(70, Finding.NEGATIVE)
    site.studies(27, Finding.POSITIVE, true=True)
    site.studies(3, Finding.POSITIVE, true=False)
    site.after()
    site.studies(50, Finding.NEGATIVE)
    site.studies(8, Finding.POSITIVE, true=True)
    site.studies(14, Finding.POSITIVE, true=False)
    assert site.alarms() == ["alerts that are right"]


def test_misses_are_an_alarm_only_where_the_unflagged_are_labelled(site: Site) -> None:
    """Otherwise nobody knows of them."""
    site.before()
    site.studies(80, Finding.NEGATIVE, true=False)
    site.studies(25, Finding.POSITIVE, true=True)
    site.after()
    site.studies(45, Finding.NEGATIVE, true=False)
    site.studies(14, Finding.POSITIVE, true=True)
    site.studies(12, Finding.NEGATIVE, true=True)
    assert site.alarms() == ["haemorrhages that are found"]
    site.studies(100, Finding.NEGATIVE)
    assert "haemorrhages that are found" not in site.alarms()


def test_another_scanner_is_drift_of_the_input(site: Site) -> None:
    """No fault of the model's, and the sentence says so."""
    site.before()
    site.studies(100, Finding.NEGATIVE)
    site.after()
    site.studies(60, Finding.NEGATIVE)
    site.studies(60, Finding.NEGATIVE, manufacturer="OTHER")
    watch = site.watch()
    (alarm,) = watch.watch()
    assert alarm.figure == "input: manufacturer"
    assert "before you blame the model" in alarm.sentence


def test_few_studies_say_nothing(site: Site) -> None:
    """The day after a promotion is no time for alarms."""
    site.before()
    site.studies(100, Finding.NEGATIVE)
    site.after()
    site.studies(20, Finding.POSITIVE)
    assert site.alarms() == []


def test_a_promotion_that_was_killed_before_its_line_is_noted_later(site: Site) -> None:
    """The registry knows who and why; the history is told by whoever looks next."""
    assert site.history("promoted", "rolled_back") == []
    site.watch().watch()
    site.watch().watch()
    assert site.history("promoted", "rolled_back") == ["promoted"]
    (line,) = site.worklist.history.latest("model", "promoted")
    assert (line.detail["by"], line.detail["reason"]) == ("A. Physicist", "good")
    site.registry.rollback(by="Dr B", reason="bad")
    site.watch().watch()
    assert site.history("promoted", "rolled_back") == ["rolled_back", "promoted"]


def test_the_model_that_ships_has_no_time_before(tmp_path: Path, site: Site) -> None:
    """Nothing is compared, and nothing fails."""
    settings = Settings(infer=InferSettings(models=tmp_path / "empty"))
    assert Watch(settings, site.worklist).watch() == ()
    assert datetime.now(UTC) > site.since
