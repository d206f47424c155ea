"""Alerts as JSON to a server of the site's own: a web hook.

The same alert is the same request with every try, its identifier and its signature included, so
that a receiver can drop what it has had before.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
from typing import Any
from urllib.parse import urlsplit

from ichnode.domain.work import DeliveryItem, DeliveryResult
from ichnode.send.association import LONGEST_CONNECT_S
from ichnode.send.http import Exchange, HttpMechanism, Request, judge
from ichnode.send.sender import Echo
from ichnode.send.telling import delivery_uid, facts, identity, subject, whole
from ichnode.settings import templates
from ichnode.settings.over_http import WebhookSettings

DELIVERY, EVENT, SIGNATURE = "X-Ichnode-Delivery", "X-Ichnode-Event", "X-Ichnode-Signature"


class WebhookMechanism(HttpMechanism[WebhookSettings]):
    """Tells one server.

    Parameters
    ----------
    destination : WebhookSettings
        The server, and what it may be told.
    """

    def __init__(self, destination: WebhookSettings) -> None:
        super().__init__(destination, destination.named_headers)

    def preview(self, item: DeliveryItem) -> str:
        """Return the request."""
        return self._peer.shown(self._request(item))

    def tell(self, server: Exchange, item: DeliveryItem) -> DeliveryResult:
        """Send the alert."""
        return judge(server.ask(self._request(item)))

    def _request(self, item: DeliveryItem) -> Request:
        _, alert = subject(item)
        number = delivery_uid(item, self._destination.name)
        body = json.dumps(self._content(item), ensure_ascii=False).encode()
        headers = [
            (DELIVERY, number),
            (EVENT, "withdrawn" if alert.withdrawn else "alert"),
        ]
        if secret := self._destination.secret.get_secret_value():
            headers.append((SIGNATURE, f"sha256={signature(secret, number, body)}"))
        if not any(name.lower() == "content-type" for name, _ in self._destination.named_headers):
            headers.insert(0, ("Content-Type", "application/json"))
        return Request(self._destination.method, self._destination.url, tuple(headers), body)

    def _content(self, item: DeliveryItem) -> Any:
        name, phi = self._destination.name, self._destination.phi
        if not self._destination.template:
            return whole(item, name, phi=phi)
        study, _ = subject(item)
        values = facts(item, name) | (identity(study) if phi else {})
        return templates.fill(self._destination.template, values)

    def look(self) -> Echo:
        """Ask whether anybody listens; a request could be taken for an alert."""
        parts = urlsplit(self._destination.url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        timeout_s = min(self._destination.timeout_s, LONGEST_CONNECT_S)
        try:
            socket.create_connection((parts.hostname or "", port), timeout_s).close()
        except (OSError, UnicodeError):
            return Echo(False, "The server cannot be reached.")
        return Echo(True, "It listens.")


def signature(secret: str, delivery: str, body: bytes) -> str:
    """Return the HMAC-SHA256 of an alert in hexadecimal: of its identifier, a dot, and its body."""
    signed = delivery.encode() + b"." + body
    return hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
