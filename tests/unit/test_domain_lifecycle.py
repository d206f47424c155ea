"""The six lives: every pair of state and event is either in its table or refused."""

from __future__ import annotations

import itertools

import pytest

from ichnode.domain import lifecycle as life

MACHINES = {
    "reception": (life.RECEPTION, life.Reception, life.ReceptionEvent),
    "analysis": (life.ANALYSIS, life.Analysis, life.AnalysisEvent),
    "document": (life.DOCUMENT, life.Document, life.DocumentEvent),
    "delivery": (life.DELIVERY, life.Delivery, life.DeliveryEvent),
    "verdict": (life.VERDICT, life.Band, life.VerdictEvent),
    "task": (life.TASK, life.Task, life.TaskEvent),
}
FORBIDDEN = {
    # A final series cannot look complete again without a new slice.
    "reception": {("FINAL", "LOOKS_COMPLETE")},
    "analysis": set(),
    # Built bytes are kept for ever; a failed document is built only after a person asks.
    "document": {
        ("BUILT", "BUILT"),
        ("BUILT", "GAVE_UP"),
        ("BUILT", "REQUEUED"),
        ("FAILED", "BUILT"),
        ("FAILED", "GAVE_UP"),
        ("DUE", "REQUEUED"),
    },
    "delivery": {
        *((state, "DOCUMENT_BUILT") for state in ("DUE", "DELIVERED", "WITHHELD", "FAILED")),
        *((state, "ACKNOWLEDGED") for state in ("WAITING", "DELIVERED", "FAILED")),
        *((state, "RECLASSED") for state in ("WAITING", "DELIVERED", "WITHHELD", "FAILED")),
        *((state, "GAVE_UP") for state in ("DELIVERED", "WITHHELD", "FAILED")),
        *((state, "REQUEUED") for state in ("WAITING", "DUE", "DELIVERED", "WITHHELD")),
        *((state, "RELEASED") for state in ("WAITING", "DUE", "DELIVERED", "FAILED")),
        *((state, "REVOKED") for state in ("DELIVERED", "WITHHELD", "FAILED")),
        ("DELIVERED", "SUPPRESSED"),
        # What a person has seen already is told to nobody any more, whoever asks.
        *(
            ("SUPPRESSED", event.name)
            for event in life.DeliveryEvent
            if event is not life.DeliveryEvent.ACKNOWLEDGED
        ),
    },
    "verdict": {("ROUTINE", "LOWERED"), ("NOT_ANALYSED", "LOWERED")},
    # Nobody completes what nobody took up, two do not take up one, and what is over stays so, but
    # for another task of the same study.
    "task": {
        ("SCHEDULED", "COMPLETED"),
        ("IN_PROGRESS", "TAKEN"),
        *(
            (state, event)
            for state in ("COMPLETED", "CANCELED")
            for event in ("TAKEN", "COMPLETED", "CANCELED")
        ),
        ("SCHEDULED", "MADE_ANEW"),
        ("IN_PROGRESS", "MADE_ANEW"),
    },
}
PAIRS = [
    (name, state, event)
    for name, (_, states, events) in MACHINES.items()
    for state, event in itertools.product(states, events)
]


@pytest.mark.parametrize(("name", "state", "event"), PAIRS)
def test_every_pair_is_allowed_or_refused_as_listed(name, state, event):
    """A pair moves to a state of its own machine unless it is listed here as forbidden."""
    table, states, _ = MACHINES[name]
    if (state.name, event.name) in FORBIDDEN[name]:
        with pytest.raises(life.ForbiddenTransition, match=event.name):
            life.advance(table, state, event)
    else:
        assert life.advance(table, state, event) in states


def test_delivered_is_the_end():
    """Nothing takes a delivered row anywhere else."""
    assert not [pair for pair in life.DELIVERY if pair[0] is life.Delivery.DELIVERED]


@pytest.mark.parametrize("event", [e for e in life.VerdictEvent if e is not e.LOWERED])
@pytest.mark.parametrize("band", list(life.Band))
def test_the_node_never_lowers_a_study_by_itself(band, event):
    """Whatever is judged, the rank on the list does not fall."""
    assert life.advance(life.VERDICT, band, event).rank <= band.rank


def test_a_late_slice_does_not_take_an_alert_back():
    """A positive stays positive when one more slice comes; everything else is open again."""
    late = life.AnalysisEvent.SLICE_ARRIVED
    after = {state: life.advance(life.ANALYSIS, state, late) for state in life.Analysis}
    assert after.pop(life.Analysis.POSITIVE) is life.Analysis.POSITIVE
    assert set(after.values()) == {life.Analysis.PENDING}
