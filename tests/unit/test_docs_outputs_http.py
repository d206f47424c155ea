"""What docs/outputs-http.md shows can be used as it stands."""

from __future__ import annotations

import hashlib
import hmac
import re
import tomllib
from pathlib import Path

from ichnode.send.webhook import DELIVERY, SIGNATURE, signature
from ichnode.settings import DESTINATIONS
from ichnode.settings.templates import FACTS, IDENTITY

TEXT = (Path(__file__).parents[2] / "docs" / "outputs-http.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def test_every_example_is_a_right_configuration():
    """Of each way there is one, and it is taken as it is written."""
    shown = [tomllib.loads(block) for block in blocks("toml")]
    sections = {
        name: held[0] for one in shown for name, held in one.items() if name in DESTINATIONS
    }
    assert set(sections) == {"orthanc", "webhooks", "commands", "ups_rs", "fhir"}
    for name, held in sections.items():
        DESTINATIONS[name](**held)


def test_the_way_to_verify_a_signature_verifies_ours():
    """And nothing else: another body, another delivery, another secret."""
    (code,) = blocks("python")
    names = {"hmac": hmac, "hashlib": hashlib}
    exec(code, names)
    is_from_ichnode = names["is_from_ichnode"]
    body = '{"é": 1}'.encode()
    headers = {DELIVERY: "2.25.1", SIGNATURE: f"sha256={signature('key', '2.25.1', body)}"}
    assert is_from_ichnode(headers, body, "key")
    assert not is_from_ichnode(headers, body + b" ", "key")
    assert not is_from_ichnode(headers, body, "other")
    assert not is_from_ichnode(headers | {DELIVERY: "2.25.2"}, body, "key")


def test_everything_that_can_be_told_is_listed():
    """Each name of a fact, and each of the patient's."""
    for name in (*FACTS, *IDENTITY):
        assert f"`{name}`" in TEXT, name
