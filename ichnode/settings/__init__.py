"""The configuration. Settings describe and never build anything; each room gets its own section."""

from __future__ import annotations

from ichnode.settings.commands import CommandSettings
from ichnode.settings.destinations import Destination, DestinationSettings, SubscriberSettings
from ichnode.settings.hl7 import Hl7Destination, Hl7ListenSettings
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
from ichnode.settings.over_http import FhirSettings, OrthancSettings, UpsRsSettings, WebhookSettings
from ichnode.settings.sections import (
    AETitle,
    HousekeepSettings,
    InferSettings,
    LogSettings,
    NodeSettings,
    QuerySettings,
    QueueSettings,
    ReceiveSettings,
    ReconcileSettings,
    ReportSettings,
    RetrainSettings,
    RulesSettings,
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
    "CommandSettings",
    "Destination",
    "DestinationSettings",
    "FhirSettings",
    "Hl7Destination",
    "Hl7ListenSettings",
    "HousekeepSettings",
    "InferSettings",
    "LogSettings",
    "NodeSettings",
    "OrthancSettings",
    "QuerySettings",
    "QueueSettings",
    "ReceiveSettings",
    "ReconcileSettings",
    "ReportSettings",
    "RetrainSettings",
    "RulesSettings",
    "Section",
    "SendSettings",
    "SeriesSettings",
    "Settings",
    "SubscriberSettings",
    "UpsRsSettings",
    "WebSettings",
    "WebhookSettings",
    "explain",
    "find_file",
    "known_names",
    "load_settings",
    "origins",
]
