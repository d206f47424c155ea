"""``ichnode models``: a person promotes, with everything in sight, and goes back in one step."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from ichnode.cli import app
from ichnode.domain.errors import ConfigurationError, ModelUnusable
from ichnode.domain.findings import Finding
from ichnode.domain.work import Failed, Shadowed
from ichnode.nets.registry import Registry
from ichnode.service.assembly import open_worklist
from ichnode.settings import load_settings
from ichnode.worklist import schema
from ichnode.worklist.engine import connect
from ichnode.worklist.shadows import Challenger
from tests.models import write_model
from tests.worklist_kit import analysed, look, slices

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
PASSED = {
    "id": "G1",
    "name": "no worse",
    "passed": True,
    "inconclusive": False,
    "sentence": "Fine.",
}
TOO_FEW = PASSED | {"id": "G5", "passed": False, "inconclusive": True, "sentence": "Too few."}
REFUSED = PASSED | {"id": "G4", "passed": False, "sentence": "Slope 3.1, allowed 0.8 to 1.25."}


class Site:
    """A node with a champion and a challenger that went through its gates."""

    def __init__(self, folder):
        self.config = folder / "ichnode.toml"
        self.config.write_text(
            f'[node]\nspool = "{folder}/spool"\ndatabase = "sqlite:///{folder}/worklist.db"\n'
            f'[infer]\nmodels = "{folder}/models"\n'
            "[retrain]\nshadow_studies = 4\nshadow_days = 7\nshadow_disagreement = 0.25\n"
        )
        self.settings = load_settings(self.config)
        self.registry = Registry(self.settings.infer.models)
        schema.upgrade(connect(self.settings.node.database.get_secret_value()))
        self.worklist = open_worklist(self.settings)
        self.uids = {}
        for version in ("champion", "challenger"):
            write_model(folder / version, logit=-3.0, version=version)
            self.uids[version] = self.registry.install(folder / version)
        self.registry.promote(self.uids["champion"])
        self.gates(PASSED, TOO_FEW)

    def gates(self, *gates, champion=None):
        """Say what the gates of the challenger said."""
        refusing = [g for g in gates if not g["passed"] and not g["inconclusive"]]
        content = {
            "passed": not refusing,
            "champion_uid": champion or self.uids["champion"],
            "gates": list(gates),
        }
        folder = self.settings.infer.models / self.uids["challenger"]
        (folder / "gates.json").write_text(json.dumps(content))

    def challenge(self, days):
        """Make it challenger so many days ago."""
        self.registry.challenge(self.uids["challenger"])
        path = self.settings.infer.models / "aliases.json"
        content = json.loads(path.read_text())
        at = datetime.now(UTC) - timedelta(days=days)
        content["since"]["challenger"]["at"] = at.isoformat()
        path.write_text(json.dumps(content))

    def shadow(self, *outcomes):
        """Let the challenger say these things about studies that the champion found negative."""
        queue = self.worklist.shadow(lambda: Challenger(self.uids["challenger"], LONG_AGO))
        for outcome in outcomes:
            self.worklist.record(slices(1, expected_count=1))
            look(self.worklist, analysed(Finding.NEGATIVE, model_uid=self.uids["champion"]))
            if not isinstance(outcome, Failed):
                outcome = Shadowed(outcome, (0.5,) * 6, 2.0)
            work = queue.claim("shadow")
            assert queue.settle(work, outcome)

    def run(self, *arguments, stdin=""):
        command = ["--config", str(self.config), "models", *arguments]
        return CliRunner().invoke(app, command, input=stdin)

    def promote(self, *arguments, stdin=""):
        return self.run("promote", "--by", "A. Physicist", *arguments, stdin=stdin)

    @property
    def champion(self):
        return self.registry.find("champion").model_uid

    def history(self, verb):
        return self.worklist.history.latest("model", verb, limit=9)


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path)
    yield made
    made.worklist.close()


def test_a_good_challenger_is_promoted_and_rolled_back(site):
    """With every gate passed and the shadow long enough; each step is recorded with who and why."""
    site.challenge(days=8)
    site.shadow(*[Finding.NEGATIVE] * 3, Finding.POSITIVE)
    shown = site.promote("--dry-run")
    assert shown.exit_code == 0, shown.output
    assert "gate G1 no worse: passed. Fine." in shown.output
    assert "gate G5 no worse: too few cases. Too few." in shown.output
    assert "4 studies, 0 failures, 1 in another band (25.0%)" in shown.output
    assert "routine, it says urgent" in shown.output
    assert "Not for clinical use" in shown.output
    assert site.champion == site.uids["champion"]
    assert site.promote(stdin="n\n").exit_code == 1
    done = site.promote(stdin="y\n")
    assert done.exit_code == 0, done.output
    assert "ichnode commission" in done.output
    assert site.champion == site.uids["challenger"]
    (noted,) = site.history("promoted")
    assert noted.detail["by"] == "A. Physicist"
    assert noted.detail["inconclusive"] == ["G5"]
    assert (noted.detail["shadow_studies"], noted.detail["shadow_disagreements"]) == (4, 1)
    back = site.run("rollback", "--by", "Dr B", "--reason", "alarms doubled", "--yes")
    assert back.exit_code == 0, back.output
    assert site.champion == site.uids["champion"]
    (noted,) = site.history("rolled_back")
    assert (noted.detail["by"], noted.detail["reason"]) == ("Dr B", "alarms doubled")
    again = site.run("rollback", "--by", "Dr B", "--reason", "x", "--yes")
    assert isinstance(again.exception, ModelUnusable)


def refused(site, *arguments):
    done = site.promote("--yes", *arguments)
    assert done.exit_code == 1, done.output
    assert site.champion == site.uids["champion"]
    assert "Not promoted" in done.output
    return done.output


def test_a_short_shadow_refuses_and_says_what_is_missing(site):
    """Studies and days, whichever is later."""
    site.challenge(days=2)
    site.shadow(Finding.NEGATIVE)
    said = refused(site)
    assert "has read 1 live studies in the shadow; 3 more are needed" in said
    assert "challenger for 2.0 days; 5.0 more are needed" in said


def test_too_much_disagreement_refuses(site):
    """Somebody must look at those studies first."""
    site.challenge(days=8)
    site.shadow(Finding.POSITIVE, Finding.POSITIVE, Finding.NEGATIVE, Finding.NEGATIVE)
    assert "2 of 4 studies (50.0%) in another band" in refused(site)


def test_a_failure_in_the_shadow_refuses(site):
    """What crashed on one live study in a week will crash again."""
    site.challenge(days=8)
    site.shadow(*[Finding.NEGATIVE] * 4, Failed("Boom", transient=False))
    assert "failed on 1 series in the shadow" in refused(site)


@pytest.mark.parametrize("trouble", ["refused", "none", "another"])
def test_gates_that_did_not_pass_refuse(site, trouble):
    """One refused, there were none, or they compared with a model that runs no longer."""
    site.challenge(days=8)
    site.shadow(*[Finding.NEGATIVE] * 4)
    if trouble == "refused":
        site.gates(PASSED, REFUSED)
        assert "AGAINST IT: Slope 3.1" in refused(site)
    elif trouble == "none":
        (site.settings.infer.models / site.uids["challenger"] / "gates.json").unlink()
        assert "went through no gates" in refused(site)
    else:
        site.gates(PASSED, champion="2.25.5")
        assert "another model than the one that runs now" in refused(site)


def test_a_person_may_promote_despite_objections_with_a_reason(site):
    """The reason and every objection are kept."""
    site.challenge(days=0)
    done = site.promote("--despite", "the champion crashes here", "--yes")
    assert done.exit_code == 0, done.output
    assert site.champion == site.uids["challenger"]
    (noted,) = site.history("promoted")
    assert "the champion crashes here" in noted.detail["reason"]
    assert len(noted.detail["objections"]) == 2
    since = site.registry.find("champion").since
    assert "the champion crashes here" in since.reason


def test_a_commission_that_stands_opens_the_outputs_again_after_a_rollback(site):
    """A commission is for one model, and stays with it."""
    site.worklist.commission(site.uids["champion"], "A. Physicist")
    site.challenge(days=0)
    assert "observes" in site.promote("--despite", "x", "--yes").output
    back = site.run("rollback", "--by", "Dr B", "--reason", "x", "--yes")
    assert "Its commission stands" in back.output


def test_the_champion_cannot_be_promoted(site):
    """One sentence."""
    done = site.promote("champion")
    assert isinstance(done.exception, ConfigurationError)
    assert "champion already" in str(done.exception)


def test_a_bundle_is_installed_and_challenged_by_hand(site, tmp_path):
    """It reads in the shadow and does not run; promoting it needs a reason."""
    write_model(tmp_path / "third", logit=0.0, version="third")
    assert "Installed: 2.25." in site.run("install", str(tmp_path / "third")).output
    listed = json.loads(site.run("list", "--json").stdout)
    uid = next(row["model_uid"] for row in listed if row["version"] == "third")
    assert site.run("challenge", uid, "--by", "Physics").exit_code == 0
    assert site.registry.find("challenger").model_uid == uid
    assert site.history("challenged")[0].detail["by"] == "Physics"
    facts = json.loads(site.promote("--json").stdout)
    assert "went through no gates" in facts["objections"][0]


def test_the_status_says_how_far_the_shadow_is(site):
    """Which model runs, since when and by whom; and the challenger's studies so far."""
    site.challenge(days=1)
    site.shadow(Finding.NEGATIVE, Finding.POSITIVE)
    command = ["--config", str(site.config), "status", "--json"]
    champion, challenger = json.loads(CliRunner().invoke(app, command).stdout)["models"]
    assert site.uids["champion"] in champion
    assert "2 of 4 studies in the shadow, 1 in another band, 0 failures" in challenger


def test_a_note_is_written_once(site):
    """Whoever finds it missing after a kill writes it; whoever finds it there does not."""
    at = datetime.now(UTC)
    assert site.worklist.history.note_once("promoted", "2.25.1", at, by="x")
    assert not site.worklist.history.note_once("promoted", "2.25.1", at, by="x")
    assert site.worklist.history.note_once("promoted", "2.25.1", at + timedelta(days=1), by="x")
