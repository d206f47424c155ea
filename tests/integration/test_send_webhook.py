"""Web hooks: what goes over the line, how it is signed, and what it may say."""

from __future__ import annotations

import hashlib
import hmac
import json

import pytest

from ichnode.domain.work import Acknowledged
from ichnode.send.asking import ask
from ichnode.send.mechanisms import mechanisms_for
from ichnode.send.stage import SendStage
from ichnode.send.telling import facts, identity
from ichnode.settings import SendSettings, WebhookSettings
from ichnode.settings.templates import FACTS, IDENTITY
from tests.documents import alert_work, study_ref
from tests.http_peer import HttpPeer, answer, silence
from tests.pacs import closed_port

WHO = ("SIM-9", "Simulated", "ACC-9", "19500101", "20260304")


def settings_of(server, **settings):
    return WebhookSettings(name="hook", url=f"{server.url}/hooks/1?key=abc", **settings)


def told(server, tmp_path, *, settings=None, **work):
    stage = SendStage(
        tmp_path, [settings_of(server, **(settings or {}))], SendSettings(), calling_ae="ICHNODE"
    )
    return stage.handle(alert_work("webhook", "hook", **work)).results


def test_an_alert_is_told_without_the_patient_and_the_same_with_every_try(tmp_path):
    """Everything that may be told to anybody, byte for byte the same again."""
    with HttpPeer(lambda _: answer(202)) as server:
        for _ in range(2):
            assert told(server, tmp_path, settings={"secret": "key"}) == {1: Acknowledged(202)}
    first, again = server.asked
    assert (first.method, first.path) == ("POST", "/hooks/1?key=abc")
    assert first == again
    assert first.body == again.body
    assert first.headers["content-type"] == "application/json"
    assert set(first.json()) == set(FACTS)
    assert first.json()["event"] == first.headers["x-ichnode-event"] == "alert"
    assert first.json()["delivery"] == first.headers["x-ichnode-delivery"]
    assert first.json()["labels"][0] == {
        "label": "any",
        "presence": "present",
        "probability": 0.97,
        "volume_ml": None,
    }
    whole = json.dumps([first.path, first.headers]) + first.body.decode()
    assert not any(who in whole for who in WHO)


def test_studies_revisions_and_destinations_are_told_apart(tmp_path):
    """What names a delivery is of one study, one revision and one destination."""
    with HttpPeer(lambda _: answer(200)) as server:
        told(server, tmp_path, count=2)
        told(server, tmp_path, revision=2, withdrawn=True)
    seen = [(one.headers["x-ichnode-delivery"], one.json()["event"]) for one in server.asked]
    assert len({delivery for delivery, _ in seen}) == 3
    assert [event for _, event in seen] == ["alert", "alert", "withdrawn"]


def test_the_signature_is_what_the_page_says(tmp_path):
    """HMAC-SHA256 of the identifier, a dot and the body; no secret, no signature."""
    with HttpPeer(lambda _: answer(200)) as server:
        told(server, tmp_path, settings={"secret": "Schlüssel"})
        told(server, tmp_path)
    signed, unsigned = server.asked
    base = signed.headers["x-ichnode-delivery"].encode() + b"." + signed.body
    expected = hmac.new("Schlüssel".encode(), base, hashlib.sha256).hexdigest()
    assert signed.headers["x-ichnode-signature"] == f"sha256={expected}"
    assert "x-ichnode-signature" not in unsigned.headers


def test_with_phi_the_patient_is_told(tmp_path):
    """Only where somebody said so."""
    with HttpPeer(lambda _: answer(200)) as server:
        told(server, tmp_path, settings={"phi": True})
    assert server.asked[0].json()["patient"] == {
        "patient_id": "SIM-9",
        "issuer_of_patient_id": "",
        "patient_name": "Tést^Simulated",
        "accession_number": "ACC-9",
        "study_date": "20260304",
    }


def test_a_template_makes_the_body_and_no_value_breaks_out_of_it(tmp_path):
    """Numbers stay numbers, text is put into text, and quotes in a name are only quotes."""
    template = """{"text": "ICH ${finding}: ${labels}, $$5, ${patient_name}", "p": "${probability}",
        "all": "$labels", "deep": [{"uid": "${study_uid}"}, null, true, 7], "v": "${volume_ml}"}"""
    study = study_ref(patient_name='O"Neill\\^${patient_id}\n{"a": 1}')
    with HttpPeer(lambda _: answer(200)) as server:
        settings = {"template": template, "phi": True, "method": "PUT"}
        told(server, tmp_path, settings=settings, study=study)
    body = server.asked[0].json()
    assert server.asked[0].method == "PUT"
    assert body["text"] == f"ICH positive: any, intraparenchymal, $5, {study.patient_name}"
    assert body["p"] == 0.97
    assert len(body["all"]) == 6
    assert body["deep"] == [{"uid": study.study_uid}, None, True, 7]
    assert body["v"] is None


def test_what_can_be_told_is_what_templates_may_name():
    """One list of names for both."""
    (item,) = alert_work("webhook", "hook").items
    assert tuple(facts(item, "hook")) == FACTS
    assert tuple(identity(item.study)) == IDENTITY


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"template": '{"a": "${patient_name}"}'}, "phi = true"),
        ({"template": '["${accession_number}"]'}, "phi = true"),
        ({"template": '{"a": "${nonsense}"}', "phi": True}, "nothing that can be told"),
        ({"template": '{"a": "$ 5"}'}, "for a dollar"),
        ({"template": '{"a": "${study_uid.__class__}"}'}, "for a dollar"),
        ({"template": "{"}, "not JSON"),
        ({"template": "[NaN]"}, "not JSON"),
        ({"template": "[" * 100000}, "not JSON"),
        ({"headers": ["no colon"]}, "Name: value"),
        ({"headers": ["A: b\r\nC: d"]}, "Name: value"),
        ({"headers": ["X-Ichnode-Signature: forged"]}, "not for you"),
        ({"headers": ["Content-Length: 1"]}, "not for you"),
        ({"method": "GET"}, "method"),
    ],
)
def test_a_wrong_setting_is_refused_with_a_reason(settings, says):
    """A template that names the patient where that is not allowed is refused at the start."""
    with pytest.raises(ValueError, match=says):
        WebhookSettings(**{"name": "hook", "url": "http://127.0.0.1/"} | settings)


def test_the_preview_is_what_goes_and_shows_no_secret(tmp_path):
    """The same request line and body; header values of the site are stars."""
    with HttpPeer(lambda _: answer(200)) as server:
        headers = ["Authorization: Bearer s3cr3t", "content-type: application/vnd.site+json"]
        settings = settings_of(server, headers=headers, secret="key")
        mechanism = mechanisms_for(settings, tmp_path, "ICHNODE")["webhook"]
        work = alert_work("webhook", "hook")
        shown = mechanism.preview(work.items[0])
        assert server.asked == []
        SendStage(tmp_path, [settings], SendSettings(), calling_ae="ICHNODE").handle(work)
    (asked,) = server.asked
    assert asked.headers["authorization"] == "Bearer s3cr3t"
    assert asked.headers["content-type"] == "application/vnd.site+json"
    head, _, body = shown.partition("\n\n")
    assert body == asked.body.decode()
    assert head.splitlines()[0] == f"POST {settings.url}"
    assert f"X-Ichnode-Signature: {asked.headers['x-ichnode-signature']}" in head
    assert "Authorization: ***" in head
    assert "s3cr3t" not in shown


def test_pages_and_logs_show_the_server_only():
    """The path of a web hook is often what lets anybody in."""
    shown = WebhookSettings(name="hook", url="https://hooks.example.org/T1/B2/s3cr3t?key=x")
    assert shown.address == "https://hooks.example.org/..."
    assert WebhookSettings(name="h", url="http://127.0.0.1:8/").address == "http://127.0.0.1:8"


def test_asking_sends_nothing():
    """Whether it listens is all that is asked: a request could be taken for an alert."""
    with HttpPeer(lambda _: silence()) as server:
        assert ask(settings_of(server), "ICHNODE").ok
        assert server.asked == []
    nobody = WebhookSettings(name="hook", url=f"http://127.0.0.1:{closed_port()}")
    assert not ask(nobody, "ICHNODE").ok
