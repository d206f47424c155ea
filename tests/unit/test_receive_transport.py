"""The parts of pynetdicom's inner workings that the receiver leans on are still as they were.

When one of these fails after an upgrade, read ichnode/receive/transport.py beside the new version.
"""

from __future__ import annotations

import inspect
import socket
from io import BytesIO

import pytest
from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RSP, DIMSEMessage
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dul import _PDU_TYPES, DULServiceProvider
from pynetdicom.fsm import ACTIONS, TRANSITION_TABLE
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.transport import AssociationSocket

from ichnode.receive.commands import StoreRequest, read_store_request, store_response
from ichnode.receive.provider import Fragments


def test_the_reactor_is_made_of_the_steps_that_we_drive() -> None:
    """One loop: our primitives, then PDUs, then the state machine."""
    source = inspect.getsource(DULServiceProvider.run_reactor)
    for step in ("_process_recv_primitive", "event_queue.get", "state_machine.do_action"):
        assert step in source
    assert "event_queue.put" in inspect.getsource(DULServiceProvider._process_recv_primitive)
    assert "to_provider_queue.put" in inspect.getsource(DULServiceProvider.send_pdu)


def test_received_data_goes_to_dimse_by_way_of_one_queue() -> None:
    """DT-2 takes a PDU and hands its primitive to receive_primitive: that is where we step in."""
    assert TRANSITION_TABLE["Evt10", "Sta6"] == "DT-2"
    source = inspect.getsource(ACTIONS["DT-2"][1])
    assert "_recv_pdu.get" in source
    assert "receive_primitive(" in source
    assert "to_primitive()" in source
    assert _PDU_TYPES[b"\x04"] == (P_DATA_TF, "Evt10")


@pytest.mark.parametrize(
    ("event", "state", "action"),
    [
        ("Evt5", "Sta1", "AE-5"),  # a connection
        ("Evt6", "Sta2", "AE-6"),  # an A-ASSOCIATE-RQ
        ("Evt12", "Sta6", "AR-2"),  # an A-RELEASE-RQ
        ("Evt17", "Sta6", "AA-4"),  # the peer closed
        ("Evt19", "Sta6", "AA-8"),  # garbage
        ("Evt10", "Sta2", "AA-1"),  # data without an association
    ],
)
def test_the_state_machine_answers_as_the_standard_says(
    event: str, state: str, action: str
) -> None:
    """The transitions that the receiver relies on (PS3.8 table 9-10)."""
    assert TRANSITION_TABLE[event, state] == action


def test_an_association_has_the_parts_that_we_replace() -> None:
    """Provider, DIMSE, handlers and reactor are attributes and methods of these names."""
    association = Association(ApplicationEntity("TEST"), "acceptor")
    assert isinstance(association.dul, DULServiceProvider)
    assert isinstance(association.dimse, DIMSEServiceProvider)
    assert association._accepted_cx == {}
    for name in ("run_reactor", "_bind_defaults", "_serve_request", "set_socket"):
        assert callable(getattr(Association, name))
    assert "self.run_reactor" in inspect.getsource(Association.__init__)
    assert evt._INTERVENTION_EVENTS


def test_a_wrapped_socket_reports_its_connection_at_once() -> None:
    """AssociationSocket puts Evt5 into the queue when it is given a connected socket."""
    ours, theirs = socket.socketpair()
    association = Association(ApplicationEntity("TEST"), "acceptor")
    AssociationSocket(association, client_socket=ours)
    assert association.dul.event_queue.get_nowait() == "Evt5"
    ours.close()
    theirs.close()


def test_fragments_are_those_that_pynetdicom_reads() -> None:
    """Our reading of a P-DATA-TF PDU equals its own."""
    values = [(1, b"\x03command"), (3, b"\x00" + bytes(500)), (3, b"\x02")]
    primitive = P_DATA()
    primitive.presentation_data_value_list.extend(values)
    encoded = P_DATA_TF(primitive).encode()
    assert [(c, bytes(v)) for c, v in Fragments(memoryview(encoded)[6:])] == values


@pytest.mark.parametrize(
    "body", [b"\0", b"\0\0\0\1\1\0", b"\0\0\0\x09\1\0", b"\xff\xff\xff\xff\1\0"]
)
def test_fragments_that_do_not_add_up_are_an_error(body: bytes) -> None:
    """Too short, without content, and longer than they are."""
    with pytest.raises(ValueError, match="presentation data value"):
        list(Fragments(memoryview(body)))


def request(**fields: object) -> bytes:
    """Return the command set of a C-STORE request as pynetdicom encodes it."""
    primitive = C_STORE()
    primitive.MessageID, primitive.Priority = 513, 2
    primitive.AffectedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    primitive.AffectedSOPInstanceUID = "1.2.3.4"
    primitive.DataSet = BytesIO(b"data")
    for name, value in fields.items():
        setattr(primitive, name, value)
    from pynetdicom.dimse_messages import C_STORE_RQ

    message = C_STORE_RQ()
    message.primitive_to_message(primitive)
    first = next(iter(message.encode_msg(1, 16382)))
    return bytes(first.presentation_data_value_list[0][1][1:])


def test_a_store_request_is_read_as_pynetdicom_writes_it() -> None:
    """Optional fields do not confuse it."""
    command = request(MoveOriginatorApplicationEntityTitle="MOVER", MoveOriginatorMessageID=9)
    read = read_store_request(command)
    assert isinstance(read, StoreRequest)
    assert (read.message_id, read.sop_uid, read.has_data_set) == (513, "1.2.3.4", True)
    assert read.sop_class_uid == "1.2.840.10008.5.1.4.1.1.2"


def test_what_is_no_plain_store_request_is_left_to_pynetdicom() -> None:
    """Cut off, another group, another command, nothing."""
    command = request()
    echo = command.replace(b"\0\0\0\1\2\0\0\0\1\0", b"\0\0\0\1\2\0\0\0\x30\0")
    for other in (command[:-3], b"\x08" + command[1:], echo, b"", b"\0" * 7):
        assert read_store_request(other) is None


@pytest.mark.parametrize("status", [0x0000, 0xA700, 0xC000])
@pytest.mark.parametrize("sop_uid", ["1.2.3.4", "1.2.3.45"])
def test_the_response_is_what_pynetdicom_would_send(status: int, sop_uid: str) -> None:
    """The same PDU, byte for byte."""
    response = C_STORE()
    response.MessageIDBeingRespondedTo = 513
    response.AffectedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    response.AffectedSOPInstanceUID = sop_uid
    response.Status = status
    message: DIMSEMessage = C_STORE_RSP()
    message.primitive_to_message(response)
    expected = b"".join(P_DATA_TF(p).encode() for p in message.encode_msg(5, 16382))
    asked = read_store_request(request(AffectedSOPInstanceUID=sop_uid))
    assert asked is not None
    assert store_response(asked, 5, status) == expected
