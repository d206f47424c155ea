"""Labels and metadata on studies in an Orthanc, played by a server that answers as versions do."""

from __future__ import annotations

import json
import re

import pytest

from ichnode.domain.work import Acknowledged, Undelivered
from ichnode.send.asking import ask
from ichnode.send.mechanisms import mechanisms_for
from ichnode.send.stage import SendStage
from ichnode.settings import OrthancSettings, SendSettings
from tests.documents import alert_work, study_ref
from tests.http_peer import HttpPeer, answer

NUMBER = "158c6025-7917539e-093bd4d4-4e6bd48f-4fe4e5fe"
STUDY = f"/studies/{NUMBER}"
CHANGED = re.compile(r"/studies/([0-9a-f-]+)/(labels|metadata)/([^/]+)")


class PlayedOrthanc:
    """What an Orthanc of some version does with the requests that we make."""

    def __init__(self, *, has_labels=True, numbers=(NUMBER,), revisions=False):
        self.has_labels, self.numbers, self.revisions = has_labels, numbers, revisions
        self.labels, self.metadata = set(), {}
        self.refusing = {}

    def __call__(self, asked):
        if asked.path in self.refusing:
            return answer(self.refusing[asked.path])
        if asked.path == "/system":
            labels = {"HasLabels": True} if self.has_labels else {}
            return answer(200, {"Version": "1.12.4" if labels else "1.10.1"} | labels)
        if asked.path == "/tools/lookup":
            return answer(200, [{"ID": one, "Type": "Study"} for one in self.numbers])
        number, what, name = CHANGED.fullmatch(asked.path).groups()
        if what == "labels":
            return self._label(asked.method, (number, name))
        return self._metadata(asked, (number, name))

    def _label(self, method, key):
        if not self.has_labels:
            return answer(404)
        if method == "PUT":
            self.labels.add(key)
        else:
            self.labels.discard(key)
        return answer(200)

    def _metadata(self, asked, key):
        held = self.metadata.get(key)
        etag = {} if held is None else {"ETag": f'"{held[0]}-abc"'}
        if asked.method == "GET":
            return answer(404) if held is None else answer(200, held[1], **etag)
        if held is None and asked.method == "DELETE":
            return answer(404)
        if self.revisions and held and asked.headers.get("if-match") != etag["ETag"]:
            return answer(409)
        if asked.method == "DELETE":
            del self.metadata[key]
        else:
            self.metadata[key] = (held[0] + 1 if held else 0, asked.body)
        return answer(200)


def settings_of(server, **settings):
    return OrthancSettings(name="archive", url=server.url, timeout_s=5.0, **settings)


def told(server, tmp_path, *, settings=None, **work):
    destination = settings_of(server, **(settings or {}))
    stage = SendStage(tmp_path, [destination], SendSettings(), calling_ae="ICHNODE")
    return stage.handle(alert_work("orthanc", "archive", **work)).results[1]


def test_the_study_gets_its_label_however_often_it_is_sent(tmp_path):
    """By Orthanc's own number, which is looked up by the Study Instance UID."""
    orthanc = PlayedOrthanc()
    with HttpPeer(orthanc) as server:
        for _ in range(2):
            assert told(server, tmp_path) == Acknowledged(200)
        assert orthanc.labels == {(NUMBER, "ich-suspected")}
        lookup, label = server.asked[:2]
        assert (lookup.method, lookup.path) == ("POST", "/tools/lookup")
        assert lookup.body.decode() == study_ref().study_uid
        assert (label.method, label.path) == ("PUT", f"{STUDY}/labels/ich-suspected")


def test_a_withdrawn_alert_takes_label_and_metadata_off_again(tmp_path):
    """And again: what is gone already is no failure, nor is a study that is gone."""
    orthanc, settings = PlayedOrthanc(), {"metadata": "1024"}
    with HttpPeer(orthanc) as server:
        told(server, tmp_path, settings=settings)
        assert orthanc.labels
        assert orthanc.metadata
        for _ in range(2):
            answered = told(server, tmp_path, settings=settings, withdrawn=True)
            assert answered == Acknowledged(200)
            assert not orthanc.labels
            assert not orthanc.metadata
        orthanc.numbers = ()
        answered = told(server, tmp_path, withdrawn=True)
        assert answered == Acknowledged(note="the study is not there")


def test_a_study_that_is_not_there_yet_is_asked_for_again(tmp_path):
    """The scanner may send to the archive after us."""
    orthanc = PlayedOrthanc(numbers=())
    with HttpPeer(orthanc) as server:
        assert told(server, tmp_path) == Undelivered("The study is not in this Orthanc yet.")
        orthanc.numbers = (NUMBER,)
        assert told(server, tmp_path) == Acknowledged(200)


def test_one_study_uid_of_two_patients_is_labelled_twice(tmp_path):
    """Orthanc numbers by patient and study; nobody knows which of the two is meant."""
    other = NUMBER.replace("158c", "0000")
    orthanc = PlayedOrthanc(numbers=(NUMBER, other))
    with HttpPeer(orthanc) as server:
        assert told(server, tmp_path) == Acknowledged(200)
    assert {number for number, _ in orthanc.labels} == {NUMBER, other}


def test_an_orthanc_without_labels_says_what_to_set_and_has_the_metadata(tmp_path):
    """Metadata comes first, so that an old Orthanc still has that; the refusal names the remedy."""
    orthanc = PlayedOrthanc(has_labels=False)
    with HttpPeer(orthanc) as server:
        refused = told(server, tmp_path, settings={"metadata": "1024"})
        assert refused.permanent
        assert 'set label = ""' in refused.error
        assert set(orthanc.metadata) == {(NUMBER, "1024")}
        asked = ask(settings_of(server), "ICHNODE")
        assert not asked.ok
        assert "1.12.0" in asked.sentence
        alone = {"metadata": "1024", "label": ""}
        assert told(server, tmp_path, settings=alone) == Acknowledged(200)
        assert ask(settings_of(server, **alone), "ICHNODE").ok


@pytest.mark.parametrize("revisions", [False, True])
def test_metadata_says_what_was_found_and_is_written_once(tmp_path, revisions):
    """Also where Orthanc checks revisions; a later revision takes the place of the earlier one."""
    orthanc, settings = PlayedOrthanc(revisions=revisions), {"metadata": "ich", "label": ""}
    key = (NUMBER, "ich")
    with HttpPeer(orthanc) as server:
        for _ in range(2):
            assert told(server, tmp_path, settings=settings) == Acknowledged(200)
        assert orthanc.metadata[key][0] == 0
        held = json.loads(orthanc.metadata[key][1])
        assert (held["finding"], held["probability"]) == ("positive", 0.97)
        assert "Not for diagnostic use" in held["statement"]
        assert "SIM-9" not in orthanc.metadata[key][1].decode()
        assert told(server, tmp_path, settings=settings, revision=3) == Acknowledged(200)
        assert orthanc.metadata[key][0] == 1


def test_a_name_of_metadata_that_orthanc_does_not_know_says_so(tmp_path):
    """As a version 1.10.1 answers for names that are not in UserMetadata."""
    orthanc = PlayedOrthanc()
    orthanc.refusing[f"{STUDY}/metadata/ich"] = 404
    with HttpPeer(orthanc) as server:
        refused = told(server, tmp_path, settings={"metadata": "ich"})
        assert refused.permanent
        assert "UserMetadata" in refused.error


@pytest.mark.parametrize("status", [401, 500])
def test_another_refusal_of_the_label_keeps_its_status(tmp_path, status):
    """It is not taken for an old version."""
    orthanc = PlayedOrthanc()
    orthanc.refusing[f"{STUDY}/labels/ich-suspected"] = status
    with HttpPeer(orthanc) as server:
        assert told(server, tmp_path).status == status


@pytest.mark.parametrize(
    "strange",
    [
        b"",
        b"[" * 100000,
        {},
        [1],
        [{"ID": "../../patients", "Type": "Study"}],
        [{"Type": "Study"}],
        "Jane Doe",
    ],
    ids=["nothing", "deep", "object", "numbers", "path", "no number", "text"],
)
def test_an_answer_that_is_none_of_orthanc_is_seen(tmp_path, strange):
    """Nothing of it is shown, nothing of it is followed."""
    with HttpPeer(lambda _: answer(200, strange)) as server:
        result = told(server, tmp_path)
        assert isinstance(result, Undelivered)
        assert not result.permanent
        assert "Doe" not in result.error
        assert [one.path for one in server.asked] == ["/tools/lookup"]


def test_the_preview_is_what_goes(tmp_path):
    """Every request as it is made, with the password hidden and Orthanc's number open."""
    orthanc, settings = PlayedOrthanc(), {"metadata": "1024", "user": "ich", "password": "secret"}
    with HttpPeer(orthanc) as server:
        work = alert_work("orthanc", "archive")
        mechanism = mechanisms_for(settings_of(server, **settings), tmp_path, "ICHNODE")["orthanc"]
        shown = mechanism.preview(work.items[0])
        assert server.asked == []
        told(server, tmp_path, settings=settings)
        sent = [one for one in server.asked if one.method != "GET"]
        for one in sent:
            path = one.path.replace(NUMBER, "ID")
            assert f"{one.method} {server.url}{path}" in shown
            assert one.body.decode() in shown
        assert shown.count("Authorization: ***") == len(sent)
        assert "secret" not in shown


def test_nothing_to_tell_is_a_wrong_setting():
    """A destination that would be told nothing is a mistake."""
    with pytest.raises(ValueError, match="nothing to tell"):
        OrthancSettings(name="archive", url="http://127.0.0.1", label="")
