"""``--set NAME=VALUE`` stands above the environment and the file, for every command."""

from __future__ import annotations

import json

import pytest
import torch
from typer.testing import CliRunner

from ichnode.cli import app
from ichnode.cli.configuring import choose
from ichnode.domain.errors import ConfigurationError
from ichnode.settings import load_settings


@pytest.fixture
def config(tmp_path):
    """A configuration whose files are the test's own."""
    path = tmp_path / "ichnode.toml"
    path.write_text(
        f'[node]\nspool = "{tmp_path}/spool"\ndatabase = "sqlite:///{tmp_path}/worklist.db"\n'
        f'[infer]\nmodels = "{tmp_path}/models"\n[receive]\nport = 11113\nidle_s = 5\n'
    )
    return path


def settings(config, *assignments):
    return choose(config, assignments).settings()


def test_what_is_set_wins_and_leaves_the_rest(config, monkeypatch):
    """Several values of one section, above a variable, above the file."""
    monkeypatch.setenv("ICHNODE_RECEIVE__PORT", "105")
    found = settings(config, "receive.port=104", "receive.ae_title=12", "report.negative_sr=true")
    assert (found.receive.port, found.receive.ae_title, found.receive.idle_s) == (104, "12", 5)
    assert found.report.negative_sr is True


def test_lists_tables_and_quoted_text_are_toml(config):
    """What a shell word cannot say by itself."""
    destination = '{name="a", ae_title="P", host="h", port=1}'
    found = settings(
        config, f"destinations=[{destination}]", 'receive.networks=["10.1.2.0/24"]',
        'report.institution="[sic]"',
    )  # fmt: skip
    assert found.destinations[0].ae_title == "P"
    assert found.receive.networks == ("10.1.2.0/24",)
    assert found.report.institution == "[sic]"


@pytest.mark.parametrize(
    ("assignment", "says"),
    [
        ("receive.prot=104", r"receive\.prot is no setting\. Did you mean receive\.port\?"),
        ("receive.port=many", r"receive\.port: .*integer"),
        ("receive.port", "NAME=VALUE"),
        ("=104", "NAME=VALUE"),
        ("receive=104", "receive is no setting"),
        ("receive.networks=[1", "no TOML|not a TOML"),
        ("web.bind=0.0.0.0", "reverse proxy"),
    ],
)
def test_what_is_wrong_is_a_sentence(config, assignment, says):
    """A misspelt name names the nearest right one; a wrong value names its setting."""
    with pytest.raises(ConfigurationError, match=says):
        settings(config, assignment)


def test_a_right_value_mends_a_wrong_one_below_it(config):
    """The file's value is not looked at where the command line has one."""
    config.write_text(config.read_text().replace("11113", "99999"))
    with pytest.raises(ConfigurationError):
        settings(config)
    assert settings(config, "receive.port=104").receive.port == 104


def test_another_process_can_be_told_the_same(config):
    """The supervisor hands its options on to the roles."""
    said = choose(config, ["receive.port=104", "web.port=0"])
    assert said.arguments() == [
        "--config", str(config), "--set", "receive.port=104", "--set", "web.port=0",
    ]  # fmt: skip


def test_the_origin_is_the_command_line(config):
    """`config show` tells it from the file."""
    done = CliRunner().invoke(
        app, ["--config", str(config), "--set", "receive.port=104", "config", "show", "--json"]
    )
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert rows["receive.port"] == {"name": "receive.port", "value": 104, "from": "command line"}
    assert rows["receive.idle_s"]["from"] == str(config)


def test_help_tells_of_it():
    """A person finds the option without the manual."""
    assert "--set" in CliRunner().invoke(app, ["--help"]).stdout


def test_a_misspelt_key_of_a_destination_names_the_right_one(tmp_path):
    """Inside [[destinations]] as well as in the sections, and a misspelt section too."""
    path = tmp_path / "ichnode.toml"
    path.write_text('[[destinations]]\nname="a"\nae_title="P"\nhost="h"\nport=1\ntimeouts=3\n')
    with pytest.raises(ConfigurationError, match=r"Did you mean destinations\.0\.timeout_s\?"):
        load_settings(path)
    path.write_text("[recieve]\nport=1\n")
    with pytest.raises(ConfigurationError, match=r"recieve is no setting\. Did you mean receive"):
        load_settings(path)


def test_doctor_refuses_a_gpu_that_is_not_there_and_tells_of_the_clock(config):
    """infer.device=cuda is well only with a CUDA device; SQLite's clock is not its own witness."""
    run = CliRunner()
    run.invoke(app, ["--config", str(config), "db", "upgrade"])
    done = run.invoke(
        app, ["--config", str(config), "--set", "infer.device=cuda", "doctor", "--json"]
    )
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    assert checks["device"]["ok"] is torch.cuda.is_available()
    assert checks["clock"]["ok"]
    assert any(word in checks["clock"]["sentence"] for word in ("warning", "kept by"))
    assert checks["jobs"]["ok"]
