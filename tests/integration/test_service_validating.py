"""Validation on local cases: figures that can be checked by hand, and what cannot be known."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from ichnode.cli import app
from ichnode.domain.errors import ConfigurationError
from ichnode.domain.findings import LABELS, Finding, LabelResult, Presence
from ichnode.domain.intervals import wilson
from ichnode.domain.labels import completed
from ichnode.domain.reasons import Reason
from ichnode.domain.work import Analysed, Declined, Failed
from ichnode.nets.registry import Registry
from ichnode.service.validating import Window, measure
from ichnode.service.validation_page import duration, percent, refer_to, render, summary
from ichnode.settings import load_settings
from ichnode.worklist import schema
from ichnode.worklist.engine import connect
from ichnode.worklist.labels import LabelLine
from ichnode.worklist.worklist import Worklist
from tests.models import write_model
from tests.worklist_kit import MODEL, POLICY, HandClock, build, look, result, send, slices

ABOUT = {"model_uid": MODEL, "name": "tiny", "version": "1", "data": "simulated"}


def said(finding: Finding, **presence: Presence) -> Analysed:
    """What the model says, with single kinds otherwise than the whole."""
    whole = result(finding)
    labels = tuple(
        LabelResult(one.label, one.probability, presence.get(one.label, one.presence), "1.2.3")
        for one in whole.labels
    )
    return Analysed(replace(whole, labels=labels))


class Clinic:
    """Studies come, are analysed, delivered and labelled."""

    def __init__(self, worklist: Worklist, clock: HandClock) -> None:
        self.worklist, self.clock = worklist, clock
        self.began = clock.now()

    def study(
        self,
        outcome: Analysed | Declined | Failed,
        *,
        manufacturer: str = "ACME",
        calling_ae: str = "CT1",
        **true: bool,
    ) -> str:
        """One study, twenty seconds after its last slice; returns its UID."""
        brought = slices(3, manufacturer=manufacturer, model_name="One <b>", calling_ae=calling_ae)
        self.worklist.record([replace(a, received_at=self.clock.now()) for a in brought])
        self.clock.forward(20)
        uid = look(self.worklist, outcome).study_uid
        if true:
            line = LabelLine(2, uid, "", "", completed(true), "reader", "Dr B")  # type: ignore[arg-type]
            self.worklist.labels.enter([line])
        return uid

    def deliver(self) -> None:
        self.clock.forward(10)
        build(self.worklist)
        send(self.worklist)

    def measured(self):
        now = self.clock.now()
        cases = self.worklist.cases.between(self.began, now + timedelta(seconds=1))
        return measure(cases, ABOUT, Window(self.began, now), now)


@pytest.fixture
def clinic(worklist: Worklist, hand_clock: HandClock) -> Clinic:
    return Clinic(worklist, hand_clock)


@pytest.fixture
def small(databases, hand_clock: HandClock):
    """The same on SQLite alone."""
    worklist = Worklist(connect(databases.migrated("sqlite")), POLICY, hand_clock)
    yield Clinic(worklist, hand_clock)
    worklist.close()


def share(figure: dict) -> tuple[int, int]:
    return figure["hits"], figure["of"]


def ten_studies(clinic: Clinic) -> dict[str, str]:
    """Four bleeds: found, for review, missed, not analysed; and negatives."""
    uids = {
        "found": clinic.study(said(Finding.POSITIVE), subdural=True),
        "review": clinic.study(said(Finding.REVIEW), any=True),
        "missed": clinic.study(said(Finding.NEGATIVE), epidural=True),
        "silent": clinic.study(Declined(Reason.CONTRAST), any=True),
        "alarm": clinic.study(said(Finding.POSITIVE), any=False, calling_ae="CT2"),
    }
    for _ in range(4):
        clinic.study(said(Finding.NEGATIVE), any=False)
    clinic.study(Failed("Boom", transient=False))
    return uids


def test_the_figures_are_those_of_a_table_of_four_fields(clinic: Clinic) -> None:
    """Urgent alone, urgent or review, and with the bleeds that were not analysed."""
    uids = ten_studies(clinic)
    found, to_look_at = clinic.measured()
    assert found["studies"] == {
        "all": 10,
        "analysed": 8,
        "by_another_model": 0,
        "not_analysed": 2,
    }
    assert found["sensitivity_known"]
    urgent, flagged = found["any"]["urgent"], found["any"]["urgent_or_review"]
    assert share(urgent["sensitivity"]) == (1, 3)
    assert share(urgent["specificity"]) == (4, 5)
    assert share(urgent["ppv"]) == (1, 2)
    assert share(urgent["npv"]) == (4, 6)
    assert share(urgent["sensitivity_of_all"]) == (1, 4)
    assert share(flagged["sensitivity"]) == (2, 3)
    assert share(flagged["ppv"]) == (2, 3)
    assert share(found["any"]["prevalence"]) == (3, 8)
    assert (urgent["sensitivity"]["low"], urgent["sensitivity"]["high"]) == wilson(1, 3)
    assert to_look_at == {"missed": [uids["missed"]], "false_alarms": [uids["alarm"]]}
    assert "3 labelled studies with haemorrhage are few" in found["cautions"][0]


def test_kinds_are_measured_where_they_are_known(small: Clinic) -> None:
    """Who says "haemorrhage" says nothing of its kind; undetermined counts at the second point."""
    small.study(said(Finding.POSITIVE, epidural=Presence.ABSENT), subdural=True, epidural=False)
    small.study(said(Finding.POSITIVE, subdural=Presence.UNDETERMINED), subdural=True)
    small.study(said(Finding.POSITIVE), any=True)
    small.study(said(Finding.NEGATIVE), any=False)
    kinds = small.measured()[0]["kinds"]
    assert share(kinds["subdural"]["urgent"]["sensitivity"]) == (1, 2)
    assert share(kinds["subdural"]["urgent_or_review"]["sensitivity"]) == (2, 2)
    assert share(kinds["subdural"]["urgent"]["specificity"]) == (1, 1)
    assert share(kinds["epidural"]["urgent"]["specificity"]) == (2, 2)
    assert kinds["epidural"]["urgent"]["sensitivity"]["value"] is None


def test_refusals_and_scanners_are_counted(small: Clinic) -> None:
    """With the bleeds that are known to be among what was not analysed."""
    ten_studies(small)
    found, _ = small.measured()
    assert [(r["reason"], r["studies"], r["labelled_with_haemorrhage"]) for r in
            found["not_analysed"]] == [("contrast", 1, 1), ("failed", 1, 0)]  # fmt: skip
    first, second = found["scanners"]
    assert first["scanner"] == "CT1 · ACME One <b>"
    assert (first["studies"], first["not_analysed"], first["labelled"]) == (9, 2, 7)
    assert share(second["specificity"]) == (0, 1)


def test_times_are_from_the_last_slice_to_verdict_and_delivery(clinic: Clinic) -> None:
    """Twenty seconds to the verdict of a final series, thirty to the acknowledgement."""
    for _ in range(3):
        clinic.study(said(Finding.POSITIVE))
        clinic.deliver()
    clinic.study(said(Finding.NEGATIVE))
    verdict, delivered, rest = clinic.measured()[0]["times"]
    assert (verdict["count"], verdict["median"]["value"]) == (3, 20.0)
    assert (delivered["count"], delivered["median"]["value"]) == (3, 30.0)
    assert delivered["percentile_95"]["high"] is None, "three cases bound nothing"
    assert (rest["count"], rest["median"]["value"]) == (1, 20.0)


def test_labels_of_flagged_studies_alone_leave_sensitivity_unknown(small: Clinic) -> None:
    """The positive predictive value is known, and nothing that depends on the rest."""
    for _ in range(3):
        small.study(said(Finding.POSITIVE), any=True)
        small.study(said(Finding.NEGATIVE))
    found, _ = small.measured()
    urgent = found["any"]["urgent"]
    assert not found["sensitivity_known"]
    assert urgent["sensitivity"]["value"] is None
    assert urgent["specificity"]["value"] is None
    assert urgent["ppv"]["value"] == 1.0
    assert (
        "Of 3 analysed studies that the model did not flag, 0 are labelled"
        in (found["cautions"][0])
    )
    page = render(found)
    assert "Sensitivity is unknown" in page
    assert "called urgent: sensitivity unknown" in summary(found)


def test_flagged_studies_that_are_labelled_better_leave_it_unknown(small: Clinic) -> None:
    """All of the flagged and seventeen in twenty of the rest would flatter the model."""
    for number in range(20):
        small.study(said(Finding.POSITIVE), any=True)
        small.study(said(Finding.NEGATIVE), **({"any": False} if number < 17 else {}))
    found, _ = small.measured()
    assert not found["sensitivity_known"]
    assert "flatter" in found["cautions"][0]


def test_what_another_model_read_is_left_out(small: Clinic) -> None:
    """The figures are of the one that runs."""
    other = said(Finding.POSITIVE)
    small.study(Analysed(replace(other.result, model_uid="2.25.5")), any=True)
    small.study(said(Finding.NEGATIVE), any=False)
    found, _ = small.measured()
    assert found["studies"]["by_another_model"] == 1
    assert share(found["any"]["prevalence"]) == (0, 1)


def test_a_lowered_study_was_flagged_all_the_same(small: Clinic) -> None:
    """A person's decision is no merit of the model."""
    uid = small.study(said(Finding.POSITIVE), any=False)
    small.worklist.lower(uid, "Dr B", "artefact")
    small.study(said(Finding.NEGATIVE), any=False)
    assert share(small.measured()[0]["any"]["urgent"]["specificity"]) == (1, 2)


# ------------------------------------------------------------------ the page


def test_the_page_holds_nobody_and_runs_nothing(small: Clinic) -> None:
    """No name, number or UID of a study; what a scanner calls itself is text."""
    uids = ten_studies(small)
    found, _ = small.measured()
    page = render(found)
    told = page + json.dumps(found)
    for secret in ("4711", "Doe", "Jane", "A1<", *uids.values()):
        assert secret not in told
    assert "One &lt;b&gt;" in page
    assert "<b>" not in page.replace("<b style=", "")
    assert not re.search(r"<script|src=|href=|url\(", page)
    assert "Not for clinical use" in page


def test_simulated_studies_say_so(small: Clinic) -> None:
    """Wherever a figure of them appears."""
    small.study(said(Finding.POSITIVE), manufacturer="ichnode phantom", any=True)
    found, _ = small.measured()
    assert "Simulated data" in render(found)
    assert "SIMULATED DATA" in summary(found)
    small.study(said(Finding.POSITIVE))
    assert "Simulated data" not in render(small.measured()[0])


def test_an_empty_window_is_a_page_too(small: Clinic) -> None:
    """It says that nothing is labelled, and what to do."""
    page = render(small.measured()[0])
    assert "No study is labelled" in page
    assert "ichnode labels import" in page


def test_words_for_figures() -> None:
    """Only all is 100 %, and only none is 0 %."""
    assert percent(1.0) == "100.0 %"
    assert percent(0.9996) == "> 99.9 %"
    assert percent(0.0) == "0.0 %"
    assert percent(0.0004) == "< 0.1 %"
    assert [duration(s) for s in (2.0, 90.0, 7200.0)] == ["2.0 s", "1.5 min", "2.0 h"]


# ------------------------------------------------------------------ the commands


@pytest.fixture
def node(tmp_path):
    """A node whose champion has read two labelled studies; returns what runs commands of it."""
    config = tmp_path / "ichnode.toml"
    config.write_text(
        f'[node]\nspool = "{tmp_path}/spool"\ndatabase = "sqlite:///{tmp_path}/worklist.db"\n'
        f'[infer]\nmodels = "{tmp_path}/models"\n[retrain]\nfolder = "{tmp_path}/retrain"\n'
    )
    settings = load_settings(config)
    schema.upgrade(connect(settings.node.database.get_secret_value()))
    write_model(tmp_path / "bundle", logit=6.0)
    registry = Registry(settings.infer.models)
    uid = registry.install(tmp_path / "bundle")
    registry.promote(uid)
    clock = HandClock()
    clock.moment = datetime.now(UTC) - timedelta(hours=1)
    aliases = settings.infer.models / "aliases.json"
    content = json.loads(aliases.read_text())
    content["since"]["champion"]["at"] = clock.moment.isoformat()
    aliases.write_text(json.dumps(content))
    worklist = Worklist(connect(settings.node.database.get_secret_value()), POLICY, clock)
    clinic = Clinic(worklist, clock)
    for finding, true in ((Finding.NEGATIVE, True), (Finding.POSITIVE, True)):
        clock.forward(61)
        other = said(finding)
        clinic.study(Analysed(replace(other.result, model_uid=uid)), any=true)
    worklist.close()

    def run(*arguments: str, stdin: str = ""):
        return CliRunner().invoke(app, ["--config", str(config), *arguments], input=stdin)

    run.uid = uid
    run.folder = tmp_path
    return run


def test_validate_writes_page_and_figures_and_commission_refers_to_them(node) -> None:
    """The digest of the file is in the record of who accepted the model."""
    done = node("validate", "--out", str(node.folder / "v"))
    assert done.exit_code == 0, done.output
    assert "2 labelled of 2 analysed studies; called urgent: sensitivity 50.0 %" in done.output
    assert done.output.count("Missed: ichnode show 1.2.826") == 1
    figures = node.folder / "v" / "validation.json"
    assert (node.folder / "v" / "validation.html").read_text().startswith("<!doctype html>")
    assert json.loads(figures.read_text())["labelled"] == 2
    assert json.loads(node("validate", "--json").stdout)["labelled"] == 2
    assert (node.folder / "retrain" / "validation" / "validation.html").is_file()
    without = node("commission", "--by", "A. Physicist", "--dry-run")
    assert "NO VALIDATION ON LOCAL CASES WAS GIVEN" in without.output
    accepted = node(
        "commission", "--by", "A. Physicist", "--validation", str(figures), "--yes",
        "--note", "QA-17",
    )  # fmt: skip
    assert accepted.exit_code == 0, accepted.output
    assert "sensitivity 50.0 %" in accepted.output
    settings = load_settings(node.folder / "ichnode.toml")
    worklist = Worklist(connect(settings.node.database.get_secret_value()), POLICY)
    (standing,) = worklist.commissions()
    worklist.close()
    reference = refer_to(figures, node.uid)
    assert standing.note == f"QA-17 {reference.sentence}"
    assert reference.digest in standing.note


def test_a_validation_of_another_model_opens_nothing(node) -> None:
    """Nor does a file that is none."""
    node("validate", "--out", str(node.folder / "v"))
    figures = node.folder / "v" / "validation.json"
    content = json.loads(figures.read_text())
    content["model"]["model_uid"] = "2.25.5"
    figures.write_text(json.dumps(content))
    for wrong, words in ((content, "is of the model 2.25.5"), ({}, "no validation")):
        figures.write_text(json.dumps(wrong))
        with pytest.raises(ConfigurationError, match=words):
            refer_to(figures, node.uid)
    done = node("commission", "--by", "X", "--validation", str(figures), "--yes")
    assert isinstance(done.exception, ConfigurationError)


def test_every_label_has_its_line(small: Clinic) -> None:
    """The five kinds, in the order of everywhere."""
    small.study(said(Finding.POSITIVE), any=True)
    assert list(small.measured()[0]["kinds"]) == list(LABELS[1:])
