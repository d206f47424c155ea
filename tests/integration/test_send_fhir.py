"""FHIR R4: what is written, that it is R4, and that a repetition adds nothing."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ichnode.domain.findings import LABELS
from ichnode.domain.work import Acknowledged, Undelivered
from ichnode.send.asking import ask
from ichnode.send.mechanisms import mechanisms_for
from ichnode.send.stage import SendStage
from ichnode.settings import FhirSettings, SendSettings
from tests.documents import alert, alert_work, study_ref
from tests.fhir_r4 import check_transaction, references
from tests.fhir_server import BASE, FhirServer
from tests.http_peer import HttpPeer, answer, silence

ODD = {"patient_id": "", "accession_number": " ", "study_date": "20261301"}
RICH = {"issuer_of_patient_id": "HOSP", "study_date": "20260304"}


def settings_of(server, **settings):
    return FhirSettings(name="ehr", url=f"{server.url}{BASE}", **settings)


def told(tmp_path, fhir, *, settings=None, **work):
    with HttpPeer(fhir) as server:
        stage = SendStage(
            tmp_path,
            [settings_of(server, **(settings or {}))],
            SendSettings(),
            calling_ae="ICHNODE",
        )
        return stage.handle(alert_work("fhir", "ehr", **work)).results[1]


def code_of(concept):
    return concept["coding"][0]["code"]


def test_every_label_a_report_and_a_task_are_written_once(tmp_path):
    """The server checks that each transaction is R4; told again, nothing is added or changed."""
    fhir = FhirServer()
    for _ in range(2):
        assert told(tmp_path, fhir) == Acknowledged(200)
    assert len(fhir.of("Observation")) == len(LABELS)
    assert len(fhir.of("DiagnosticReport")) == len(fhir.of("Task")) == 1
    assert set(fhir.versions.values()) == {1}


def test_an_observation_says_what_the_report_says(tmp_path):
    """Presence, interpretation, certainty, site, day, model; by the mapping of dicom-sr."""
    fhir = FhirServer()
    told(tmp_path, fhir)
    by_code = {code_of(one["code"]): one for one in fhir.of("Observation")}
    one, absent = by_code["1386000"], by_code["82999001"]
    assert one["status"] == "preliminary"
    assert code_of(one["valueCodeableConcept"]) == "52101004"
    assert [code_of(said) for said in one["interpretation"]] == ["POS", "AA"]
    assert code_of(absent["valueCodeableConcept"]) == "272519000"
    assert [code_of(said) for said in absent["interpretation"]] == ["NEG"]
    certainty = one["component"][0]
    assert code_of(certainty["code"]) == "111012"
    assert certainty["valueQuantity"] == {
        "value": 97.0,
        "unit": "%",
        "system": "http://unitsofmeasure.org",
        "code": "%",
    }
    assert one["effectiveDateTime"] == "2026-03-04"
    assert one["issued"] == "2026-03-04T05:06:07+00:00"
    assert one["subject"]["identifier"]["value"] == "SIM-9"
    assert one["basedOn"][0]["identifier"]["value"] == "ACC-9"
    assert one["derivedFrom"][0]["identifier"] == {
        "system": "urn:dicom:uid",
        "value": f"urn:oid:{study_ref().study_uid}",
    }
    (device,) = one["contained"]
    assert device["deviceName"] == [{"name": "ichnode-ich-test", "type": "model-name"}]
    assert device["version"] == [{"value": "2026.1"}]
    assert "Not for diagnostic use" in one["note"][0]["text"]


def test_a_volume_is_a_component_where_the_model_states_one(tmp_path):
    """In ml, of UCUM."""
    fhir = FhirServer()
    labels = tuple(replace(one, volume_ml=12.345) for one in alert().labels)
    told(tmp_path, fhir, labels=labels)
    volume = fhir.of("Observation")[0]["component"][1]
    assert code_of(volume["code"]) == "118565006"
    assert (volume["valueQuantity"]["value"], volume["valueQuantity"]["code"]) == (12.3, "mL")


def test_the_report_is_preliminary_and_points_to_its_results(tmp_path):
    """Its results are the Observations of the same transaction."""
    with HttpPeer(FhirServer()) as server:
        mechanism = mechanisms_for(settings_of(server), tmp_path, "ICHNODE")["fhir"]
        bundle = sent_by(mechanism, alert_work("fhir", "ehr").items[0])
    *observed, report, task = [entry["resource"] for entry in bundle["entry"]]
    assert report["status"] == "preliminary"
    assert [one["reference"] for one in report["result"]] == [
        entry["fullUrl"] for entry in bundle["entry"][: len(observed)]
    ]
    assert "suspected" in report["conclusion"]
    assert "Not for diagnostic use" in report["conclusion"]
    assert (task["status"], task["intent"], task["priority"]) == ("requested", "order", "stat")
    assert code_of(task["code"]) == "110005"


def sent_by(mechanism, item):
    """Return the transaction that a preview shows."""
    return json.loads(mechanism.preview(item).rpartition("\n\n")[2])


@pytest.mark.parametrize("changes", [ODD, RICH, {"patient_id": "a b|c&d"}])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"find_patient": True},
        {"patient_system": "urn:oid:1.2", "accession_system": "urn:oid:1.3"},
        {"patient_system": "urn:oid:1.2", "find_patient": True, "task": False},
    ],
)
@pytest.mark.parametrize("withdrawn", [False, True])
def test_whatever_the_images_state_it_is_r4(tmp_path, changes, settings, withdrawn):
    """Nothing empty, nothing that does not exist, every reference leads somewhere."""
    destination = FhirSettings(name="ehr", url="http://127.0.0.1/fhir", **settings)
    mechanism = mechanisms_for(destination, tmp_path, "ICHNODE")["fhir"]
    work = alert_work("fhir", "ehr", study=study_ref(**changes), withdrawn=withdrawn)
    bundle = sent_by(mechanism, work.items[0])
    check_transaction(bundle)
    found = [one for one in references(bundle) if one.startswith("Patient?")]
    if settings.get("find_patient") and changes is not ODD:
        assert set(map(len, map(str.split, found))) == {1}
        assert len(found) == len(bundle["entry"])
    else:
        assert found == []


def test_a_withdrawn_alert_takes_back_what_was_said(tmp_path):
    """Entered in error, and the task cancelled; raised again another is asked for."""
    fhir = FhirServer()
    told(tmp_path, fhir)
    for _ in range(2):
        assert told(tmp_path, fhir, revision=2, withdrawn=True) == Acknowledged(200)
        statuses = {
            one["status"] for one in (*fhir.of("Observation"), *fhir.of("DiagnosticReport"))
        }
        assert statuses == {"entered-in-error"}
        (task,) = fhir.of("Task")
        assert task["status"] == "cancelled"
    assert told(tmp_path, fhir, revision=3) == Acknowledged(200)
    assert {one["status"] for one in fhir.of("Observation")} == {"preliminary"}
    assert [one["status"] for one in fhir.of("Task")] == ["cancelled", "requested"]
    assert len(fhir.held) == len(LABELS) + 3


def ended_as(fhir, status):
    """Let somebody else do something about the only task."""
    (name,) = [name for name in fhir.held if name.startswith("Task/")]
    fhir.held[name] |= {"status": status, "owner": {"display": "Reading room 2"}}
    return fhir.held[name]


def test_a_task_that_was_taken_up_is_left_to_whoever_has_it(tmp_path):
    """Neither a later alert nor its withdrawal changes it, nor what others wrote into it."""
    fhir = FhirServer()
    told(tmp_path, fhir)
    taken = ended_as(fhir, "in-progress")
    for revision, withdrawn in ((2, False), (3, True)):
        told(tmp_path, fhir, revision=revision, withdrawn=withdrawn)
        assert fhir.of("Task") == [taken]


@pytest.mark.parametrize("status", ["completed", "rejected", "failed", "cancelled"])
def test_new_blood_after_the_task_is_over_gets_another_task(tmp_path, status):
    """One for each alert, told again or not; what is over stays as others left it."""
    fhir = FhirServer()
    told(tmp_path, fhir)
    over = ended_as(fhir, status)
    told(tmp_path, fhir)
    assert fhir.of("Task") == [over]
    for _ in range(2):
        assert told(tmp_path, fhir, revision=2) == Acknowledged(200)
        first, second = fhir.of("Task")
        assert first == over
        assert second["status"] == "requested"
    told(tmp_path, fhir, revision=3)
    assert len(fhir.of("Task")) == 2  # the second is open
    told(tmp_path, fhir, revision=4, withdrawn=True)
    assert [one["status"] for one in fhir.of("Task")] == [status, "cancelled"]


def test_without_tasks_nobody_asks_for_one(tmp_path):
    """For servers that have none."""
    fhir = FhirServer()
    assert told(tmp_path, fhir, settings={"task": False}) == Acknowledged(200)
    assert fhir.calls == ["transaction"]
    assert fhir.of("Task") == []


def test_nothing_to_withdraw_makes_no_task(tmp_path):
    """A task that was never there is not made to be cancelled."""
    fhir = FhirServer()
    told(tmp_path, fhir, withdrawn=True)
    assert fhir.of("Task") == []


OUTCOME = {
    "resourceType": "OperationOutcome",
    "issue": [
        {"severity": "error", "code": "business-rule", "diagnostics": "Jane Doe is unknown"},
        {"severity": "error", "code": "Jane Doe"},
    ],
}


@pytest.mark.parametrize(
    ("status", "permanent"), [(400, True), (401, True), (409, False), (412, False), (500, False)]
)
@pytest.mark.parametrize("call", ["search", "transaction"])
def test_a_refusal_tells_the_codes_of_its_outcome_and_nothing_else(
    tmp_path, call, status, permanent
):
    """What a server says in words may name a patient."""
    refused = told(tmp_path, FhirServer({call: answer(status, OUTCOME)}))
    assert (refused.status, refused.permanent) == (status, permanent)
    assert refused.error.endswith(": business-rule.")
    assert "Doe" not in refused.error


@pytest.mark.parametrize("call", ["search", "transaction"])
@pytest.mark.parametrize(
    "strange",
    [
        b"<html>please log in</html>",
        [],
        {"resourceType": "Patient"},
        {"resourceType": "Bundle", "type": "collection"},
        {"resourceType": "Bundle", "type": "transaction-response", "entry": [1]},
        {"resourceType": "Bundle", "type": "transaction-response", "entry": {}},
        {
            "resourceType": "Bundle",
            "type": "transaction-response",
            "entry": [{"response": {"status": "201"}}, {"response": {"status": "422 No"}}],
        },
        {
            "resourceType": "Bundle",
            "type": "searchset",
            "entry": [{"resource": {"resourceType": "Task", "status": 1, "id": "../x"}}],
        },
        {
            "resourceType": "Bundle",
            "type": "searchset",
            "entry": [{"resource": {"resourceType": "Task", "status": "requested", "id": "1"}}],
        },
    ],
)
def test_a_good_status_alone_is_no_delivery(tmp_path, call, strange):
    """A page to log in, another resource, half a transaction: it is told again."""
    result = told(tmp_path, FhirServer({call: answer(200, strange)}))
    assert isinstance(result, Undelivered)
    assert not result.permanent


@pytest.mark.parametrize(
    "entries", [{}, {"entry": []}, {"entry": [{"response": {"status": "201"}}]}]
)
def test_a_response_that_lacks_entries_is_no_delivery(tmp_path, entries):
    """A response has an entry for each that was asked for."""
    response = {"resourceType": "Bundle", "type": "transaction-response"} | entries
    result = told(tmp_path, FhirServer({"transaction": answer(200, response)}))
    assert result == Undelivered("The server did not do all of the transaction.")


@pytest.mark.parametrize("withdrawn", [False, True])
def test_a_task_of_somebody_else_is_never_taken_for_ours(tmp_path, withdrawn):
    """A server that ignores the key returns any task: it is neither changed nor believed."""
    other = {
        "resourceType": "Task",
        "id": "7",
        "status": "cancelled" if not withdrawn else "requested",
        "groupIdentifier": {"system": "urn:ietf:rfc3986", "value": "urn:oid:1.2.3"},
    }
    found = {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": other}]}
    fhir = FhirServer({"search": answer(200, found)})
    result = told(tmp_path, fhir, withdrawn=withdrawn)
    assert isinstance(result, Undelivered)
    assert fhir.calls == ["search"]


def test_the_preview_is_what_goes(tmp_path):
    """The question for the task, and the transaction byte for byte; no token."""
    with HttpPeer(FhirServer()) as server:
        destination = settings_of(server, token="s3cr3t")
        work = alert_work("fhir", "ehr")
        shown = mechanisms_for(destination, tmp_path, "ICHNODE")["fhir"].preview(work.items[0])
        assert server.asked == []
        SendStage(tmp_path, [destination], SendSettings(), calling_ae="ICHNODE").handle(work)
        question, transaction = server.asked
        assert f"GET {server.url}{question.path}" in shown
        assert f"POST {server.url}{BASE}\n" in shown
        assert transaction.path == BASE
        assert transaction.body.decode() in shown
        assert shown.count("Authorization: ***") == 2
        assert "s3cr3t" not in shown


def test_asking_is_for_what_the_server_can():
    """An older FHIR, and what is no FHIR, say so."""
    with HttpPeer(FhirServer()) as server:
        assert ask(settings_of(server), "ICHNODE").ok
        assert server.asked[0].path == f"{BASE}/metadata"
    old = {"resourceType": "CapabilityStatement", "fhirVersion": "3.0.2"}
    for bad, says in (
        (answer(200, old), "R4"),
        (answer(200, []), "not a FHIR server"),
        (answer(200, b"<html>"), "not JSON"),
        (silence(), "in time"),
    ):
        with HttpPeer(lambda _, bad=bad: bad) as server:
            asked = ask(settings_of(server, timeout_s=0.3), "ICHNODE")
            assert not asked.ok
            assert says in asked.sentence
