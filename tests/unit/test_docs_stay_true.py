"""The documents name only what exists: files, headings, settings, metrics and commands."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
import typer

from ichnode.cli import app
from ichnode.domain.reasons import Reason
from ichnode.settings import DestinationSettings, Settings, known_names
from ichnode.web import metrics

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])


def named(page: Path) -> str:
    """A page's name, for the name of its test."""
    return page.name


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings make, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_leads_somewhere(page):
    """A link within the project names a file that is there, and a heading of it."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"https?://", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name) if name else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_setting_that_is_named_exists(page):
    """`section.key` in a page is a setting of today."""
    sections = set(Settings.model_fields)
    text = page.read_text(encoding="utf-8")
    for section, key in re.findall(r"`(\w+)\.(\w+)`", text):
        if section in sections and key not in {"py", "toml"}:
            assert f"{section}.{key}" in known_names(), f"{section}.{key}"
    for key in re.findall(r"^(\w+) = ", text, flags=re.MULTILINE):
        keys = {name.partition(".")[2] for name in known_names()}
        assert key in keys | set(DestinationSettings.model_fields), key


def test_every_metric_that_is_named_exists():
    """An alarm that somebody copies from operating.md is on something that is there."""
    source = Path(metrics.__file__).read_text(encoding="utf-8")
    text = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    for name in set(re.findall(r"\bichnode_\w+", text)):
        assert f'"{name.removesuffix("_bucket")}"' in source, name


def commands() -> dict[str, click.Command]:
    """Every command, and every command of a group as ``group command``."""
    found: dict[str, click.Command] = {}
    for name, command in typer.main.get_command(app).commands.items():
        found[name] = command
        for inner, one in getattr(command, "commands", {}).items():
            found[f"{name} {inner}"] = one
    return found


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_command_that_is_named_exists(page):
    """`ichnode something` in a page can be typed, unless the page says that it comes later."""
    text = page.read_text(encoding="utf-8")
    later = {"validate", "retrain"}
    for line in re.findall(
        r"(?:`|^)(?:ichnode|ich) ((?:--config \S+ )?[a-z].*)", text, re.MULTILINE
    ):
        words = re.sub(r"^--config \S+ ", "", line).split()
        word = words[0].strip("`.,;:")
        if word in later:
            assert "comes with a later version" in text, word
            continue
        assert word in commands(), line


def test_every_command_is_in_the_readme():
    """Nobody has to find a command by chance."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in commands():
        if name in {"config", "db", "models", "demo"}:
            continue
        assert f"ichnode {name}" in text, name
    assert "make demo" in text


def test_every_reason_is_explained_to_the_operator():
    """operating.md says of each reason not to analyse what it usually means."""
    text = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    for reason in Reason:
        assert f"`{reason.code}`" in text, reason.code
