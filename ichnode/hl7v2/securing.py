"""TLS for MLLP, as IHE ATNA wants it: 1.2 or later, both sides with a certificate where wanted."""

from __future__ import annotations

import ssl


def client_context(ca: str, certificate: str, key: str) -> ssl.SSLContext:
    """Return what a client goes by.

    Parameters
    ----------
    ca : str
        A file of the authorities that may vouch for the server; "" takes those of the system.
    certificate, key : str
        Files that say who we are; "" says nothing.

    Raises
    ------
    OSError
        When a file cannot be read or does not hold what it should.
    """
    context = ssl.create_default_context(cafile=ca or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate:
        context.load_cert_chain(certificate, key or None)
    return context


def server_context(certificate: str, key: str, ca: str) -> ssl.SSLContext:
    """Return what a server goes by; with `ca`, clients must have a certificate of that authority.

    Raises
    ------
    OSError
        When a file cannot be read or does not hold what it should.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key or None)
    if ca:
        context.load_verify_locations(ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
