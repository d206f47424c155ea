"""Questions with a short answer: is each part that the node stands on all right?

`ichnode doctor` asks all of them; the health page asks those that cost nothing.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from ichnode.domain.errors import IchnodeError
from ichnode.service.supervisor import LISTEN
from ichnode.settings import Destination, Settings
from ichnode.spool import free_bytes

if TYPE_CHECKING:
    from ichnode.worklist.rows import Pulse

CLOCK_TOLERANCE_S = 2.0
STA_UNSYNC = 0x0040


@dataclass(frozen=True, slots=True)
class Check:
    """One answer."""

    name: str
    ok: bool
    sentence: str


def _ask(name: str, question: Callable[[], str]) -> Check:
    try:
        return Check(name, True, question())
    except (IchnodeError, OSError) as error:
        return Check(name, False, str(error))


def examine(settings: Settings) -> Iterator[Check]:
    """Ask everything: database, disk, clock, model, device, roles, outbox and destinations."""
    yield _ask("database", lambda: _database(settings))
    yield _ask("disk", lambda: _disk(settings))
    yield _ask("clock", lambda: _clock(settings))
    yield _ask("model", lambda: _model(settings))
    yield _ask("device", lambda: _device(settings.infer.device))
    yield _ask("jobs", lambda: _jobs(settings))
    yield _ask("infer", lambda: _infer(settings))
    if settings.hl7_listen.enabled:
        yield _ask("hl7_listen", lambda: _listener(settings))
    yield _mode(settings)
    yield _ask("stranded", lambda: _stranded(settings))
    for destination in settings.outputs:
        yield _destination(destination, settings.receive.ae_title)


def _database(settings: Settings) -> str:
    from ichnode.worklist import schema
    from ichnode.worklist.engine import connect

    engine = connect(settings.node.database.get_secret_value())
    schema.check(engine)
    return f"{engine.dialect.name} answers, schema {schema.current(engine)}."


def _disk(settings: Settings) -> str:
    spool = settings.node.spool
    place = next(folder for folder in (spool, *spool.parents) if folder.exists())
    if not os.access(place, os.W_OK):
        raise OSError(f"{place} cannot be written by this user.")
    free = free_bytes(place)
    if free < settings.receive.reserve_bytes:
        raise OSError(
            f"{free >> 20} MiB are free on the disk of {place}, less than the reserve of "
            f"{settings.receive.reserve_bytes >> 20} MiB: new images are refused."
        )
    return f"{free >> 30} GiB free on the disk of {place}."


def _clock(settings: Settings) -> str:
    from ichnode.worklist.engine import connect, database_now

    engine = connect(settings.node.database.get_secret_value())
    if engine.dialect.name == "sqlite":  # its clock is this host's: there is nothing to compare
        return f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC; {_synchronisation()}"
    apart_s = abs((database_now(engine) - datetime.now(UTC)).total_seconds())
    if apart_s > CLOCK_TOLERANCE_S:
        raise OSError(f"The clocks of this host and the database are {apart_s:.1f} s apart.")
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC, {apart_s:.1f} s from the database's."


class _Timex(ctypes.Structure):
    """The beginning of the kernel's struct timex, and room for its rest."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 512),
    )


def _synchronisation() -> str:
    """Say what the kernel thinks of its clock.

    No verdict: a container, or a guest whose host keeps the time, says "unsynchronised" and may
    well be right to the millisecond.

    References
    ----------
    adjtimex(2): modes 0 only reads; STA_UNSYNC.
    """
    timex = _Timex(modes=0)
    if ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex)) < 0:
        return f"warning: the kernel does not tell ({os.strerror(ctypes.get_errno())})."
    if timex.status & STA_UNSYNC:
        return "warning: the kernel knows of no time service that keeps it; check NTP on this host."
    return f"kept by a time service, to {timex.maxerror / 1000:.0f} ms at worst."


def _model(settings: Settings) -> str:
    from ichnode.nets.registry import Registry

    entry = Registry(settings.infer.models).find("champion")
    entry.verify()
    summary = entry.summary()
    return f"{summary['name']} {summary['version']} ({entry.model_uid}), whole and unaltered."


def _device(choice: Literal["auto", "cuda", "cpu"]) -> str:
    if choice == "cuda":
        from ichnode.infer.device import engine_makers

        engine_makers(choice)  # refuses, in the words of the infer role, where there is none
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return f"No GPU; {os.cpu_count()} CPU cores."
    return f"GPU {done.stdout.strip().splitlines()[0]}."


def _fresh_beats(settings: Settings) -> list[Pulse]:
    from ichnode.service.assembly import open_worklist
    from ichnode.service.running import fresh_beats

    with closing(open_worklist(settings)) as worklist:
        return fresh_beats(worklist)


def _jobs(settings: Settings) -> str:
    failing = {job for beat in _fresh_beats(settings) for job in beat.detail.get("failing", ())}
    if failing:
        raise OSError(f"Housekeeping fails at: {', '.join(sorted(failing))}; see its log.")
    return "No job of housekeeping fails."


def _infer(settings: Settings) -> str:
    beats = [beat.detail for beat in _fresh_beats(settings) if beat.role == "infer"]
    if not beats:
        return "The role infer does not run."
    if warnings := sorted({str(one) for beat in beats for one in beat.get("warnings", ())}):
        raise OSError(" ".join(warnings))
    return f"The model runs on {', '.join(sorted({str(beat.get('device')) for beat in beats}))}."


def _listener(settings: Settings) -> str:
    from ichnode.listen.server import tls_context

    secured = tls_context(settings.hl7_listen) is not None
    beats = _fresh_beats(settings)
    ports = sorted({beat.detail["port"] for beat in beats if beat.role == LISTEN})
    if ports:
        spoken = "TLS only" if secured else "no TLS"
        return f"HL7 messages are taken at port {', '.join(map(str, ports))}, {spoken}."
    if beats:
        raise OSError(
            "The node runs, and nobody listens for HL7 messages: start the role listen "
            "(ichnode@listen.service), or look into its log."
        )
    return "It is switched on; the node does not run."


def _mode(settings: Settings) -> Check:
    outside = [d.name for d in settings.outputs if not d.is_loopback]
    try:
        from ichnode.nets.registry import Registry
        from ichnode.service.assembly import open_worklist
        from ichnode.service.running import running

        with closing(open_worklist(settings)) as worklist:
            found = running(Registry(settings.infer.models), worklist)
            opened = found.is_commissioned(worklist)
    except IchnodeError as error:
        return Check("mode", False, str(error))
    if opened:
        return Check("mode", True, "Commissioned for the model that runs.")
    closed = f" Closed: {', '.join(outside)}." if outside else ""
    return Check("mode", True, f"Observe mode: only loopback gets anything.{closed}")


def _stranded(settings: Settings) -> str:
    from ichnode.service.assembly import open_worklist

    with closing(open_worklist(settings)) as worklist:
        rows = worklist.views.stranded()
    if rows:
        raise OSError(" ".join(row.sentence for row in rows))
    return "All that waits has a destination that takes it."


def _destination(destination: Destination, calling_ae: str) -> Check:
    from ichnode.send.asking import ask

    answer = ask(destination, calling_ae)
    return Check(f"destination {destination.name}", answer.ok, answer.sentence)
