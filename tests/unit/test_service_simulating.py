"""The simulator agrees with queueing theory, with the FDA's QuCAD, and with what it is told."""

from __future__ import annotations

import json
from dataclasses import replace
from math import inf
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from ichnode.cli import app
from ichnode.domain.errors import ConfigurationError
from ichnode.domain.lifecycle import Band
from ichnode.service.arrivals import read_arrivals
from ichnode.service.simulating import Assumptions, Interval, simulate
from ichnode.service.waiting_picture import draw

SITE = Assumptions(waiting_cap_min=inf, days=60, replications=8, seed=2)


def holds(interval: Interval, true: float) -> bool:
    """Say whether the interval holds a value, and is narrow enough to say something by that."""
    return interval.low <= true <= interval.high and interval.high - interval.low < true


# ------------------------------------------------------------------ theory


def test_one_reader_in_the_order_of_arrival_is_the_textbook_queue():
    """M/M/1: the mean wait is load / (1 - load) reading times."""
    waits = simulate(SITE.at_load(0.7)).figures["arrival"]
    for group in ("positive", "negative", "flagged", "not_flagged"):
        assert holds(waits[group]["mean"], 0.7 / 0.3 * 10), group


def test_equal_reading_times_halve_the_wait():
    """M/D/1 (Pollaczek and Khinchine)."""
    waits = simulate(replace(SITE, spread="fixed").at_load(0.7)).figures["arrival"]
    assert holds(waits["negative"]["mean"], 0.7 / 0.3 * 10 / 2)


def test_several_readers_wait_as_erlang_says():
    """M/M/2: the chance that both are busy, by the rate at which they get free beyond arrivals."""
    waits = simulate(replace(SITE, readers=2).at_load(0.8)).figures["arrival"]
    offered = 1.6
    both_busy = offered**2 / 2 / (1 - 0.8)
    chance = both_busy / (1 + offered + both_busy)
    assert holds(waits["negative"]["mean"], chance * 10 / 2 / (1 - 0.8))


def test_two_classes_wait_as_cobham_says():
    """One reader, nobody interrupted, positives that take longer: the means of both classes."""
    site = replace(SITE, positive_min=20, negative_min=8, sensitivity=0.8, days=120).at_load(0.75)
    rate = site.per_day / (24 * 60)
    shares = {  # of all studies, with the mean reading time: flagged or not, positive or not
        (True, 20.0): 0.1 * 0.8,
        (True, 8.0): 0.9 * 0.1,
        (False, 20.0): 0.1 * 0.2,
        (False, 8.0): 0.9 * 0.9,
    }
    left_min = rate * sum(share * minutes**2 for (_, minutes), share in shares.items())
    flagged = rate * sum(share * minutes for (front, minutes), share in shares.items() if front)
    first = left_min / (1 - flagged)
    second = first / (1 - site.load)
    waits = simulate(site).figures["ichnode"]
    assert holds(waits["flagged"]["mean"], first)
    assert holds(waits["not_flagged"]["mean"], second)
    assert holds(waits["missed"]["mean"], second)
    assert holds(waits["positive"]["mean"], 0.8 * first + 0.2 * second)


# ------------------------------------------------------------------ a published result

QUCAD = replace(
    SITE,
    replications=20,
    readers=2,
    interrupting=0.1,
    interrupting_min=5,
    preemptive=True,
    days=30,
    seed=1,
).at_load(0.8)
PUBLISHED = {  # group: mean wait without and with the device, and the time saved, in minutes
    "positive": (18.29, 2.57, 15.72),
    "negative": (18.29, 19.98, -1.70),
    "flagged": (18.29, 0.39, 17.90),
    "not_flagged": (18.29, 22.16, -3.87),
}


def test_the_worked_example_of_qucad_comes_out():
    """QuCAD User Manual (FDA, 2023), listing 9: load 0.8, two radiologists, 10 % interrupting.

    Prevalence 0.1, sensitivity 0.9, false-positive fraction 0.1, 10 minutes a study and 5 an
    interrupting one, preemptive resume. QuCAD calls "diseased" what is positive here, and
    "positive" what is flagged.
    """
    waits = simulate(QUCAD)
    for group, (without, with_device, saved) in PUBLISHED.items():
        for interval, published in (
            (waits.figures["arrival"][group]["mean"], without),
            (waits.figures["ichnode"][group]["mean"], with_device),
            (waits.saved[group], saved),
        ):
            assert interval.low <= published <= interval.high, (group, published)
    assert waits.saved["positive"].low > 10, "an interval that says nothing holds everything"


# ------------------------------------------------------------------ what it is told


def test_the_same_seed_draws_the_same_days():
    """And another one others."""
    short = replace(SITE, days=2, replications=2)
    assert simulate(short).summary() == simulate(short).summary()
    assert simulate(short).summary() != simulate(replace(short, seed=3)).summary()


def test_the_cap_bounds_what_a_missed_bleed_waits():
    """Behind days full of STAT orders its longest wait is shorter; what was found stays first."""
    crowded = replace(SITE, days=20, replications=4, stat=0.8, spread="fixed").at_load(0.95)
    capped, free = simulate(replace(crowded, waiting_cap_min=60)), simulate(crowded)
    longest = [one.figures["ichnode"]["missed"]["longest"].mean for one in (capped, free)]
    assert longest[0] < 0.8 * longest[1]
    assert capped.figures["arrival"] == free.figures["arrival"]
    found = [one.figures["ichnode"]["flagged"]["mean"].mean for one in (capped, free)]
    assert found[0] == pytest.approx(found[1]), "the cap reaches no further than its group"
    ordered = capped.figures["ordered"]["positive"]["mean"].mean
    assert capped.figures["ichnode"]["positive"]["mean"].mean < 0.5 * ordered


def test_a_file_of_arrivals_is_replayed_as_it_is(tmp_path: Path):
    """What it says is taken, and the ordered priorities get a list of their own."""
    file = tmp_path / "day.csv"
    file.write_text(
        "arrived,positive,band,priority,minutes\n"
        "2026-03-01T08:00,0,routine,,30\n"
        "2026-03-01T08:05,0,not_analysed,stat,10\n"
        "2026-03-01T08:10,yes,urgent,low,10\n"
        "2026-03-01T08:15,1,routine,,10\n"
    )
    arrivals = read_arrivals(file)
    assert [one.arrives_min for one in arrivals] == [0, 5, 10, 15]
    assert [one.band for one in arrivals][1:3] == [Band.NOT_ANALYSED, Band.URGENT]
    waits = simulate(replace(SITE, replications=2), arrivals)
    assert {name: list(of["positive"]) for name, of in waits.pooled.items()} == {
        "arrival": [30, 30, 35, 35],
        "ordered": [25, 25, 40, 40],
        "ichnode": [20, 20, 35, 35],
    }
    assert (waits.saved["positive"].mean, waits.saved["missed"].mean) == (5, 0)


def test_arrivals_alone_are_enough(tmp_path: Path):
    """What a file leaves open is drawn, anew each time."""
    file = tmp_path / "day.csv"
    file.write_text("arrived\n" + "\n".join(str(minute) for minute in range(0, 1440, 9)))
    waits = simulate(replace(SITE, replications=3), read_arrivals(file))
    assert waits.cases == 160
    assert len(set(waits.pooled["arrival"]["negative"])) > 100
    assert "ordered" not in waits.figures
    assert waits.summary()["load"] is None, "it says nothing of a file"
    assert "160 given studies" in draw(waits)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "needs a column 'arrived'"),
        ("arrived,colour\n1,red\n", "no others"),
        ("arrived\n", "no arrival"),
        ("arrived\nnoon\n", "Line 2"),
        ("arrived\ninf\n", "Line 2"),
        ("arrived,positive\n1,1\n2,perhaps\n", "Line 3"),
        ("arrived,band\n1,red\n", "Line 2"),
        ("arrived,minutes\n1,-4\n", "more than 0"),
    ],
)
def test_a_wrong_file_is_told_in_a_sentence(text: str, sentence: str, tmp_path: Path):
    """With the line where there is one."""
    file = tmp_path / "day.csv"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=sentence):
        read_arrivals(file)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_arrivals(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"per_day": 145}, "More studies come than can be read"),
        ({"prevalence": 1.1}, "prevalence"),
        ({"sensitivity": float("nan")}, "sensitivity"),
        ({"readers": 0}, "readers"),
        ({"negative_min": 0}, "negative_min"),
        ({"waiting_cap_min": -1}, "waiting_cap_min"),
        ({"days": 1e9}, "fewer days"),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence(wrong: dict[str, float], sentence: str):
    """Before anything is drawn."""
    with pytest.raises(ConfigurationError, match=sentence):
        simulate(replace(SITE, **wrong))


# ------------------------------------------------------------------ the command and its picture


def test_the_picture_is_one_file_that_says_what_it_is():
    """Well-formed, loads nothing, tells that it is simulated and at which assumptions."""
    short = replace(SITE, days=5, replications=2, waiting_cap_min=90).at_load(0.7)
    picture = draw(simulate(short))
    root = ElementTree.fromstring(picture)
    words = " ".join(text.strip() for text in root.itertext())
    for told in ("SIMULATED", "prevalence 0.1", "waiting cap 90 min", "1 reading", "mean"):
        assert told in words
    assert "href" not in picture
    assert "nan" not in picture
    assert len(root.findall(".//{*}path[@stroke-width='2.5']")) == 6


def test_no_positive_at_all_draws_and_prints_all_the_same(tmp_path: Path):
    """A prevalence of zero leaves a group without members."""
    picture = tmp_path / "waiting.svg"
    arguments = [
        "simulate",
        "--prevalence",
        "0",
        "--days",
        "2",
        "--replications",
        "1",
        "--per-day",
        "50",
    ]
    shown = CliRunner().invoke(app, [*arguments, "--plot", str(picture)])
    assert shown.exit_code == 0, shown.output
    assert "SIMULATED" in shown.output
    assert "none" in shown.output
    ElementTree.fromstring(picture.read_text())
    told = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert told["simulated"] is True
    assert told["minutes"]["ichnode"]["missed"]["mean"]["mean"] is None
    assert told["assumptions"]["waiting_cap_min"] == 120, "the cap of the settings"


def test_the_command_takes_a_load_and_no_cap():
    """`--load` says how many a day that is; `inf` is no cap."""
    arguments = "simulate --load 0.6 --readers 3 --days 2 --replications 2 --cap-minutes inf --json"
    told = json.loads(CliRunner().invoke(app, arguments.split()).stdout)
    assert told["load"] == pytest.approx(0.6)
    assert told["assumptions"]["waiting_cap_min"] is None
    assert told["saved_minutes"]["positive"]["low"] is not None
