"""From a positive series to servers that are told of it: settings, worklist, stage, and back."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from ichnode.cli import app
from ichnode.domain.findings import Finding
from ichnode.domain.lifecycle import Delivery
from ichnode.send.stage import SendStage
from ichnode.service.assembly import policy_of
from ichnode.settings import load_settings
from tests.fhir_server import FhirServer
from tests.http_peer import HttpPeer, answer
from tests.ups_rs_server import BASE, UpsRs
from tests.worklist_kit import analysed, fresh_uid, slices

SECRETS = ("p4ssw0rd", "t0k3n", "h34der", "s1gn")
FILE = """
[[orthanc]]
name = "archive"
url = "{hook}"
user = "ich"
password = "p4ssw0rd"

[[webhooks]]
name = "hook"
url = "{hook}/alerts"
headers = ["X-Key: h34der"]
secret = "s1gn"

[[commands]]
name = "program"
command = ["/bin/false"]

[[ups_rs]]
name = "tasks"
url = "{tasks}"
create_if_missing = true
token = "t0k3n"

[[fhir]]
name = "ehr"
url = "{ehr}"
"""


def settings_in(tmp_path, hook="http://127.0.0.1:1", tasks="http://127.0.0.1:1", ehr=""):
    path = tmp_path / "ichnode.toml"
    path.write_text(FILE.format(hook=hook, tasks=tasks, ehr=ehr or "http://127.0.0.1:1"))
    return path


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_a_positive_is_told_to_each_that_is_open(tmp_path, open_worklist, hand_clock):
    """Servers on this machine are told; a command is withheld until a model is commissioned."""
    fhir, ups = FhirServer(), UpsRs()
    replies = {"/alerts": answer(503, b"Doe^Jane is in the way"), "/tools/lookup": answer(200, [])}
    with (
        HttpPeer(lambda asked: replies[asked.path]) as hook,
        HttpPeer(ups) as tasks,
        HttpPeer(fhir) as ehr,
    ):
        path = settings_in(tmp_path, hook.url, f"{tasks.url}{BASE}", f"{ehr.url}/fhir")
        settings = load_settings(path, environment={})
        worklist = open_worklist(policy_of(settings))
        uid = fresh_uid()
        worklist.record(slices(3, series_uid=uid, association=uid))
        hand_clock.forward(20)
        worklist.analyses.settle(worklist.analyses.claim("infer"), analysed(Finding.POSITIVE))
        stage = SendStage(tmp_path, settings.outputs, settings.send, calling_ae="ICHNODE")
        while work := worklist.deliveries.claim("send"):
            worklist.deliveries.settle(work, stage.handle(work))
        states = {row.destination: row.state for row in worklist.views.deliveries()}
        assert states == {
            "archive": Delivery.DUE,
            "hook": Delivery.DUE,
            "program": Delivery.WITHHELD,
            "tasks": Delivery.DELIVERED,
            "ehr": Delivery.DELIVERED,
        }
        assert len(ups.tasks) == 1
        assert fhir.of("Observation")
        errors = {row.destination: row.error for row in worklist.views.deliveries()}
        assert "503" in errors["hook"]
        assert "not in this Orthanc yet" in errors["archive"]

        replies["/alerts"] = answer(200)
        hand_clock.forward(600)
        while work := worklist.deliveries.claim("send"):
            worklist.deliveries.settle(work, stage.handle(work))
        told = [one for one in hook.asked if one.path == "/alerts"]
        assert len(told) == 2
        assert told[0] == told[1]
        assert told[0].body == told[1].body
    assert not any("Doe" in error for error in errors.values())


TELLS = """
import sys
from pathlib import Path
from ichnode.logs import configure_logging
configure_logging(level="debug", style="json")
from ichnode.send.stage import SendStage
from ichnode.settings import load_settings
from tests.documents import alert_work
settings = load_settings(Path(sys.argv[1]), environment={})
stage = SendStage(Path("/"), settings.outputs, settings.send, calling_ae="ICHNODE")
for one in settings.outputs:
    (kind,) = one.takes
    stage.handle(alert_work(kind, one.name))
"""


def test_no_log_names_the_patient_or_a_secret(tmp_path):
    """Not even at its most talkative, nor those of the libraries, nor what a server says."""
    outcome = {"issue": [{"code": "invalid", "diagnostics": "Tést^Simulated SIM-9"}]}
    with HttpPeer(lambda _: answer(422, outcome)) as server:
        path = settings_in(tmp_path, *[f"{server.url}/s3cr3t"] * 3)
        done = subprocess.run(
            [sys.executable, "-c", TELLS, str(path)], capture_output=True, text=True, check=True
        )
        assert len(server.asked) == 4
    logged = [json.loads(line) for line in done.stderr.splitlines()]
    dispatched = [one for one in logged if one["event"] == "deliveries.dispatched"]
    assert {one["destination"] for one in dispatched} == {
        *("archive", "hook", "program", "tasks", "ehr")
    }
    for secret in ("Simulated", "SIM-9", "ACC-9", "s3cr3t", *SECRETS):
        assert secret not in done.stdout + done.stderr


def test_no_command_shows_a_secret(tmp_path):
    """Passwords, tokens and headers are in the file, and in nothing that prints settings."""
    path = str(settings_in(tmp_path))
    for words in (["config", "show"], ["config", "show", "--json"], ["outputs", "list", "--json"]):
        done = CliRunner().invoke(app, ["--config", path, *words], env={"COLUMNS": "1000"})
        assert done.exit_code == 0, done.output
        assert "hook" in done.output
        for secret in SECRETS:
            assert secret not in done.output
    rows = json.loads(CliRunner().invoke(app, ["--config", path, *words]).output)
    opened = {row["name"]: row["open"] for row in rows}
    assert opened["program"] == "once a model is commissioned"
    assert opened["ehr"] == "always"
