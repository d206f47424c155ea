"""``ichnode seen`` and ``lower`` on the command line, and the rules in the configuration."""

from __future__ import annotations

import pytest
from click.testing import Result
from typer.testing import CliRunner

from ichnode.cli import app
from ichnode.domain.errors import ConfigurationError
from ichnode.domain.findings import Finding
from ichnode.domain.lifecycle import Delivery
from ichnode.service.assembly import open_worklist
from ichnode.settings import load_settings
from ichnode.worklist import schema
from ichnode.worklist.engine import connect
from tests.worklist_kit import analysed, look, slices


@pytest.fixture
def config(tmp_path):
    """A node with a peer on this machine that is told, and weights."""
    path = tmp_path / "ichnode.toml"
    path.write_text(
        f'[node]\nspool = "{tmp_path}/spool"\ndatabase = "sqlite:///{tmp_path}/worklist.db"\n'
        '[rules]\nae_title_weights = {"CT_ED" = 1}\n'
        '[[destinations]]\nname = "near"\nae_title = "NEAR"\nhost = "127.0.0.1"\nport = 104\n'
        "sr = false\nsc = false\nups = true\n"
    )
    schema.upgrade(connect(load_settings(path).node.database.get_secret_value()))
    return path


def ichnode(config, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["--config", str(config), *arguments])


def arrive(config, calling_ae: str = "CT1", finding: Finding = Finding.POSITIVE) -> str:
    """An analysed study; returns its UID."""
    worklist = open_worklist(load_settings(config))
    (brought,) = slices(1, expected_count=1, calling_ae=calling_ae)
    worklist.record([brought])
    look(worklist, analysed(finding))
    worklist.close()
    return brought.header.study_uid


def states(config, study_uid: str) -> list[Delivery]:
    worklist = open_worklist(load_settings(config))
    story = worklist.views.study(study_uid)
    worklist.close()
    assert story is not None
    return [one.state for one in story.deliveries]


def test_a_person_says_that_a_study_is_reported(config):
    """By its UID or its accession number; what was not told is not told."""
    study, other = arrive(config), arrive(config)
    done = ichnode(config, "seen", study, "--how", "reported", "--by", "Dr B")
    assert (done.exit_code, done.stdout) == (0, "Noted of 1 study.\n")
    assert states(config, study) == [Delivery.SUPPRESSED]
    assert states(config, other) == [Delivery.DUE]
    done = ichnode(config, "seen", "--accession", "A1", "--how", "opened", "--by", "Dr B")
    assert (done.exit_code, done.stdout) == (0, "Noted of 2 studies.\n")
    assert states(config, other) == [Delivery.SUPPRESSED]


def test_what_nobody_can_have_seen_is_told_in_a_sentence(config):
    """No such study, neither name, both names."""
    done = ichnode(config, "seen", "1.2.3", "--how", "opened", "--by", "Dr B")
    assert (done.exit_code, done.stderr) == (1, "No such study, or it is not clear whose it is.\n")
    for names in ([], ["1.2.3", "--accession", "A1"]):
        done = ichnode(config, "seen", *names, "--how", "opened", "--by", "Dr B")
        assert isinstance(done.exception, ConfigurationError)


def test_a_lowered_study_is_told_to_nobody(config):
    """The command does what the worklist does."""
    study = arrive(config)
    assert ichnode(config, "lower", study, "--by", "Dr B", "--reason", "artefact").exit_code == 0
    assert states(config, study) == [Delivery.SUPPRESSED]


def test_the_weights_of_the_configuration_order_the_list(config):
    """The scanner of the emergency department first, where nothing was found."""
    late = arrive(config, "CT1", Finding.NEGATIVE), arrive(config, "CT_ED", Finding.NEGATIVE)
    worklist = open_worklist(load_settings(config))
    assert [row.study_uid for row in worklist.views.reading_list()] == [*reversed(late)]
    worklist.close()


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('priority_weights = {"URGENT" = 1}', "none of STAT, HIGH"),
        ('ae_title_weights = {"CT_ED" = 9}', "4"),
        ('ae_title_weights = {"a title that is too long" = 1}', "16"),
        ('station_weights = {"ROOM" = "first"}', "station_weights"),
    ],
)
def test_a_wrong_rule_is_told_in_a_sentence(tmp_path, line, sentence):
    """Before anything starts."""
    path = tmp_path / "ichnode.toml"
    path.write_text(f"[rules]\n{line}\n")
    with pytest.raises(ConfigurationError, match=sentence):
        load_settings(path)
