"""The role that listens: only where it is switched on, and with its units and settings in order."""

from __future__ import annotations

import csv
import stat
from pathlib import Path

import pytest
from pydantic import ValidationError

from ichnode.domain.errors import ConfigurationError
from ichnode.listen.server import Listener
from ichnode.service.assembly import policy_of
from ichnode.service.report_files import write_texts
from ichnode.service.roles import roles_of
from ichnode.service.supervisor import ROLES
from ichnode.settings import Hl7Destination, Hl7ListenSettings, Settings
from ichnode.worklist.orders import ReportText
from tests.hl7_kit import destination


def test_the_role_runs_only_where_it_is_switched_on() -> None:
    """It is first in the corridor, and so the first to stop."""
    assert roles_of(Settings()) == ROLES
    on = Settings(hl7_listen=Hl7ListenSettings(enabled=True))
    assert roles_of(on) == ("listen", *ROLES)


def test_the_worklist_goes_by_what_is_set() -> None:
    """Whose Patient IDs, and whether texts are kept."""
    heard = Hl7ListenSettings(assigning_authority="HOSP", keep_reports=True)
    policy = policy_of(Settings(hl7_listen=heard))
    assert (policy.assigning_authority, policy.keep_reports) == ("HOSP", True)
    assert not policy_of(Settings()).keep_reports


@pytest.mark.parametrize(
    "wrong",
    [
        {"networks": ("10.0.0.0/33",)},
        {"tls_key": "key.pem"},
        {"max_message_bytes": 10},
        {"unknown": "AE"},
    ],
)
def test_wrong_settings_of_the_listener_are_refused(wrong: dict[str, object]) -> None:
    """Each is named before anything listens."""
    with pytest.raises(ValidationError):
        Hl7ListenSettings(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        {"order": "OMI", "version": "2.3.1"},
        {"tls_ca": "ca.pem"},
        {"charset": "UTF-8"},
        {"port": 0},
    ],
)
def test_wrong_settings_of_a_destination_are_refused(wrong: dict[str, object]) -> None:
    """Each is named before anything is sent."""
    with pytest.raises(ValidationError):
        destination(**wrong)  # type: ignore[arg-type]


def test_a_destination_takes_what_is_switched_on() -> None:
    """Results unasked, orders only where the site wants them."""
    assert destination().takes == {"hl7"}
    assert destination(result=False, order="ORM").takes == {"hl7_order"}
    assert destination().is_loopback
    assert not Hl7Destination(name="ris", host="ris.example.org").is_loopback
    assert destination(tls=True).address == "mllps://127.0.0.1:2575"


def test_a_door_that_cannot_open_says_why(tmp_path: Path) -> None:
    """An address of somebody else, and a certificate that is none."""
    with pytest.raises(ConfigurationError, match="cannot be listened on"):
        Listener(Hl7ListenSettings(bind="192.0.2.1"), lambda message, peer: b"")
    nothing = str(tmp_path / "none.pem")
    with pytest.raises(ConfigurationError, match="for TLS"):
        Listener(Hl7ListenSettings(tls_certificate=nothing), lambda message, peer: b"")


def test_reports_are_written_for_their_owner_alone(tmp_path: Path) -> None:
    """A CSV that the training reads; one that is there is not overwritten."""
    file = tmp_path / "reports.csv"
    assert write_texts(file, [ReportText("A1", 'Two "lines",\nof text')]) == 1
    with file.open(encoding="utf-8", newline="") as opened:
        assert list(csv.reader(opened)) == [
            ["accession_number", "text"],
            ["A1", 'Two "lines",\nof text'],
        ]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with pytest.raises(ConfigurationError, match="cannot be written"):
        write_texts(file, [])
