"""Commands: real programs, started without a shell, and ended when their time is over."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from ichnode.domain.work import Acknowledged, Undelivered
from ichnode.send import command
from ichnode.send.asking import ask
from ichnode.send.mechanisms import mechanisms_for
from ichnode.send.stage import SendStage
from ichnode.settings import CommandSettings, SendSettings
from ichnode.settings.templates import FACTS
from tests.documents import alert_work


def program(tmp_path, lines, *words, **settings):
    """Return a destination that runs a script of these lines."""
    script = tmp_path / "hook.py"
    script.write_text(f"#!{sys.executable} -IS\nimport json, os, sys, time\n{lines}\n")
    script.chmod(0o755)
    return CommandSettings(name="hook", command=(str(script), *words), **settings)


def told(destination, tmp_path, **work):
    stage = SendStage(tmp_path, [destination], SendSettings(), calling_ae="ICHNODE")
    return stage.handle(alert_work("command", "hook", **work)).results


KEEP = """
with open(sys.argv[1], "a") as kept:
    told = [json.load(sys.stdin), sys.argv[2:], dict(os.environ), os.getcwd()]
    print(json.dumps(told), file=kept)
"""


def test_a_program_gets_the_alert_on_its_standard_input(tmp_path, monkeypatch):
    """No shell reads its arguments, and nothing of our environment goes along."""
    monkeypatch.setenv("ICHNODE_NODE__DATABASE", "postgresql://u:secret@h/d")
    words = ("$(touch x); `id`", "two words", "*")
    destination = program(tmp_path, KEEP, str(tmp_path / "kept"), *words)
    for _ in range(2):
        assert told(destination, tmp_path) == {1: Acknowledged()}
    first, again = map(json.loads, (tmp_path / "kept").read_text().splitlines())
    assert first == again
    content, arguments, environment, folder = first
    assert set(content) == set(FACTS)
    assert tuple(arguments) == words
    assert {"PATH", "LANG"} <= set(environment) <= {"PATH", "LANG", "LC_CTYPE"}
    assert folder == "/"
    assert "SIM-9" not in json.dumps(content)
    assert "Simulated" not in json.dumps(content)


def test_with_phi_it_is_told_who_the_patient_is(tmp_path):
    """Only where somebody said so."""
    destination = program(tmp_path, KEEP, str(tmp_path / "kept"), phi=True)
    told(destination, tmp_path, withdrawn=True)
    content = json.loads((tmp_path / "kept").read_text())[0]
    assert content["event"] == "withdrawn"
    assert content["patient"]["patient_name"] == "Tést^Simulated"


@pytest.mark.parametrize(
    ("status", "permanent"),
    [
        (1, False),
        (75, False),
        (69, False),
        (74, False),
        (64, True),
        (65, True),
        (78, True),
        (127, True),
    ],
)
def test_exit_statuses_say_whether_it_is_tried_again(tmp_path, status, permanent):
    """As sysexits.h has them; what it prints is kept nowhere."""
    lines = f'print("Jane Doe"); print("Jane Doe", file=sys.stderr); sys.exit({status})'
    said = f"The command ended with status {status}."
    expected = Undelivered(said, status, permanent)
    results = told(program(tmp_path, lines), tmp_path, count=2)
    assert results == {1: expected, 2: expected}


def test_one_that_is_killed_is_tried_again(tmp_path):
    """By the kernel, for its memory, or by a person."""
    lines = "os.kill(os.getpid(), 9)"
    expected = Undelivered("The command was ended by signal 9.", -9)
    assert told(program(tmp_path, lines), tmp_path) == {1: expected}


def test_one_that_does_not_end_is_killed_with_what_it_started(tmp_path):
    """The rest is left for later; the child that it started is gone as well."""
    lines = """
child = os.fork()
if child:
    open(sys.argv[1], "w").write(str(child))
time.sleep(600)
"""
    destination = program(tmp_path, lines, str(tmp_path / "child"), timeout_s=3.0)
    began = time.monotonic()
    results = told(destination, tmp_path, count=3)
    assert time.monotonic() - began < 60
    assert results == {1: Undelivered("The command did not end in time and was killed.")}
    child = int((tmp_path / "child").read_text())
    pause, deadline = threading.Event(), time.monotonic() + 10
    while _lives(child) and time.monotonic() < deadline:
        pause.wait(0.02)
    assert not _lives(child)


def test_one_that_cannot_be_killed_is_not_waited_for(tmp_path, monkeypatch):
    """It runs as another user, such as by sudo: others are told all the same."""
    lines = 'open(sys.argv[1], "w").write(str(os.getpid())); time.sleep(600)'
    destination = program(tmp_path, lines, str(tmp_path / "pid"), timeout_s=3.0)
    kill = os.killpg

    def not_ours(*_):
        raise PermissionError

    monkeypatch.setattr(command, "LONGEST_END_S", 0.1)
    monkeypatch.setattr(os, "killpg", not_ours)
    began = time.monotonic()
    try:
        results = told(destination, tmp_path)
    finally:
        kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    assert time.monotonic() - began < 60
    assert results == {1: Undelivered("The command did not end in time and was killed.")}


def _lives(pid):
    """Say whether a process is there and no mere entry that nobody has taken note of."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_one_that_reads_nothing_and_leaves_somebody_behind_is_fine(tmp_path):
    """Its own end counts: neither a full pipe nor a child that lives on holds us up."""
    lines = """
if not os.fork():
    time.sleep(600)
open(sys.argv[1], "w").write(str(os.getpgid(0)))
"""
    destination = program(tmp_path, lines, str(tmp_path / "group"))
    try:
        assert told(destination, tmp_path) == {1: Acknowledged()}
    finally:
        os.killpg(int((tmp_path / "group").read_text()), signal.SIGKILL)


def test_a_program_that_cannot_be_started_says_why(tmp_path):
    """Not there, not allowed, no program at all."""
    nowhere = CommandSettings(name="hook", command=(str(tmp_path / "nowhere"),))
    (result,) = told(nowhere, tmp_path).values()
    assert result.permanent
    assert "No such file" in result.error
    assert not ask(nowhere, "ICHNODE").ok
    text = program(tmp_path, "")
    (tmp_path / "hook.py").write_bytes(b"\x00")
    (result,) = told(text, tmp_path).values()
    assert "cannot be started" in result.error


def test_asking_runs_nothing(tmp_path):
    """Whether it is there and may be run is all that is asked."""
    destination = program(tmp_path, "open(sys.argv[1], 'w')", str(tmp_path / "ran"))
    assert ask(destination, "ICHNODE").ok
    assert not (tmp_path / "ran").exists()


def test_the_preview_is_what_it_gets(tmp_path):
    """The command line as one would type it, and its standard input; nothing runs."""
    destination = program(tmp_path, KEEP, str(tmp_path / "kept"), "two words")
    (item,) = alert_work("command", "hook").items
    shown = mechanisms_for(destination, tmp_path, "ICHNODE")["command"].preview(item)
    assert not (tmp_path / "kept").exists()
    line, _, content = shown.partition("\n\n")
    assert line.endswith("kept 'two words'")
    told(destination, tmp_path)
    assert json.loads(content) == json.loads((tmp_path / "kept").read_text())[0]


def test_a_command_is_never_on_this_machine():
    """Where it takes what it is told is not known: closed until a model is commissioned."""
    assert not CommandSettings(name="hook", command=("/bin/true",)).is_loopback


@pytest.mark.parametrize("command", [(), ("true",), ("./true",), ("/bin/true", "a\0b")])
def test_a_command_is_named_by_its_full_path(command):
    """What is found on some path may be another tomorrow."""
    with pytest.raises(ValueError, match="command"):
        CommandSettings(name="hook", command=command)
