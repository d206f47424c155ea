"""The documents name only what exists: files, headings, settings, metrics and commands."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
import typer

from ichnode.cli import app
from ichnode.domain.reasons import Reason
from ichnode.settings import DESTINATIONS, Settings, known_names
from ichnode.web import metrics
from train.cli.app import app as training
from train.cli.app import register_all

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
        of_destinations = {key for kind in DESTINATIONS.values() for key in kind.model_fields}
        assert key in keys | of_destinations, key


def test_every_metric_that_is_named_exists():
    """An alarm that somebody copies from operating.md is on something that is there."""
    source = Path(metrics.__file__).read_text(encoding="utf-8")
    text = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    for name in set(re.findall(r"\bichnode_\w+", text)):
        assert f'"{name.removesuffix("_bucket")}"' in source, name


def commands(of: typer.Typer = app) -> dict[str, click.Command]:
    """Every command, and every command of a group as ``group command``."""
    found: dict[str, click.Command] = {}
    for name, command in typer.main.get_command(of).commands.items():
        found[name] = command
        for inner, one in getattr(command, "commands", {}).items():
            found[f"{name} {inner}"] = one
    return found


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_command_that_is_named_exists(page):
    """`ichnode something` in a page can be typed, unless the page says that it comes later."""
    text = page.read_text(encoding="utf-8")
    for line in re.findall(
        r"(?:`|^)(?:ichnode|ich) ((?:--config \S+ )?[a-z].*)", text, re.MULTILINE
    ):
        words = re.sub(r"^--config \S+ ", "", line).split()
        word = words[0].strip("`.,;:")
        assert word in commands(), line


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_training_command_that_is_shown_can_be_typed(page):
    """`python -m train something --option` in a page names a command and options of today."""
    register_all()
    known = commands(training)
    text = page.read_text(encoding="utf-8")
    for line in re.findall(r"(?:`|^)python -m train ([a-z][^`\n#]*)", text, re.MULTILINE):
        words = line.split()
        name = " ".join(words[:2]) if " ".join(words[:2]) in known else words[0]
        assert name in known or any(one.startswith(f"{name} ") for one in known), line
        if name in known:
            options = {o for parameter in known[name].params for o in parameter.opts}
            for option in re.findall(r"--[a-z][a-z-]+", line):
                assert option in options, f"{name} {option}"


def test_every_command_is_in_the_readme():
    """Nobody has to find a command by chance."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in commands():
        if name.split()[0] in {"config", "db", "models", "outputs", "demo", "labels"}:
            continue
        assert f"ichnode {name}" in text, name
    for group in ("config", "db", "models", "outputs", "labels"):
        assert f"ichnode {group} " in text, group
    assert "make demo" in text


def test_every_reason_is_explained_to_the_operator():
    """operating.md says of each reason not to analyse what it usually means."""
    text = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    for reason in Reason:
        assert f"`{reason.code}`" in text, reason.code
