"""The configuration. Settings describe and never build anything; each room gets its own section."""

from __future__ import annotations

from ichnode.settings.destinations import Destination, DestinationSettings
from ichnode.settings.loading import (
    DEFAULT_FILE,
    DESTINATIONS,
    FILE_VARIABLE,
    Settings,
    explain,
    find_file,
    known_names,
    load_settings,
    origins,
)
from ichnode.settings.sections import (
    AETitle,
    HousekeepSettings,
    InferSettings,
    LogSettings,
    NodeSettings,
    QueueSettings,
    ReceiveSettings,
    ReconcileSettings,
    ReportSettings,
    RetrainSettings,
    Section,
    SendSettings,
    SeriesSettings,
    WebSettings,
)

__all__ = [
    "DEFAULT_FILE",
    "DESTINATIONS",
    "FILE_VARIABLE",
    "AETitle",
    "Destination",
    "DestinationSettings",
    "HousekeepSettings",
    "InferSettings",
    "LogSettings",
    "NodeSettings",
    "QueueSettings",
    "ReceiveSettings",
    "ReconcileSettings",
    "ReportSettings",
    "RetrainSettings",
    "Section",
    "SendSettings",
    "SeriesSettings",
    "Settings",
    "WebSettings",
    "explain",
    "find_file",
    "known_names",
    "load_settings",
    "origins",
]
