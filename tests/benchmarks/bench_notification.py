"""How long from the last slice answered to the SR acknowledged by a real Orthanc?

Twenty positive studies of 32 slices (simulated), sent in three manners: the association released
after the last slice, held open, and one association per image. Prints median and 95th percentile of
each, and the ratio to the wait that other nodes begin with (5 to 60 s before they even start).

    python tests/benchmarks/bench_notification.py [--studies 20]
"""

from __future__ import annotations

import argparse
import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path

from pydicom import dcmread
from pynetdicom import AE, evt
from pynetdicom.sop_class import CTImageStorage

sys.path.insert(0, str(Path(__file__).parents[2]))

from ichnode.domain.lifecycle import Delivery
from ichnode.phantom.studies import DEMONSTRATION_SEEDS, write_study
from tests.node import Node, wait_for
from tests.orthanc import Orthanc

SLICES = 32
OTHERS_WAIT_S = (5.0, 60.0)
MANNERS = ("released", "held open", "one per image")


def nodelay(event):
    """Small messages must not wait for Nagle and a delayed acknowledgement."""
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def associate(port):
    """Open an association as a scanner does."""
    entity = AE("BENCHCT")
    entity.add_requested_context(CTImageStorage, "1.2.840.10008.1.2.1")
    association = entity.associate(
        "127.0.0.1", port, ae_title="ICHNODE", evt_handlers=[(evt.EVT_CONN_OPEN, nodelay)]
    )
    if not association.is_established:
        raise SystemExit("the node refused the association")
    return association


def store(association, dataset):
    """Store one slice and insist on success."""
    status = association.send_c_store(dataset)
    if status.get("Status") != 0:
        raise SystemExit(f"a slice was not accepted: {status}")


def send(files, port, manner):
    """Send a series; return when the last slice was answered, and what to close afterwards."""
    datasets = [dcmread(path) for path in files]
    if manner == "one per image":
        for dataset in datasets:
            association = associate(port)
            store(association, dataset)
            answered_at = time.time()
            association.release()
        return answered_at, None
    association = associate(port)
    for dataset in datasets:
        store(association, dataset)
    answered_at = time.time()
    if manner == "released":
        association.release()
        return answered_at, None
    return answered_at, association


def acknowledged_at(node, study_uid):
    """Return when Orthanc acknowledged the study's SR, or None."""
    story = node.worklist.views.study(study_uid)
    rows = story.deliveries if story else ()
    return next(
        (r.delivered_at for r in rows if r.kind == "sr" and r.state is Delivery.DELIVERED), None
    )


def measure(node, port, manner, seeds, folder):
    """Send studies one after the other; return the seconds that each took."""
    seconds = []
    for seed in seeds:
        study = write_study(
            folder / f"{seed}",
            seed,
            bleeds=("intraparenchymal",),
            extras=(),
            slices=SLICES,
            least_bleed_ml=30.0,
        )
        answered_at, association = send(study.series["head"], port, manner)
        uid = study.identity.study_uid
        done = wait_for(lambda uid=uid: acknowledged_at(node, uid), 60, f"{manner} {seed}")
        seconds.append(done.timestamp() - answered_at)
        if association is not None:
            association.release()
    return seconds


def main():
    """Measure the three manners and print them."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--studies", type=int, default=20)
    arguments = asked.parse_args()
    first = DEMONSTRATION_SEEDS.start + 50_000
    with tempfile.TemporaryDirectory() as name, Orthanc() as orthanc:
        folder = Path(name)
        node = Node(
            folder,
            destinations=[("orthanc", orthanc.aet, orthanc.dicom_port, False)],
            plausible_s=2.0,
            final_s=20.0,
            negative_sr=False,
        )
        try:
            node.start()
            port = int(
                node.ready("receive", "infer", "deliver", "web", "housekeep")["receive"]["port"]
            )
            measure(node, port, "released", [first - 1], folder)  # warm
            for number, manner in enumerate(MANNERS):
                seeds = range(first + 1000 * number, first + 1000 * number + arguments.studies)
                seconds = measure(node, port, manner, seeds, folder)
                median = statistics.median(seconds)
                p95 = statistics.quantiles(seconds, n=20)[18] if len(seconds) > 1 else median
                ratios = ", ".join(f"{wait / median:.1f}" for wait in OTHERS_WAIT_S)
                print(
                    f"{manner:14s} {len(seconds)} studies of {SLICES} slices (simulated): median "
                    f"{median:.2f} s, 95th percentile {p95:.2f} s; others' waits alone are "
                    f"{ratios} times the median"
                )
        finally:
            node.stop()


if __name__ == "__main__":
    main()
