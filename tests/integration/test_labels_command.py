"""``ichnode labels``: what it says, and that it quotes nobody."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from ichnode.cli import app
from ichnode.domain.findings import Finding
from ichnode.service.assembly import open_worklist
from ichnode.settings import load_settings
from ichnode.worklist import schema
from ichnode.worklist.engine import connect
from tests.worklist_kit import analysed, look, slices

FILE = """accession_number,any,subdural,remark
SECRET1,1,1,of Doe
SECRET2,0,,of Roe
SECRET3,1,,never came
SECRET1,perhaps,,of Doe
"""


@pytest.fixture
def labels(tmp_path):
    """Run `ichnode labels` on a node with two studies."""
    config = tmp_path / "ichnode.toml"
    config.write_text(
        f'[node]\nspool = "{tmp_path}/spool"\ndatabase = "sqlite:///{tmp_path}/worklist.db"\n'
    )
    settings = load_settings(config)
    schema.upgrade(connect(settings.node.database.get_secret_value()))
    worklist = open_worklist(settings)
    for number, finding in ((1, Finding.POSITIVE), (2, Finding.NEGATIVE)):
        arrived = slices(1, expected_count=1)
        named = [
            replace(a, header=replace(a.header, accession_number=f"SECRET{number}"))
            for a in arrived
        ]
        worklist.record(named)
        look(worklist, analysed(finding))
    worklist.close()
    (tmp_path / "labels.csv").write_text(FILE)

    def run(*arguments):
        return CliRunner().invoke(app, ["--config", str(config), "labels", *arguments])

    return run


def test_a_file_is_taken_in_and_its_bad_lines_are_told(labels, tmp_path):
    """Exit code 1 for the line that nobody understands; the others are in, once and for all."""
    file = str(tmp_path / "labels.csv")
    dry = labels("import", file, "--dry-run", "--json")
    done = labels("import", file, "--by", "Dr B")
    assert dry.exit_code == done.exit_code == 1
    assert json.loads(dry.stdout)["recorded"] == 2
    assert "2 studies recorded" in done.output
    assert "1 of studies that never arrived here: line 4" in done.output
    assert "line 5 refused: any is neither" in done.output
    assert "Columns without a meaning here: remark" in done.output
    again = json.loads(labels("import", file, "--json").stdout)
    assert (again["recorded"], again["unchanged"], again["unknown"]) == (0, 2, [4])
    for said in (done.output, labels("import", file, "--json").output):
        assert "SECRET" not in said
        assert "Doe" not in said


def test_the_list_says_how_much_is_labelled(labels, tmp_path):
    """For people and as JSON; labels of flagged studies alone are remarked upon."""
    (tmp_path / "labels.csv").write_text("accession_number,any\nSECRET1,1\n")
    labels("import", str(tmp_path / "labels.csv"))
    shown = labels("list").output
    assert "1 studies are labelled" in shown
    assert "what the model missed is unknown" in shown
    facts = json.loads(labels("list", "--json").stdout)
    assert (facts["flagged"], facts["unflagged"]) == ([1, 1], [0, 1])
