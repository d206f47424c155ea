"""``ichnode commission`` says what it will release before it asks, and what it released after."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from ichnode.cli import app
from ichnode.domain.findings import Finding
from ichnode.nets.registry import Registry
from ichnode.service.assembly import open_worklist
from ichnode.settings import load_settings
from ichnode.worklist import schema
from ichnode.worklist.engine import connect
from tests.models import write_model
from tests.worklist_kit import analysed, look, slices


@pytest.fixture
def config(tmp_path):
    """A node with a destination outside this machine, and results that were withheld from it."""
    path = tmp_path / "ichnode.toml"
    path.write_text(
        f'[node]\nspool = "{tmp_path}/spool"\ndatabase = "sqlite:///{tmp_path}/worklist.db"\n'
        f'[infer]\nmodels = "{tmp_path}/models"\n'
        '[[destinations]]\nname = "far"\nae_title = "FAR"\nhost = "192.0.2.1"\nport = 104\n'
        "sc = false\nups = true\n"
    )
    settings = load_settings(path)
    registry = Registry(settings.infer.models)
    write_model(tmp_path / "bundle", logit=6.0)
    model_uid = registry.install(tmp_path / "bundle")
    registry.promote(model_uid)
    schema.upgrade(connect(settings.node.database.get_secret_value()))
    worklist = open_worklist(settings)
    for calling_ae in ("CT1", "CT1", "CT2"):
        worklist.record(slices(1, expected_count=1, calling_ae=calling_ae))
        look(worklist, analysed(Finding.POSITIVE, model_uid=model_uid))
    worklist.close()
    return path


def commission(config, *arguments, stdin=""):
    """Run the command and return what it said."""
    command = ["--config", str(config), "commission", "--by", "A. Physicist", *arguments]
    return CliRunner().invoke(app, command, input=stdin).stdout


def test_what_waits_is_shown_before_and_what_went_after(config):
    """Six are withheld; for one scanner four of them go, the other two after that."""
    shown = commission(config, "--dry-run")
    assert "opened: far (DICOM, FAR@192.0.2.1:104) for sr, ups" in shown
    assert "Withheld in the last 24 h: 6 deliveries" in shown
    refused = commission(config, stdin="n\n")
    assert "Withheld in the last 24 h: 6 deliveries" in refused
    assert "Released" not in refused
    assert "Released: 4 deliveries." in commission(config, "--scanner", "CT1", "--yes")
    rest = commission(config, "--yes")
    assert "Withheld in the last 24 h: 2 deliveries" in rest
    assert "Released: 2 deliveries." in rest
