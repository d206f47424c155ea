"""A scriptable HTTP server over real sockets: it answers what a test says, well or badly."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Speak = Callable[[socket.socket, threading.Event], None]
"""Writes to the connection, until the server is stopped at the latest."""


@dataclass(frozen=True)
class Asked:
    """A request as it arrived."""

    method: str
    path: str  # with the query
    headers: dict[str, str]  # by their names in lower case
    body: bytes = field(repr=False)

    def json(self) -> Any:
        """Return the body, parsed."""
        return json.loads(self.body)


def answer(status: int, body: bytes | str | list | dict = b"", **headers: str) -> bytes:
    """Return an answer as it goes over the line; what is no bytes is sent as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {"Content-Length": str(len(content)), **headers}
    lines = [f"HTTP/1.1 {status} Whatever"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in named.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def silence() -> Speak:
    """Say nothing, and keep the connection open."""
    return lambda _, stopped: stopped.wait()


def drip(whole: bytes, every_s: float = 0.02) -> Speak:
    """Send one byte at a time, for as long as anybody listens."""

    def speak(connection: socket.socket, stopped: threading.Event) -> None:
        for byte in whole:
            if stopped.wait(every_s):
                return
            connection.sendall(bytes([byte]))

    return speak


def flood(start: bytes, chunk: bytes = b"x" * 65536, most: int = 1 << 30) -> Speak:
    """Send a beginning and then chunks, for as long as anybody listens."""

    def speak(connection: socket.socket, stopped: threading.Event) -> None:
        connection.sendall(start)
        for _ in range(most // len(chunk)):
            if stopped.is_set():
                return
            connection.sendall(chunk)

    return speak


def hang_up() -> Speak:
    """Close the connection without a word."""
    return lambda *_: None


class HttpPeer:
    """The server; a context manager that listens while its block runs.

    Parameters
    ----------
    respond : callable
        Says of each request what is sent back: bytes, after which the connection stays open, or
        something that speaks by itself, after which it is closed.
    tls : ssl.SSLContext, optional
        For https.
    """

    def __init__(
        self, respond: Callable[[Asked], bytes | Speak], tls: ssl.SSLContext | None = None
    ) -> None:
        self._respond, self._tls = respond, tls
        self.asked: list[Asked] = []
        self.connections = 0
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []

    def __enter__(self) -> HttpPeer:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for line in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
            line.close()
        for thread in self._threads:
            thread.join(5)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def url(self) -> str:
        scheme = "https" if self._tls else "http"
        return f"{scheme}://{'localhost' if self._tls else '127.0.0.1'}:{self.port}"

    def _start(self, run: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=run, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._stopped.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), contextlib.ExitStack() as stack:
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
                self._open.append(connection)
            stack.enter_context(connection)
            file = stack.enter_context(connection.makefile("rb"))
            while (asked := _read(file)) is not None:
                self.asked.append(asked)
                reply = self._respond(asked)
                if not isinstance(reply, bytes):
                    reply(connection, self._stopped)
                    with contextlib.suppress(OSError):
                        connection.shutdown(socket.SHUT_RDWR)
                    return
                connection.sendall(reply)


def _read(file: Any) -> Asked | None:
    line = file.readline().decode("ascii").split()
    if len(line) != 3:
        return None
    headers = {}
    while held := file.readline().decode("latin-1").strip():
        name, _, value = held.partition(":")
        headers[name.lower()] = value.strip()
    return Asked(line[0], line[1], headers, file.read(int(headers.get("content-length", 0))))
