"""Who we are to a server, and how we know who it is.

References
----------
RFC 7617 (Basic), RFC 6750 (Bearer), RFC 9110 4.3.4 (certificates).
"""

from __future__ import annotations

import base64
import re
import ssl

import httpx

from ichnode.domain.errors import PeerFailure
from ichnode.settings.over_http import RestDestination, ServerDestination


def credentials(destination: ServerDestination) -> list[tuple[str, str]]:
    """Return the header that says who we are, where the destination asks for one."""
    if not isinstance(destination, RestDestination):
        return []
    if token := destination.token.get_secret_value():
        return [("Authorization", f"Bearer {token}")]
    if destination.user:
        both = f"{destination.user}:{destination.password.get_secret_value()}"
        return [("Authorization", f"Basic {base64.b64encode(both.encode()).decode()}")]
    return []


def tls_context(destination: ServerDestination) -> ssl.SSLContext:
    """Return what a server's certificate is checked by; there is no way to switch that off.

    Raises
    ------
    PeerFailure
        When a file of certificates or keys cannot be used. Others than this server are told all the
        same, and the next try takes the file that is there then.
    """
    try:
        context = ssl.create_default_context(cafile=destination.ca_file or None)
        if destination.certificate_file:
            # Without a password OpenSSL asks the terminal for that of a key which has one.
            context.load_cert_chain(
                destination.certificate_file, destination.key_file or None, password=""
            )
    except OSError as error:  # ssl.SSLError is one
        files = " or ".join(
            name
            for name in (destination.ca_file, destination.certificate_file, destination.key_file)
            if name
        )
        why = error.strerror if not isinstance(error, ssl.SSLError) else "not what it should be"
        raise PeerFailure(f"{files} cannot be used: {why}.") from None
    return context


def why_not_connected(error: httpx.TransportError) -> str:
    """Say why there is no connection; the certificate is worth a sentence of its own."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"The server's certificate is not trusted: {cause.verify_message.rstrip('.')}."
        if isinstance(cause, ssl.SSLError):
            return "The server does not speak TLS with us."
        cause = cause.__cause__ or cause.__context__
    text = str(error)  # httpx keeps no more than the text where the cause is lost
    if found := re.search(r"certificate verify failed: ([^(]+)", text):
        return f"The server's certificate is not trusted: {found[1].strip().rstrip('.')}."
    return "The server cannot be reached."
