"""``ichnode outputs redirect``, and what tells people that they need it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from ichnode.cli import app
from ichnode.domain.findings import Finding
from ichnode.domain.lifecycle import Delivery
from ichnode.service.assembly import open_worklist
from ichnode.settings import load_settings
from ichnode.worklist import schema
from ichnode.worklist.engine import connect
from tests.worklist_kit import analysed, look, slices


def write(path: Path, name: str) -> None:
    """The settings of a node with one destination on this machine, where nobody listens."""
    path.write_text(
        f'[node]\nspool = "{path.parent}/spool"\n'
        f'database = "sqlite:///{path.parent}/worklist.db"\n'
        f'[[destinations]]\nname = "{name}"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = 1\n'
        "sc = false\nups = true\n"
    )


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A node whose destination got another name while a positive waited for it."""
    path = tmp_path / "ichnode.toml"
    write(path, "old_pacs")
    schema.upgrade(connect(load_settings(path).node.database.get_secret_value()))
    worklist = open_worklist(load_settings(path))
    worklist.record(slices(1, expected_count=1))
    look(worklist, analysed(Finding.POSITIVE))
    worklist.close()
    write(path, "pacs")
    return path


def ichnode(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["--config", str(config), *arguments])


def redirect(config: Path, *arguments: str) -> Result:
    return ichnode(config, "outputs", "redirect", "old_pacs", "--by", "A. Admin", *arguments)


def deliveries(config: Path) -> set[tuple[str, Delivery]]:
    worklist = open_worklist(load_settings(config))
    rows = worklist.views.deliveries()
    worklist.close()
    return {(row.destination, row.state) for row in rows}


def stranded(config: Path) -> bool:
    """What the doctor says of it."""
    checks = json.loads(ichnode(config, "doctor", "--json").stdout)
    (check,) = (one for one in checks if one["name"] == "stranded")
    assert check["ok"] is ("old_pacs" not in check["sentence"])
    return not check["ok"]


def test_people_are_told_and_can_move_it(config: Path) -> None:
    """By the doctor, the status and who asks in vain to try it again."""
    assert stranded(config)
    facts = json.loads(ichnode(config, "status", "--json").stdout)
    assert facts["stranded"] == [{"destination": "old_pacs", "deliveries": 2, "positives": 2}]
    assert "old_pacs" in ichnode(config, "status").stdout
    again = ichnode(config, "requeue", "--destination", "old_pacs")
    assert again.exit_code == 1
    assert "ichnode outputs redirect" in again.stderr
    rehearsed = redirect(config, "--to", "pacs", "--dry-run")
    assert rehearsed.stdout == "For pacs: 2 deliveries, 2 of positives.\nNothing was changed.\n"
    assert stranded(config)
    assert redirect(config, "--to", "pacs").stdout == "For pacs: 2 deliveries, 2 of positives.\n"
    assert {name for name, _ in deliveries(config)} == {"pacs"}
    assert not stranded(config)


def test_people_can_give_it_up(config: Path) -> None:
    """And once is enough."""
    done = redirect(config, "--give-up")
    assert (done.exit_code, done.stdout) == (0, "Given up: 2 deliveries, 2 of positives.\n")
    assert deliveries(config) == {("old_pacs", Delivery.SUPPRESSED)}
    assert redirect(config, "--give-up").exit_code == 1


@pytest.mark.parametrize("wrong", [(), ("--to", "pacs", "--give-up"), ("--to", "nowhere")])
def test_what_is_meant_must_be_clear(config: Path, wrong: tuple[str, ...]) -> None:
    """One sentence, and nothing is changed."""
    refused = redirect(config, *wrong)
    assert refused.exit_code != 0
    assert {name for name, _ in deliveries(config)} == {"old_pacs"}
