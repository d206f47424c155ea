"""uvicorn in a thread: started means that it answers, stopped means that it answered everybody."""

from __future__ import annotations

import http.client
import socket
import threading

import uvicorn
from starlette.types import ASGIApp

from ichnode.domain.errors import ConfigurationError, Fatal

START_S = 10.0
STOP_S = 10.0


class _Announcing(uvicorn.Server):
    """A server that says when it has begun."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.begun = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen."""
        await super().startup(sockets)
        self.begun.set()


class WebServer:
    """Serves an application on one address.

    Parameters
    ----------
    app : ASGI application
        What `ichnode.web.app.create_app` made.
    bind : str
        A loopback address.
    port : int
        0 lets the system choose; `start` returns what it chose.
    """

    def __init__(self, app: ASGIApp, bind: str, port: int) -> None:
        self._bind, self._port = bind, port
        config = uvicorn.Config(
            app,
            access_log=False,  # a request line may name a study; what matters is in the metrics
            log_config=None,
            http="h11",
            ws="none",
            loop="asyncio",
            lifespan="off",
            server_header=False,
            proxy_headers=False,
            limit_concurrency=100,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=5,
        )
        self._server = _Announcing(config)
        self._thread: threading.Thread | None = None

    @property
    def alive(self) -> bool:
        """Whether it still serves."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> int:
        """Begin to serve and return the port, once a request has been answered.

        Raises
        ------
        ConfigurationError
            When the address is taken or is none of this host's.
        Fatal
            When the server does not come up.
        """
        listener = self._listen()
        port = int(listener.getsockname()[1])
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, name="web", daemon=True
        )
        self._thread.start()
        if not self._server.begun.wait(START_S):
            raise Fatal("The web server did not come up.")
        self._ask(port)
        return port

    def stop(self) -> None:
        """End after the requests in hand."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(STOP_S)

    def _listen(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._bind else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((self._bind, self._port))
        except OSError as error:
            listener.close()
            raise ConfigurationError(
                f"The web page cannot listen on {self._bind}:{self._port}: {error.strerror}."
            ) from None
        return listener

    def _ask(self, port: int) -> None:
        connection = http.client.HTTPConnection(self._bind, port, timeout=START_S)
        try:
            connection.request("HEAD", "/static/list.css", headers={"Host": "localhost"})
            connection.getresponse().read()
        except OSError as error:
            raise Fatal(f"The web server does not answer: {error}.") from None
        finally:
            connection.close()
