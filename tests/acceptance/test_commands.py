"""Every command says what it does, shows an example, and ends with the code that it promises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import typer.main

from ichnode.cli import app
from ichnode.service.assembly import open_worklist
from ichnode.settings import load_settings

README = (Path(__file__).parents[2] / "README.md").read_text()


def commands():
    """Return every command with its names and its click object."""

    def walk(group, names):
        for name, command in sorted(group.commands.items()):
            if hasattr(command, "commands"):
                yield from walk(command, (*names, name))
            else:
                yield (*names, name), command

    return list(walk(typer.main.get_command(app), ()))


@pytest.mark.parametrize(
    ("names", "command"),
    commands(),
    ids=lambda v: "-".join(map(str, v)) if isinstance(v, tuple) else "",
)
def test_every_command_has_help_and_an_example(names, command):
    """A person at a terminal can go on from --help alone."""
    assert command.help
    assert "Example: " in (command.epilog or "")
    assert f"ichnode {names[0]}" in README or f"ichnode {' '.join(names)}" in README


@pytest.fixture
def ichnode(tmp_path):
    """Run the command with a configuration of its own."""
    config = tmp_path / "ichnode.toml"
    config.write_text(
        f'[node]\nspool = "{tmp_path}/spool"\ndatabase = "sqlite:///{tmp_path}/worklist.db"\n'
        f'[infer]\nmodels = "{tmp_path}/models"\n[receive]\nport = 0\n[web]\nport = 0\n'
    )

    def run(*arguments, config=config, stdin=""):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("ICHNODE_")}
        return subprocess.run(
            [sys.executable, "-m", "ichnode", "--config", str(config), *arguments],
            capture_output=True, text=True, input=stdin, env=environment, timeout=100, check=False,
        )  # fmt: skip

    return run


def test_the_node_refuses_to_start_on_an_empty_database(ichnode):
    """Exit code 78 and the sentence that says what to run; no stack trace."""
    done = ichnode("run")
    assert done.returncode == 78
    assert "ichnode db upgrade" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_configuration_is_a_sentence(ichnode, tmp_path):
    """Exit code 78, the path, and the nearest file."""
    done = ichnode("config", "check", config=tmp_path / "ichnode.tml")
    assert done.returncode == 78
    assert "Did you mean ichnode.toml?" in done.stderr


def test_an_unknown_role_names_the_roles(ichnode):
    """A misspelt role is an error that helps."""
    done = ichnode("run", "recieve")
    assert done.returncode == 78
    assert "receive, infer, deliver, web, housekeep" in done.stderr


def test_upgrade_is_safe_to_repeat(ichnode):
    """The second time nothing is to be done."""
    assert "Upgraded" in ichnode("db", "upgrade").stdout
    assert "up to date" in ichnode("db", "upgrade").stdout
    assert ichnode("db", "check").returncode == 0


def test_configuration_is_shown_with_its_origin(ichnode, tmp_path):
    """Each value says whether it is from the file or a default, and secrets stay hidden."""
    rows = {row["name"]: row for row in json.loads(ichnode("config", "show", "--json").stdout)}
    assert rows["receive.port"] == {
        "name": "receive.port", "value": 0, "from": str(tmp_path / "ichnode.toml"),
    }  # fmt: skip
    assert rows["receive.ae_title"]["from"] == "default"
    assert "sqlite" not in rows["node.database"]["value"]


def test_status_says_what_is_not_in_the_list_yet(ichnode, tmp_path):
    """A recorder that is stuck is seen by whoever looks, though its role beats."""
    ichnode("db", "upgrade")
    with closing(open_worklist(load_settings(tmp_path / "ichnode.toml"))) as worklist:
        worklist.beat("receive", "ct-host", 1, {"backlog": 3, "backlog_oldest_s": 75.0})
    said = "not in the list yet: 3 images, the oldest for 75 s"
    assert said in ichnode("status").stdout
    (process,) = json.loads(ichnode("status", "--json").stdout)["processes"]
    assert process["detail"] == {"backlog": 3, "backlog_oldest_s": 75.0}


def test_nothing_to_send_is_said(ichnode, tmp_path):
    """An empty folder is a mistake, not a success."""
    (tmp_path / "empty").mkdir()
    done = ichnode("send", str(tmp_path / "empty"), "PACS@127.0.0.1:104")
    assert done.returncode == 78
    assert "no DICOM files" in done.stderr


@pytest.mark.parametrize("peer", ["PACS", "PACS@host", "PACS@host:0", "PACS@host:99999", "@h:1"])
def test_a_peer_is_ae_host_and_port(ichnode, peer):
    """Anything else is a sentence with an example."""
    done = ichnode("echo", peer)
    assert done.returncode == 78
    assert "AE@HOST:PORT" in done.stderr


def test_a_dead_peer_is_said_with_exit_code_1(ichnode, tmp_path):
    """Nobody listens on a port that was just closed."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = ichnode("echo", f"PACS@127.0.0.1:{port}")
    assert done.returncode == 1
    assert done.stdout.strip()


def test_commission_shows_asks_and_records(ichnode):
    """A dry run changes nothing, a no changes nothing, a yes is recorded, and revoked."""
    ichnode("db", "upgrade")
    dry = ichnode("commission", "--by", "A. Physicist", "--dry-run")
    assert dry.returncode == 0
    assert "Not for clinical use" in dry.stdout
    refused = ichnode("commission", "--by", "A. Physicist", stdin="n\n")
    assert refused.returncode == 1
    mode = next(c for c in json.loads(ichnode("doctor", "--json").stdout) if c["name"] == "mode")
    assert "Observe mode" in mode["sentence"]
    accepted = ichnode("commission", "--by", "A. Physicist", stdin="y\n")
    assert "Recorded: A. Physicist accepted" in accepted.stdout
    mode = next(c for c in json.loads(ichnode("doctor", "--json").stdout) if c["name"] == "mode")
    assert "Commissioned" in mode["sentence"]
    revoked = ichnode("commission", "--by", "A. Physicist", "--revoke", "--yes")
    assert "observes again" in revoked.stdout


def test_phantom_writes_what_send_would_send(ichnode, tmp_path):
    """A simulated study is files on disk, each named after nobody."""
    import pydicom

    done = ichnode("phantom", str(tmp_path / "scans"), "--bleed", "subdural")
    assert done.returncode == 0, done.stderr
    files = sorted((tmp_path / "scans").rglob("*.dcm"))
    assert len(files) > 20
    assert "SIMULATED" in str(pydicom.dcmread(files[0], stop_before_pixels=True).PatientName)
    wrong = ichnode("phantom", str(tmp_path / "x"), "--bleed", "epidurial")
    assert wrong.returncode == 78
    assert "epidural" in wrong.stderr
