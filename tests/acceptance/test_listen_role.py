"""The role `listen` as a process of its own: heard, looked after, and stopped in order."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path

import hl7
import pytest

from ichnode.hl7v2.framing import Deframer, framed
from ichnode.settings import load_settings
from tests.node import Node, wait_for
from tests.worklist_kit import slices

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

ORDER = (
    "MSH|^~\\&|RIS|HOSP|ICHNODE||20260304||ORM^O01|M1|P|2.3.1\r"
    "PID|1||4711^^^HOSP^MR||PATIENT^TEST\r"
    "ORC|NW||A1||||^^^^^S\r"
    "OBR|1||A1\r"
)
REPORT = (
    "MSH|^~\\&|RIS|HOSP|ICHNODE||20260304||ORU^R01|M2|P|2.5.1\r"
    "PID|1||4711^^^HOSP^MR\r"
    "OBR|1||A1||||||||||||||||||||||F\r"
    "OBX|1|TX|GDT||No haemorrhage.||||||F\r"
)


def tell(connection: socket.socket, message: str) -> str:
    """Send a message and return the code of its acknowledgement."""
    connection.sendall(framed(message.encode()))
    deframer = Deframer(1 << 16)
    while True:
        if answers := deframer.feed(connection.recv(4096)):
            return str(hl7.parse(answers[0].decode()).segment("MSA")[1])


def doctor(node: Node) -> dict[str, object]:
    """Return what `ichnode doctor` says of the listener."""
    answers = json.loads(node.call("doctor", "--json", check=False).stdout)
    (answer,) = (one for one in answers if one["name"] == "hl7_listen")
    return answer


def test_the_role_hears_and_stops_in_order(tmp_path: Path) -> None:
    """An order moves a study, a report can be written out, SIGTERM ends it with 0."""
    node = Node(tmp_path)
    heard = "[hl7_listen]\nenabled = true\nport = 0\nkeep_reports = true\n"
    node.config.write_text(node.config.read_text() + heard)
    assert load_settings(node.config).hl7_listen.enabled
    try:
        node.worklist.record(slices(2))
        assert doctor(node)["sentence"] == "It is switched on; the node does not run."
        node.worklist.beat("infer", "host", 1, {})
        assert not doctor(node)["ok"]
        process = node.start("listen")
        port = node.ready("listen")["listen"]["port"]
        assert doctor(node)["sentence"] == f"HL7 messages are taken at port {port}, no TLS."
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            assert tell(connection, ORDER) == "AA"
            (row,) = node.worklist.views.reading_list(10)
            assert row.ordered_priority == "STAT"
            assert tell(connection, REPORT) == "AA"
            process.send_signal(signal.SIGTERM)
            assert wait_for(lambda: process.poll() is not None, 60, "the end")
        assert process.returncode == 0
        node.call("labels", "reports", str(tmp_path / "reports.csv"))
        assert "A1,No haemorrhage." in (tmp_path / "reports.csv").read_text()
        assert "PATIENT" not in node.log()
        assert "4711" not in node.log()
    finally:
        node.stop()


def test_a_role_that_is_switched_off_says_so(tmp_path: Path) -> None:
    """Exit code 78, which systemd does not answer with another try."""
    node = Node(tmp_path)
    try:
        done = node.call("run", "listen", check=False)
        assert done.returncode == 78
        assert "hl7_listen.enabled is false" in done.stdout + done.stderr
        assert json.loads(node.call("outputs", "list", "--json").stdout) == []
    finally:
        node.stop()
