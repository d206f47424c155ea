"""Readiness and watchdog by the systemd protocol (sd_notify(3)), without a dependency.

Outside systemd, and outside our own supervisor that speaks the same protocol to its children,
every call is a no-op.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable

READY = "READY=1"
STOPPING = "STOPPING=1"
WATCHDOG = "WATCHDOG=1"


def notify(message: str) -> bool:
    """Tell whoever started us; False when nobody listens."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    if address.startswith("@"):  # an abstract socket
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.connect(address)
            channel.sendall(message.encode())
    except OSError:
        return False
    return True


def watchdog_interval_s() -> float | None:
    """Return how often systemd wants to hear from us, halved for safety, or None."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 2e6 if microseconds.isdigit() and int(microseconds) > 0 else None


def watch(alive: Callable[[], bool], stop: threading.Event) -> threading.Thread | None:
    """Start the thread that reports life for as long as `alive` says so.

    When a stage hangs the reports cease, the process is killed and started anew, and its lease
    runs out by itself.
    """
    interval_s = watchdog_interval_s()
    if interval_s is None:
        return None

    def report() -> None:
        while not stop.wait(interval_s):
            if alive():
                notify(WATCHDOG)

    thread = threading.Thread(target=report, name="watchdog", daemon=True)
    thread.start()
    return thread
