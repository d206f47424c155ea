"""HTTP as all ways over it share it: bad servers end in something that is seen and tried again."""

from __future__ import annotations

import socket
import ssl
import threading
import time

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from ichnode.domain.errors import PeerFailure
from ichnode.domain.work import Acknowledged, Undelivered
from ichnode.send import http
from ichnode.send.association import FellSilent
from ichnode.send.http import LONGEST_ANSWER, HttpPeer, Request, judge
from ichnode.settings.over_http import RestDestination
from tests.documents import alert_work
from tests.http_peer import HttpPeer as Server
from tests.http_peer import answer, drip, flood, hang_up, silence
from tests.pacs import closed_port

TIMEOUT_S = 0.5


def peer_at(url, **settings):
    return HttpPeer(RestDestination(name="peer", url=url, **{"timeout_s": TIMEOUT_S} | settings))


def told(peer, url, count=1):
    """Tell a server of studies; return the results as they came, and what was raised at the end."""
    results, items = {}, alert_work("webhook", "peer", count=count).items

    def tell(server, item):
        return judge(server.ask(Request("POST", f"{url}/alerts", body=b"{}")))

    try:
        for told_of in peer.one_by_one(items, tell):
            results.update([told_of])
    except PeerFailure as failure:
        return results, failure
    return results, None


def result_of(respond, count=1):
    with Server(respond) as server:
        return told(peer_at(server.url), server.url, count)


def test_what_a_server_takes_is_delivered_over_one_connection():
    """Three rows, one connection, three answers."""
    with Server(lambda _: answer(204)) as server:
        results, raised = told(peer_at(server.url), server.url, count=3)
        assert results == dict.fromkeys((1, 2, 3), Acknowledged(204))
        assert raised is None
        assert server.connections == 1
        assert {one.method for one in server.asked} == {"POST"}


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 599])
def test_a_server_that_is_ill_or_busy_is_asked_again(status):
    """Nothing about it is permanent, and the rest is tried all the same."""
    results, raised = result_of(lambda _: answer(status, b"Jane Doe"), count=2)
    assert set(results) == {1, 2}
    assert raised is None
    for result in results.values():
        assert isinstance(result, Undelivered)
        assert (result.status, result.permanent) == (status, False)
        assert "Doe" not in result.error


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 422])
def test_a_refusal_is_permanent_and_says_its_status(status):
    """What no repetition will change says so, in the standard's words."""
    results, _ = result_of(lambda _: answer(status))
    assert results[1].permanent
    assert f"status {status} (" in results[1].error


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(status):
    """Whoever answers must not send the patient's data elsewhere."""
    with Server(lambda _: answer(200)) as elsewhere:
        results, _ = result_of(lambda _: answer(status, Location=f"{elsewhere.url}/there"))
        assert results[1].permanent
        assert "points elsewhere" in results[1].error
        assert elsewhere.connections == 0


@pytest.mark.parametrize(
    "bad",
    [
        hang_up(),
        flood(b"", b"\x00\xff\x16\x03garbage\r\n" * 100, most=1 << 20),
        flood(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", most=0),
        flood(b"HTTP/1.1 200 OK\r\nContent-Le", most=0),
        flood(b"SSH-2.0-OpenSSH_9.2\r\n", most=0),
        flood(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", most=0),
        flood(b"HTTP/1.1 200 OK\r\nX: ", b"x" * 65536, most=1 << 26),
    ],
    ids=["nothing", "garbage", "half body", "half head", "ssh", "bad chunk", "endless head"],
)
def test_what_is_no_whole_answer_stops_the_rest(bad):
    """The row says what happened; the others are left for later, and were not tried."""
    results, raised = result_of(lambda _: bad, count=3)
    closed = "The server closed the connection, or its answer is not HTTP."
    assert results == {1: Undelivered(closed)}
    assert isinstance(raised, FellSilent)


@pytest.mark.parametrize(
    "slow",
    [
        silence(),
        drip(answer(200, b"x" * 1000)),
        drip(answer(200, b"x" * 1000, X="y" * 1000)),
        drip(b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    ],
    ids=["silent", "drips", "drips its head", "drips continues"],
)
def test_a_slow_server_is_cut_when_its_time_is_over(slow):
    """However busily it drips: an exchange as a whole takes no longer than the time-out."""
    began = time.monotonic()
    results, raised = result_of(lambda _: slow, count=2)
    assert time.monotonic() - began < 10 * TIMEOUT_S
    assert results == {1: Undelivered("The server did not answer in time.")}
    assert isinstance(raised, FellSilent)


def test_a_server_that_stops_after_some_answers_keeps_those():
    """What was answered is answered."""
    replies = [answer(200), answer(500), silence()]
    results, raised = result_of(lambda _: replies.pop(0), count=4)
    assert results[1] == Acknowledged(200)
    assert results[2].status == 500
    assert results[3] == Undelivered("The server did not answer in time.")
    assert 4 not in results
    assert isinstance(raised, FellSilent)


def test_after_a_while_the_rest_waits_for_its_next_turn(monkeypatch):
    """A server that answers, slowly, keeps the loop from nothing else for long."""
    monkeypatch.setattr(http, "LONGEST_ROUND_S", 0.0)
    results, raised = result_of(lambda _: answer(200), count=3)
    assert results == {1: Acknowledged(200)}
    assert raised is None


def test_one_study_takes_a_server_only_so_long(monkeypatch):
    """However many things it lists that would have to be changed, each in time."""
    monkeypatch.setattr(http, "LONGEST_STUDY_S", -1.0)
    results, raised = result_of(lambda _: answer(200), count=2)
    assert results == {1: Undelivered("The server took too long over one study.")}
    assert isinstance(raised, FellSilent)


def test_a_connection_that_comes_too_late_is_cut_too(monkeypatch):
    """The time was over before there was a line to cut, as where one of two addresses is dead."""
    connect = socket.create_connection

    def late(*args, **kwargs):
        ended.wait(10)
        return connect(*args, **kwargs)

    class Watch(threading.Timer):
        def run(self):
            super().run()
            ended.set()

    ended = threading.Event()
    monkeypatch.setattr(socket, "create_connection", late)
    monkeypatch.setattr(threading, "Timer", Watch)
    slow = drip(answer(200, b"x" * 300))
    results, raised = result_of(lambda _: slow)
    assert results == {1: Undelivered("The server did not answer in time.")}
    assert isinstance(raised, FellSilent)


def test_an_endless_answer_is_read_to_a_limit():
    """A gigabyte fills no memory; where the status is all that counts, it counts."""
    endless = flood(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
    with Server(lambda _: endless) as server, peer_at(server.url, timeout_s=20.0).connected() as to:
        got = to.ask(Request("GET", server.url))
    assert len(got.body) == LONGEST_ANSWER
    assert not got.whole
    assert judge(got) == Acknowledged(200)


def test_nobody_there_is_a_failure_of_the_peer():
    """A closed port is not a failure of one row."""
    url = f"http://127.0.0.1:{closed_port()}"
    results, raised = told(peer_at(url), url)
    assert results == {}
    assert str(raised) == "The server cannot be reached."


def test_no_proxy_of_the_environment_is_used(monkeypatch):
    """What is sent to this machine stays on it, whatever the environment says."""
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{closed_port()}")
    monkeypatch.setenv("NO_PROXY", "")
    assert result_of(lambda _: answer(200))[0] == {1: Acknowledged(200)}


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """An authority of this module, and the files of its certificate and of a client's."""
    folder = tmp_path_factory.mktemp("authority")
    made = trustme.CA()
    made.cert_pem.write_to_path(str(folder / "ca.pem"))
    made.issue_cert("client@example.org").private_key_and_cert_chain_pem.write_to_path(
        str(folder / "client.pem")
    )
    return made, folder


def serving(authority, name="localhost", *, asks_for_one=False):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    if asks_for_one:
        authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def test_a_server_with_a_certificate_that_is_trusted_is_told(authority):
    """The authority of the site is in a file of its own."""
    made, folder = authority
    with Server(lambda _: answer(200), serving(made)) as server:
        peer = peer_at(server.url, ca_file=str(folder / "ca.pem"), timeout_s=5.0)
        assert told(peer, server.url) == ({1: Acknowledged(200)}, None)


@pytest.mark.parametrize(("name", "trusts"), [("localhost", False), ("other.example.org", True)])
def test_a_certificate_that_is_not_trusted_gets_nothing(authority, name, trusts):
    """An unknown authority, or another host's name: nothing is sent."""
    made, folder = authority
    with Server(lambda _: answer(200), serving(made, name)) as server:
        trusted = {"ca_file": str(folder / "ca.pem")} if trusts else {}
        results, raised = told(peer_at(server.url, timeout_s=5.0, **trusted), server.url)
        assert results == {}
        assert "certificate is not trusted" in str(raised)
        assert server.asked == []


def test_our_own_certificate_is_shown_to_who_asks_for_one(authority):
    """With it we are let in; without it we are not, and it can be seen."""
    made, folder = authority
    with Server(lambda _: answer(200), serving(made, asks_for_one=True)) as server:
        files = {"ca_file": str(folder / "ca.pem"), "timeout_s": 5.0}
        ours = {"certificate_file": str(folder / "client.pem")}
        assert told(peer_at(server.url, **files, **ours), server.url)[0] == {1: Acknowledged(200)}
        results, raised = told(peer_at(server.url, **files), server.url)
        assert raised is not None
        assert not any(isinstance(one, Acknowledged) for one in results.values())


def test_a_handshake_that_drips_is_cut_as_well():
    """A server that never finishes TLS holds nobody up."""
    with Server(lambda _: answer(200)) as plain:  # it waits for a request, and we for its hello
        url = plain.url.replace("http:", "https:")
        began = time.monotonic()
        _, raised = told(peer_at(url), url)
        assert time.monotonic() - began < 10 * TIMEOUT_S
        assert raised is not None


@pytest.mark.parametrize("key", ["ca_file", "certificate_file"])
def test_a_file_that_cannot_be_used_is_a_clear_error(tmp_path, key):
    """Missing, or no certificate at all; nobody else is held up by it."""
    url = "https://localhost:1"
    for path in (tmp_path / "nowhere.pem", tmp_path / "empty.pem"):
        (tmp_path / "empty.pem").write_text("no certificate")
        results, raised = told(peer_at(url, **{key: str(path)}), url)
        assert results == {}
        assert path.name in str(raised)


def test_a_key_with_a_password_is_a_clear_error(authority, tmp_path):
    """Nobody is there to be asked for it."""
    _, folder = authority
    held = load_pem_private_key((folder / "client.pem").read_bytes(), None)
    locked = held.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password")
    )
    (tmp_path / "locked.pem").write_bytes(locked)
    files = {
        "certificate_file": str(folder / "client.pem"),
        "key_file": str(tmp_path / "locked.pem"),
    }
    _, raised = told(peer_at("https://localhost:1", **files), "https://localhost:1")
    assert "locked.pem cannot be used" in str(raised)


def test_who_we_are_is_sent_and_never_shown():
    """Basic and bearer go with each request; a preview shows that there is something, not what."""
    with Server(lambda _: answer(200)) as server:
        basic = peer_at(server.url, user="ich", password="pässword")
        bearer = peer_at(server.url, token="tok-en")
        told(basic, server.url)
        told(bearer, server.url)
        sent = [one.headers["authorization"] for one in server.asked]
        assert sent == ["Basic aWNoOnDDpHNzd29yZA==", "Bearer tok-en"]
        shown = bearer.shown(Request("GET", f"{server.url}/x", (("Accept", "a/b"),)))
        assert shown == f"GET {server.url}/x\nAccept: a/b\nAuthorization: ***"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"url": "ftp://host"}, "url"),
        ({"url": "http://user:secret@host/"}, "url"),
        ({"url": "http://127.0.0.1\\@elsewhere/"}, "url"),
        ({"url": "http://host/#there"}, "url"),
        ({"url": "http://host:70000/"}, "Port out of range"),
        ({"url": "http://host/a b"}, "url"),
        ({"url": "http://host/?x=1"}, "question"),
        ({"user": "a", "token": "b"}, "not both"),
        ({"token": "a b"}, "blanks"),
        ({"user": "a:b"}, "colon"),
        ({"key_file": "key.pem"}, "certificate_file"),
    ],
)
def test_a_wrong_setting_is_refused_with_a_reason(settings, says):
    """Before anything is sent anywhere."""
    with pytest.raises(ValueError, match=says):
        RestDestination(**{"name": "peer", "url": "http://host"} | settings)


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://127.0.0.1:1/x", True),
        ("http://[::1]:1/x", True),
        ("https://localhost/x", True),
        ("http://localhost.example.org/", False),
        ("http://127.0.0.1.example.org/", False),
    ],
)
def test_what_is_on_this_machine_is_told_by_the_host(url, here):
    """Only that is open before a model is commissioned."""
    assert RestDestination(name="peer", url=url).is_loopback is here
