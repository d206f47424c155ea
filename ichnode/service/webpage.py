"""The web room, given the worklist to look at."""

from __future__ import annotations

from ichnode import __version__
from ichnode.domain.errors import ModelUnusable
from ichnode.nets.registry import Registry
from ichnode.service.running import running
from ichnode.service.supervisor import LISTEN
from ichnode.settings import Settings
from ichnode.spool import free_bytes
from ichnode.web import health
from ichnode.web.app import create_app
from ichnode.web.serving import WebServer
from ichnode.web.views import Mode
from ichnode.worklist.worklist import Worklist


def make_server(settings: Settings, worklist: Worklist) -> WebServer:
    """Return the web server of this node, not yet started."""
    app = create_app(
        worklist.views,
        heartbeats=worklist.views.heartbeats,
        version=__version__,
        mode=lambda: mode_of(settings, worklist),
        free_bytes=lambda: free_bytes(settings.node.spool),
        reserve_bytes=settings.receive.reserve_bytes,
        roles=(*health.ROLES, *((LISTEN,) if settings.hl7_listen.enabled else ())),
    )
    return WebServer(app, settings.web.bind, settings.web.port)


def mode_of(settings: Settings, worklist: Worklist) -> Mode:
    """Say whether the outputs are open for the model that runs now."""
    outside = tuple(d.name for d in settings.outputs if not d.is_loopback)
    try:
        found = running(Registry(settings.infer.models), worklist)
    except ModelUnusable:
        return Mode(observing=True, closed=outside, model="none that can be used")
    opened = found.is_commissioned(worklist)
    return Mode(observing=not opened, closed=() if opened else outside, model=found.words)
