"""Logging: one canonical line per unit of work, as JSON or for a terminal, and never patient data.

An event is a constant ``noun.past_verb``; values are keys. The last processor lets through only the
keys of `ALLOWED`: a name, a date of birth or a description that slips into a log call is dropped,
and its key is listed under ``withheld``, so that the slip is seen and the patient is not.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Mapping, MutableMapping
from types import TracebackType
from typing import Any, Literal

import structlog

ALLOWED = frozenset(
    """
    action address association attempt attempts backlog band bytes called_ae calling_ae code
    count deadline delivered destination detail device documents due duration_s engine error
    event exception exit_code expected failed found free_bytes generation host instances
    items job kind lease level limit limit_bytes logger mechanism mode model model_uid next
    oldest_s outcome path peer phase pid port ports purged queue reason reasons replayed
    resolution results revision role rows schema seconds segment segments sentence series
    setting signal size slices sop_class sop_class_uid stage state states status study
    syntax timestamp transfer_syntax unit urgent url version wait_s waiting warnings
    withheld worker workers
    """.split()  # noqa: SIM905 - a list of words reads best as words
)
"""Keys that may be logged. ``series`` and ``study`` are UIDs: pseudonyms, kept to trace a case."""
_CHATTY = (
    "pynetdicom",
    "pydicom",
    "highdicom",
    "apscheduler",
    "alembic",
    "httpx",
    "httpcore",
    "uvicorn",
)


def keep_allowed(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Drop every key that is not in `ALLOWED` and say which ones."""
    dropped = sorted(key for key in event if key not in ALLOWED and not key.startswith("_"))
    for key in dropped:
        del event[key]
    if dropped:
        event["withheld"] = dropped
    return event


def _exception_without_values(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Render an exception as type and place; its text may quote a data set, so it stays out."""
    info = event.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()
    if isinstance(info, BaseException):
        info = (type(info), info, info.__traceback__)
    if info and info[0] is not None:
        places = []
        trace = info[2]
        while trace is not None:
            code = trace.tb_frame.f_code
            places.append(f"{code.co_filename.rsplit('/', 2)[-1]}:{trace.tb_lineno} {code.co_name}")
            trace = trace.tb_next
        event["exception"] = f"{info[0].__name__} at " + " > ".join(places[-6:])
    return event


def configure_logging(
    *,
    level: Literal["debug", "info", "warning", "error"] = "info",
    style: Literal["auto", "json", "console"] = "auto",
    context: Mapping[str, str] | None = None,
) -> None:
    """Send all logging of this process, libraries included, to standard error.

    Parameters
    ----------
    level : str
        The least level that is written.
    style : str
        ``auto`` writes for a person on a terminal and JSON otherwise (journald).
    context : mapping of str to str, optional
        Keys for every line of this process, such as ``role``.
    """
    pretty = style == "console" or (style == "auto" and sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _exception_without_values,
    ]
    renderer: Any = (
        structlog.dev.ConsoleRenderer() if pretty else structlog.processors.JSONRenderer()
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _foreign_event],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                keep_allowed,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in _CHATTY:
        logging.getLogger(chatty).setLevel(logging.CRITICAL)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda broken: _log_uncaught(
        broken.exc_type, broken.exc_value, broken.exc_traceback
    )
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(**(context or {}))


def _log_uncaught(
    kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
) -> None:
    """Log what nobody caught as type and place: its text may quote a row of the database."""
    structlog.get_logger("ichnode").critical(
        "process.broke", exc_info=(kind, error or kind(), trace)
    )


def _foreign_event(
    logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Keep only the origin of a library's line: its text may quote anything."""
    event["event"] = "library.logged"
    event["detail"] = str(event.get("logger") or getattr(logger, "name", ""))
    return event
