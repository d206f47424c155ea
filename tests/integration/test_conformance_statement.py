"""docs/conformance.md is as its script would write it, and as a running receiver answers."""

from __future__ import annotations

import contextlib
import importlib.util
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from pydicom import Dataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context

from ichnode.domain.errors import PeerFailure
from ichnode.domain.work import StoredDocument
from ichnode.imaging.commitment import PUSH_MODEL, PUSH_MODEL_INSTANCE
from ichnode.query.answers import Answers
from ichnode.query.book import Book
from ichnode.receive.admission import PLAIN
from ichnode.receive.scp import Receiver
from ichnode.send.archive import fetch, inquire
from ichnode.send.association import Peer
from ichnode.send.commitment import ask_commitment
from ichnode.send.scu import StoreMechanism
from ichnode.send.sender import echo
from ichnode.send.ups import UpsMechanism
from ichnode.service.querying import _associate
from ichnode.settings import NodeSettings, ReceiveSettings, SubscriberSettings
from tests.documents import delivery_work, priority_work, study_ref
from tests.query_kit import query_settings
from tests.scanner import LIMIT_S, Notebook, scanner

SCRIPT = Path(__file__).parents[2] / "docs" / "write_conformance.py"
PAGE = SCRIPT.with_name("conformance.md").read_text(encoding="utf-8")
AT_ONCE = 100  # presentation contexts; 128 are the most that there can be


def table(name: str) -> list[list[str]]:
    """The rows of a table of the page, cell by cell."""
    (block,) = re.findall(rf"^<!-- {name} -->$(.*?)^<!-- end -->$", PAGE, re.M | re.DOTALL)
    rows = [line.strip("| ").split(" | ") for line in block.strip().splitlines()]
    assert len(rows) > 2, name
    return rows[2:]


def uids(name: str) -> list[str]:
    """The UIDs in the second column of a table; links to other tables are left out."""
    return [row[1] for row in table(name) if re.fullmatch(r"[\d.]+", row[1])]


STORED, REFUSED = uids("stored_classes"), uids("refused_classes")
OPTIONAL = [row[1] for row in table("accepted_contexts") if row[3] != "always"]
OFFERED = {row[1] for row in table("overview") if row[3] != "no"}


def negotiated(port: int, contexts: Sequence[tuple[str, str]], calling: str) -> list[str]:
    """Propose each pair as a context of its own; return what each is accepted with, or nothing."""
    answers: list[str] = []
    for start in range(0, len(contexts), AT_ONCE):
        part = [build_context(one, [syntax]) for one, syntax in contexts[start : start + AT_ONCE]]
        entity = AE(calling)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = LIMIT_S
        association = entity.associate("127.0.0.1", port, contexts=part, ae_title="ICHNODE")
        assert not association.is_rejected
        taken = {one.context_id: one.transfer_syntax[0] for one in association.accepted_contexts}
        answers += [str(taken.get(2 * number + 1, "")) for number in range(len(part))]
        if association.is_established:
            association.release()
    return answers


def taken(port: int, classes: Sequence[str], calling: str = "READER") -> set[str]:
    """Propose classes in Explicit VR Little Endian; return those that are accepted."""
    pairs = [(one, str(ExplicitVRLittleEndian)) for one in classes]
    answers = negotiated(port, pairs, calling)
    assert set(answers) <= {"", ExplicitVRLittleEndian}
    return {one for one, answer in zip(classes, answers, strict=True) if answer}


def receiving(spool: Path, **options: Any) -> Iterator[Receiver]:
    """Run a receiver."""
    receiver = Receiver(
        NodeSettings(host_id="stated", spool=spool),
        ReceiveSettings(port=0, reserve_bytes=0, drain_s=5),
        Notebook(),
        segment_bytes=1 << 20,
        **options,
    )
    receiver.start()
    yield receiver
    receiver.stop()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A receiver as it ships."""
    for receiver in receiving(tmp_path_factory.mktemp("plain")):
        yield receiver.port


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A receiver with every option switched on; nobody gets as far as the worklist."""
    services = Answers(cast(Book, None), query_settings())
    spool = tmp_path_factory.mktemp("full")
    for receiver in receiving(spool, services=services, committed=lambda _report: False):
        yield receiver.port


def test_the_page_is_what_its_script_would_write() -> None:
    """Every table in it comes from the code of today."""
    spec = importlib.util.spec_from_file_location("write_conformance", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.render() == PAGE, f"run python docs/{SCRIPT.name}"


def test_every_class_is_answered_as_the_page_says_with_every_option(full: int) -> None:
    """Stored, asked for, reported: accepted; Modality Worklist, C-MOVE and the like: refused."""
    named = {one for one in OFFERED if re.fullmatch(r"[\d.]+", one)} - set(REFUSED)
    assert named >= set(OPTIONAL)
    wanted = sorted({*STORED, *named})
    assert taken(full, wanted) == set(wanted)
    assert taken(full, REFUSED) == set()
    assert "1.2.840.10008.5.1.4.31" in REFUSED  # Modality Worklist


def test_every_class_is_answered_as_the_page_says_as_it_ships(plain: int) -> None:
    """What needs an option is refused, what is stored is stored."""
    assert taken(plain, STORED) == set(STORED)
    assert taken(plain, [*OPTIONAL, *REFUSED]) == set()


def test_who_may_not_ask_is_offered_storage_only(full: int) -> None:
    """The classes of the list are for those who are named; the rest is served as ever."""
    classes = [*OPTIONAL, str(CTImageStorage)]
    assert taken(full, classes, "STRANGER") == {PUSH_MODEL, CTImageStorage}


def test_every_transfer_syntax_is_kept_or_refused_as_the_page_says(full: int) -> None:
    """Proposed alone, each is the one accepted, or none is; questions are asked in plain ones."""
    rows = table("syntaxes")
    pairs = [(str(CTImageStorage), uid) for _, uid, _, _ in rows]
    kept = [uid if kept == "yes" else "" for _, uid, kept, _ in rows]
    assert negotiated(full, pairs, "CT01") == kept
    for asked in set(OPTIONAL) - {PUSH_MODEL}:
        pairs = [(asked, uid) for _, uid, _, _ in rows]
        assert set(negotiated(full, pairs, "READER")) == {*PLAIN, ""}


def test_nobody_is_promised_storage(full: int) -> None:
    """A device that asks us to answer for its images is told that we do not."""
    asked, item = Dataset(), Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CTImageStorage, "1.2.3"
    asked.TransactionUID, asked.ReferencedSOPSequence = "1.2.4", [item]
    with scanner(full, contexts=[(PUSH_MODEL, [ExplicitVRLittleEndian])]) as association:
        answer, _ = association.send_n_action(asked, 1, PUSH_MODEL, PUSH_MODEL_INSTANCE)
    assert answer.Status == 0x0110


def proposed_to(propose: Callable[[Peer], object]) -> set[tuple[str, str]]:
    """Let the node associate with a peer that takes nothing; return what it proposed."""
    heard: set[tuple[str, str]] = set()

    def hear(event: Any) -> None:
        for context in event.assoc.requestor.requested_contexts:
            heard.update((str(context.abstract_syntax), str(s)) for s in context.transfer_syntax)

    entity = AE("PEER")
    entity.add_supported_context("1.2.3")
    server = entity.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_REQUESTED, hear)]
    )
    try:
        with contextlib.suppress(PeerFailure):
            propose(Peer("127.0.0.1", int(server.server_address[1]), "PEER", "ICHNODE", LIMIT_S))
    finally:
        server.shutdown()
    return heard


def test_what_the_node_proposes_is_what_the_page_says(tmp_path: Path) -> None:
    """Every way to associate with a peer, and no class that is not in the table."""
    rows = table("proposed_contexts")
    names = {str(UID(one).name): str(one) for one in PLAIN}
    expected = {(row[2], names[name]) for row in rows for name in row[3].split(", ")}
    classes = [row[2] for row in rows if row[4].startswith("C-STORE")]
    documents = delivery_work(
        [StoredDocument(one, "1.2", ExplicitVRLittleEndian, "none") for one in classes]
    ).items
    alerts = priority_work(study_ref()).items
    subscriber = {"name": "one", "ae_title": "PEER", "host": "127.0.0.1"}

    def subscribed(peer: Peer) -> None:
        with _associate(SubscriberSettings(**subscriber, port=peer.port), "ICHNODE"):
            pass

    def asked(peer: Peer) -> None:
        with inquire(peer):
            pass

    ways: list[Callable[[Peer], object]] = [
        lambda peer: echo(peer.host, peer.port, called_ae="PEER", calling_ae="ICHNODE"),
        lambda peer: list(StoreMechanism(peer, tmp_path).deliver(documents)),
        lambda peer: list(UpsMechanism(peer, create_if_missing=True).deliver(alerts)),
        subscribed,
        asked,
        lambda peer: fetch(peer, "1.2", "ICHNODE"),
        lambda peer: ask_commitment(peer, "1.2", [], lambda _report: False),
    ]
    assert set().union(*map(proposed_to, ways)) == expected
