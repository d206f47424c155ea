"""File < environment < flags, and nothing misspelt goes unnoticed."""

from __future__ import annotations

import pytest

from ichnode.domain.errors import ConfigurationError
from ichnode.settings import load_settings, origins


@pytest.fixture
def toml(tmp_path):
    def write(text):
        path = tmp_path / "ichnode.toml"
        path.write_text(text)
        return path

    return write


def test_flags_win_over_the_environment_and_the_environment_over_the_file(toml, monkeypatch):
    """The later source wins, value by value."""
    path = toml('[receive]\nport = 104\nae_title = "FROMFILE"\nidle_s = 5\n')
    monkeypatch.setenv("ICHNODE_RECEIVE__PORT", "105")
    monkeypatch.setenv("ICHNODE_RECEIVE__AE_TITLE", "FROMENV")
    settings = load_settings(path, flags={"receive.port": 106})
    assert (settings.receive.port, settings.receive.ae_title) == (106, "FROMENV")
    assert settings.receive.idle_s == 5


def test_a_misspelt_key_names_the_nearest_right_one(toml):
    """An unknown key is an error that helps."""
    with pytest.raises(ConfigurationError, match=r"receive\.prot is no setting.*receive\.port"):
        load_settings(toml("[receive]\nprot = 104\n"))


def test_a_misspelt_variable_names_the_nearest_right_one(monkeypatch):
    """pydantic-settings ignores unknown variables; we do not."""
    monkeypatch.setenv("ICHNODE_RECIEVE__PORT", "104")
    with pytest.raises(ConfigurationError, match="ICHNODE_RECEIVE__PORT"):
        load_settings(None)


def test_a_missing_file_names_the_nearest_one(toml):
    """pydantic-settings ignores a missing file; we do not."""
    path = toml("")
    with pytest.raises(ConfigurationError, match=r"Did you mean ichnode\.toml"):
        load_settings(path.with_name("ichnod.toml"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[receive]\nport = 70000\n", "receive.port"),
        ('[receive]\nae_title = "SEVENTEENLETTERSX"\n', "AE title"),
        ('[web]\nbind = "0.0.0.0"\n', "reverse proxy"),
        ("[receive\n", "not valid TOML"),
        ("[query]\nenabled = true\n", "name who may ask"),
        ('[query]\nenabled = true\ncalling_ae_titles = ["A"]\n', "where from"),
        ('[query]\nnetworks = ["here"]\n', "query.networks"),
        ('[[destinations]]\nname="a"\nae_title="P"\nhost="h"\nport=1\n' * 2, "same name"),
    ],
)
def test_wrong_values_are_named_in_a_sentence(toml, text, says):
    """The message says which setting and why, never a stack trace."""
    with pytest.raises(ConfigurationError, match=says):
        load_settings(toml(text))


def test_the_password_of_the_database_is_not_printed(toml):
    """Secrets stay secret in every representation."""
    path = toml('[node]\ndatabase = "postgresql+psycopg://u:hunter2@h/d"\n')
    assert "hunter2" not in repr(load_settings(path))


def test_origins_say_where_a_value_came_from(toml, monkeypatch):
    """`config show` can tell the file from a variable."""
    path = toml("[receive]\nport = 104\nidle_s = 5\n")
    monkeypatch.setenv("ICHNODE_RECEIVE__PORT", "105")
    found = origins(path)
    assert found["receive.port"] == "environment variable ICHNODE_RECEIVE__PORT"
    assert found["receive.idle_s"] == str(path)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("10.0.0.5", False), ("pacs", False)],
)
def test_only_this_machine_is_loopback(toml, host, loopback):
    """In observe mode nothing else gets anything, so a name is never taken for this machine."""
    text = f'[[destinations]]\nname="a"\nae_title="P"\nhost="{host}"\nport=1\n'
    assert load_settings(toml(text)).destinations[0].is_loopback is loopback
