"""The configuration that ships, and the page about it, say what settings.py says."""

from __future__ import annotations

import importlib.util
import itertools
import json
import re
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel, SecretStr

from ichnode.settings import DESTINATIONS, Settings, known_names, load_settings

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "deploy" / "ichnode.toml"


def uncommented() -> dict:
    """The file as it reads with every setting switched on."""
    text = SHIPPED.read_text(encoding="utf-8")
    return tomllib.loads(re.sub(r"^#(\w+ = |\[)", r"\1", text, flags=re.MULTILINE))


def plain(value: object) -> object:
    """A default as TOML would write it."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value


def defaults(section: BaseModel | type[BaseModel]) -> dict:
    """The defaults of a section; keys without one, or with one of the host, are left out."""
    return {
        key: plain(field.default)
        for key, field in type(section).model_fields.items()
        if not field.is_required() and field.default_factory is None
    }


def test_the_shipped_file_changes_nothing_as_it_is():
    """With everything commented out the settings are the defaults."""
    assert load_settings(SHIPPED, environment={}) == Settings()


def test_every_setting_is_in_the_shipped_file():
    """No setting is missing there, none is there that does not exist."""
    content = uncommented()
    written = {f"{s}.{k}" for s, keys in content.items() if s not in DESTINATIONS for k in keys}
    written |= DESTINATIONS.keys() & content.keys()
    assert written == set(known_names())
    for section, kind in DESTINATIONS.items():
        assert set(content[section][0]) == set(kind.model_fields), section


@pytest.mark.parametrize("section", [s for s in Settings.model_fields if s not in DESTINATIONS])
def test_every_default_in_the_shipped_file_is_the_real_one(section):
    """A default that is shown is the default that holds, to the type."""
    shown = uncommented()[section]
    for key, value in defaults(getattr(Settings(), section)).items():
        assert json.dumps(shown[key]) == json.dumps(value), key


@pytest.mark.parametrize("section", DESTINATIONS)
def test_the_destinations_in_the_shipped_file_are_right_and_show_the_defaults(section):
    """Each block may be switched on, and what is optional in it is at its default."""
    block = uncommented()[section][0]
    destination = DESTINATIONS[section](**block)
    for key, value in defaults(destination).items():
        assert block[key] == value, key


def test_every_setting_in_the_shipped_file_says_why():
    """No setting stands there without a comment of its own or of its group."""
    lines = SHIPPED.read_text(encoding="utf-8").splitlines()
    for above, line in itertools.pairwise(lines):
        if re.match(r"#\w+ = ", line):
            assert re.match(r"# \S|#\w+ = ", above), f"{line!r} has no reason above it"


def test_the_page_about_the_configuration_is_up_to_date():
    """docs/configuration.md is what docs/write_configuration.py would write now."""
    script = ROOT / "docs" / "write_configuration.py"
    spec = importlib.util.spec_from_file_location("write_configuration", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text(encoding="utf-8") == module.render(), f"run python {script.name}"
