"""Compare how fast C-STORE goes: ichnode, Orthanc, dcmtk storescp and stock pynetdicom.

    python tests/benchmarks/bench_receive.py [--images 240] [--rounds 3] [--place FOLDER]

The same 512x512 CT images (simulated noise) are sent by dcmtk storescu (TCP_NODELAY=1, largest PDU)
to each in turn, over one association and over four at once, every time into empty storage. ichnode
and Orthanc answer when an image is durable and, in ichnode's case soon after, indexed; storescp and
pynetdicom write a file and promise nothing. Prints images/s (median of the rounds) and ratios to
Orthanc, and for ichnode how long after its acknowledgement an image was recorded.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

ORTHANC = shutil.which("Orthanc") or "/usr/sbin/Orthanc"
PDU = "131072"
LIMIT_S = 120
WARM_UP = 4
IN_MEMORY = "BENCH_IN_MEMORY"  # for the spawned receivers
# dcmtk, and Orthanc which is built on it, leave Nagle's algorithm on unless told so; with it on
# either side every image waits 40 ms for a delayed acknowledgement.
ENVIRONMENT = os.environ | {"TCP_NODELAY": "1"}


def make_images(folder: Path, count: int) -> list[Path]:
    """Write `count` CT images of simulated noise, 512x512, 16 bit, as four series."""
    chance = np.random.default_rng(2019)
    study, series = generate_uid(), [generate_uid() for _ in range(4)]
    paths = []
    for number in range(count):
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
        dataset.SOPInstanceUID = generate_uid()
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series[number % 4]
        dataset.PatientID, dataset.PatientName, dataset.Modality = "BENCH", "Bench^Receive", "CT"
        dataset.StudyDate, dataset.StudyTime, dataset.AccessionNumber = "20260101", "120000", "1"
        dataset.SeriesNumber, dataset.InstanceNumber = number % 4 + 1, number // 4 + 1
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.Manufacturer, dataset.ConvolutionKernel = "simulated", "STD"
        dataset.SliceThickness, dataset.PixelSpacing = "5", ["0.488", "0.488"]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.ImagePositionPatient = [-125, -125, number // 4 * 5]
        dataset.Rows = dataset.Columns = 512
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
        dataset.PixelRepresentation = 1
        dataset.RescaleIntercept, dataset.RescaleSlope = "0", "1"
        pixels = chance.integers(-1024, 2048, (512, 512), dtype=np.int16)
        dataset.PixelData = pixels.tobytes()
        path = folder / f"{number:04d}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_echo(port: int) -> None:
    """Wait until the peer answers a C-ECHO."""
    deadline = time.monotonic() + 30
    while subprocess.run(["echoscu", "127.0.0.1", str(port)], capture_output=True).returncode:
        if time.monotonic() > deadline:
            raise SystemExit(f"nobody answers on port {port}")


def send(port: int, shares: list[list[Path]]) -> float:
    """Send each share over an association of its own, all at once; return the seconds."""
    command = ["storescu", "-pdu", PDU, "--max-send-pdu", PDU, "127.0.0.1", str(port)]
    started = time.monotonic()
    senders = [
        subprocess.Popen([*command, *map(str, share)], env=ENVIRONMENT) for share in shares if share
    ]
    codes = [sender.wait(LIMIT_S) for sender in senders]
    seconds = time.monotonic() - started
    if any(codes):
        raise SystemExit(f"storescu failed: {codes}")
    return seconds


def cpu_of_receivers_s() -> float:
    """Return the processor time that the living child processes have used, and theirs."""
    parents, used = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        pid = int(path.parent.name)
        parents[pid] = int(fields[1])
        used[pid] = sum(int(ticks) for ticks in fields[11:15])  # with waited-for children
    family = {os.getpid()}
    while grown := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= grown
    return sum(used[pid] for pid in family - {os.getpid()}) / os.sysconf("SC_CLK_TCK")


# ---------------------------------------------------------------------- the four peers


def _serve_ichnode(place: Path, listener: socket.socket, number: int, report: Any) -> None:
    import logging
    from datetime import UTC, datetime

    import structlog

    from ichnode.receive.scp import Receiver
    from ichnode.settings import NodeSettings, ReceiveSettings

    sys.setswitchinterval(float(os.environ.get("SWITCH", "0.005")))
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    node = NodeSettings(host_id="bench", spool=place / "spool")
    worklist, real = _worklist(place)
    delays: list[float] = []

    class Timed:
        def record(self, arrivals: Any) -> None:
            worklist.record(arrivals)
            now = datetime.now(UTC)
            delays.extend((now - arrival.received_at).total_seconds() for arrival in arrivals)

        def released(self, association_id: str) -> None:
            worklist.association_released(association_id)

        def refuse(self, refusal: Any) -> None:
            worklist.refuse(refusal)

    receiver = Receiver(
        node,
        ReceiveSettings(port=0, reserve_bytes=0),
        Timed(),
        listener=listener,
        number=number,
    )
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: stop.append(number))
    receiver.start()
    report.put(("ready", real, []))
    while not stop:
        signal.pause()
    receiver.stop()
    report.put(("delays", real, delays))


def _worklist(place: Path) -> tuple[Any, bool]:
    """Return the real worklist on SQLite, or a list in memory."""
    if os.environ.get(IN_MEMORY):
        return _InMemory(), False
    try:
        from ichnode.worklist import schema
        from ichnode.worklist.engine import connect
        from ichnode.worklist.policy import Policy
        from ichnode.worklist.worklist import Worklist
    except ImportError:
        return _InMemory(), False
    engine = connect(f"sqlite:///{place / 'worklist.db'}")
    with _one_at_a_time(place):
        schema.upgrade(engine)
    return Worklist(engine, Policy()), True


@contextmanager
def _one_at_a_time(place: Path) -> Iterator[None]:
    import fcntl

    with (place / "upgrade.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class _InMemory:
    def __init__(self) -> None:
        self.arrivals: list[Any] = []

    def record(self, arrivals: Any) -> None:
        self.arrivals.extend(arrivals)

    def association_released(self, association_id: str) -> None:
        """Do nothing."""

    def refuse(self, refusal: Any) -> None:
        print("refused:", refusal.sentence, file=sys.stderr)


NOTES: dict[str, Any] = {"delays": [], "real": False}


@contextmanager
def ichnode(place: Path, processes: int = 1) -> Iterator[int]:
    from ichnode.receive.scp import open_listener
    from ichnode.settings import ReceiveSettings

    context = multiprocessing.get_context("spawn")
    listener = open_listener(ReceiveSettings(port=0))
    report = context.Queue()
    children = [
        context.Process(target=_serve_ichnode, args=(place, listener, number, report))
        for number in range(processes)
    ]
    for child in children:
        child.start()
    for _ in children:
        NOTES["real"] = report.get(timeout=60)[1]
    try:
        yield int(listener.getsockname()[1])
    finally:
        for child in children:
            os.kill(child.pid, signal.SIGTERM)
        for _ in children:
            NOTES["delays"].extend(report.get(timeout=60)[2])
        for child in children:
            child.join(30)
        listener.close()


@contextmanager
def ichnode_two(place: Path) -> Iterator[int]:
    with ichnode(place, processes=2) as port:
        yield port


@contextmanager
def _program(command: list[str], port: int, place: Path) -> Iterator[int]:
    with (place / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=place, env=ENVIRONMENT)
        try:
            wait_for_echo(port)
            yield port
        finally:
            process.terminate()
            process.wait(30)


@contextmanager
def orthanc(place: Path) -> Iterator[int]:
    port = free_port()
    configuration = {
        "StorageDirectory": str(place / "orthanc"),
        "DicomPort": port,
        "HttpServerEnabled": False,
        "DicomCheckCalledAet": False,
        "DicomAlwaysAllowStore": True,
        "SyncStorageArea": True,
        "MaximumPduLength": int(PDU),
        "Plugins": [],
    }
    (place / "orthanc.json").write_text(json.dumps(configuration))
    with _program([ORTHANC, str(place / "orthanc.json")], port, place):
        yield port


@contextmanager
def storescp(place: Path) -> Iterator[int]:
    port = free_port()
    (place / "out").mkdir()
    command = ["storescp", "--fork", "-pdu", PDU, "-od", str(place / "out"), str(port)]
    with _program(command, port, place):
        yield port


STOCK = """
import sys, pathlib
from pynetdicom import AE, AllStoragePresentationContexts, evt, _config
from pynetdicom.sop_class import Verification
_config.LOG_HANDLER_LEVEL = "none"
out = pathlib.Path(sys.argv[2])
def store(event):
    (out / event.request.AffectedSOPInstanceUID).write_bytes(event.encoded_dataset())
    return 0
ae = AE()
ae.maximum_pdu_size = 131072
ae.supported_contexts = AllStoragePresentationContexts
ae.add_supported_context(Verification)
ae.start_server(("127.0.0.1", int(sys.argv[1])), evt_handlers=[(evt.EVT_C_STORE, store)])
"""


@contextmanager
def pynetdicom(place: Path) -> Iterator[int]:
    port = free_port()
    (place / "out").mkdir()
    command = [sys.executable, "-c", STOCK, str(port), str(place / "out")]
    with _program(command, port, place):
        yield port


PEERS: dict[str, Callable[[Path], Any]] = {
    "ichnode": ichnode,
    "ichnode, two processes": ichnode_two,
    "Orthanc, storage synced": orthanc,
    "dcmtk storescp": storescp,
    "pynetdicom, raw write": pynetdicom,
}


def measure(
    peer: Callable[[Path], Any],
    images: list[Path],
    ways: int,
    place: Path,
) -> tuple[float, float]:
    """Return images/s of one run into empty storage, and the receiver's CPU time per image in ms.

    The second figure hardly depends on what else the machine is doing.
    """
    warm_up, images = images[:WARM_UP], images[WARM_UP:]
    shares = [images[way::ways] for way in range(ways)]
    storage = tempfile.TemporaryDirectory(dir=place, prefix="ichnode-bench-")
    with storage as name, peer(Path(name)) as port:
        send(port, [warm_up])  # what a process does once is not what is measured
        before = cpu_of_receivers_s()
        seconds = send(port, shares)
        used = cpu_of_receivers_s() - before
    return len(images) / seconds, used * 1000 / len(images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=240)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--place", type=Path, default=None)
    parser.add_argument("--in-memory", action="store_true", help="leave the worklist out")
    parser.add_argument("--only", nargs="*", default=list(PEERS))
    options = parser.parse_args()
    if options.in_memory:
        os.environ[IN_MEMORY] = "1"
    rates: dict[tuple[str, int], list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory(dir=options.place, prefix="ichnode-images-") as name:
        images = make_images(Path(name), options.images + WARM_UP)
        for _ in range(options.rounds):
            for ways in (1, 4):
                for peer in options.only:
                    rate = measure(PEERS[peer], images, ways, options.place or Path(name))
                    rates.setdefault((peer, ways), []).append(rate)
    show(rates, options.only)


def show(rates: dict[tuple[str, int], list[tuple[float, float]]], peers: list[str]) -> None:
    reference = "Orthanc, storage synced"
    columns = "".join(f"{f'{ways} assoc.':>10}{'ratio':>7}{'CPU ms':>8}" for ways in (1, 4))
    print(f"{'images/s':26}{columns}")
    for peer in peers:
        cells = ""
        for ways in (1, 4):
            rate, cpu = map(statistics.median, zip(*rates[peer, ways], strict=True))
            base = statistics.median(r for r, _ in rates.get((reference, ways), [(rate, 0)]))
            cells += f"{rate:10.0f}{rate / base:7.2f}{cpu:8.2f}"
        print(f"{peer:26}{cells}")
    if delays := sorted(NOTES["delays"]):
        kind = "SQLite worklist" if NOTES["real"] else "list in memory"
        median, late = delays[len(delays) // 2], delays[int(len(delays) * 0.95)]
        print(
            f"ichnode: recorded ({kind}) after arrival, under this load: "
            f"median {median * 1000:.0f} ms, 95 % {late * 1000:.0f} ms"
        )


if __name__ == "__main__":
    main()
