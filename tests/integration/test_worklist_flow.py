"""From arrivals to acknowledged reports, on both engines."""

from __future__ import annotations

from ichnode.domain.findings import Finding
from ichnode.domain.lifecycle import Analysis, Band, Delivery
from ichnode.domain.work import Phase
from ichnode.worklist.worklist import Worklist
from tests.worklist_kit import HandClock, analysed, build, look, send, sent_kinds, slices


def test_a_bleed_is_delivered_before_the_series_is_complete(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """A positive goes out of the slices in hand: report, key image and priority."""
    brought = slices(32)
    worklist.record(brought)
    assert worklist.analyses.claim("infer") is None, "the association still carries it"
    worklist.association_released("a1")
    work = look(worklist, analysed(Finding.POSITIVE))
    assert work.phase is Phase.PLAUSIBLE
    assert [ref.header for ref in work.instances] == [one.header for one in brought]
    built = build(worklist)
    assert [one.kind for one in built] == ["sr", "sc"]
    hand_clock.forward(1.5)
    assert sent_kinds(send(worklist)) == ["sc", "sr", "ups"]
    (row,) = worklist.views.reading_list()
    assert row.band is Band.URGENT
    assert row.model == "tiny 1"
    assert {one.state for one in row.deliveries} == {Delivery.DELIVERED}
    # The slices were at the door a minute before they were recorded.
    assert [one.seconds for one in worklist.views.latencies()] == [61.5, 61.5, 61.5]


def test_a_negative_is_stated_of_a_complete_series_only(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """Until the final quiet time nothing found means nothing said."""
    worklist.record(slices(32))
    worklist.association_released("a1")
    look(worklist, analysed(Finding.NEGATIVE))
    (row,) = worklist.views.reading_list()
    assert (row.band, row.sentence) == (Band.NOT_ANALYSED, "An analysis is pending.")
    assert worklist.analyses.claim("infer") is None
    hand_clock.forward(20)
    work = look(worklist, analysed(Finding.NEGATIVE))
    assert work.phase is Phase.FINAL
    assert work.earlier == analysed(Finding.NEGATIVE).result
    (row,) = worklist.views.reading_list()
    assert row.band is Band.ROUTINE
    assert row.series[0].analysis is Analysis.NEGATIVE
    assert build(worklist) == []
