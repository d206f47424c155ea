"""Write docs/configuration.md from the settings and from the comments of deploy/ichnode.toml.

The defaults and limits come from ``ichnode/settings``, the reasons from the commented file, so
that neither is told twice. A test compares the result with what is kept: run

    python docs/write_configuration.py

after a change of either.
"""

from __future__ import annotations

import json
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path

import annotated_types
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from ichnode.settings import DESTINATIONS, Section, Settings

ROOT = Path(__file__).parents[1]
COMMENTED_FILE = ROOT / "deploy" / "ichnode.toml"
PAGE = ROOT / "docs" / "configuration.md"

INTRODUCTION = """\
# Configuration

<!-- Written by docs/write_configuration.py; a test compares. Change deploy/ichnode.toml or
     ichnode/settings instead. -->

One commented TOML file, `/etc/ichnode/ichnode.toml`, below environment variables, below `--set` on
the command line. [The file that ships](../deploy/ichnode.toml) holds every setting and its default.

* Another file: `ichnode --config FILE ...`, or the variable `ICHNODE_CONFIG`. A file that was named
  and is not there is an error.
* A variable for every setting: `ICHNODE_SECTION__KEY`, as in `ICHNODE_RECEIVE__PORT=104`. Lists and
  destinations are written as JSON: `ICHNODE_RECEIVE__NETWORKS='["10.1.2.0/24"]'`.
* For one command: `ichnode --set receive.port=104 run`; may be repeated. Lists are written as TOML.
* A misspelt key, variable or `--set` is an error that names the nearest right one.
* `ichnode config check` says whether it is right; `ichnode config show` shows every value and where
  it came from.
* A change takes effect when the roles are restarted.
"""


def main() -> None:
    """Write the page."""
    PAGE.write_text(render(), encoding="utf-8")


def render() -> str:
    """Return the page as it has to be."""
    reasons = dict(_reasons(COMMENTED_FILE.read_text(encoding="utf-8")))
    parts = [INTRODUCTION]
    for name, field in Settings.model_fields.items():
        many = name in DESTINATIONS
        section = DESTINATIONS.get(name, field.annotation)
        if not (isinstance(section, type) and issubclass(section, Section)):
            raise TypeError(f"{name} is no section")
        title = f"## `[[{name}]]`, one block each" if many else f"## `[{name}]`"
        parts += [title, *_table(name, section, reasons)]
    return "\n".join(parts)


def _table(name: str, section: type[Section], reasons: dict[str, str]) -> Iterator[str]:
    yield "\n| key | default | allowed | |\n|---|---|---|---|"
    for key, field in section.model_fields.items():
        why = reasons[f"{name}.{key}"].replace("|", "\\|")
        yield f"| `{key}` | {_default(field)} | {_allowed(field)} | {why} |"
    yield ""


def _reasons(text: str) -> Iterator[tuple[str, str]]:
    """Yield (dotted name, the comment above it) for every setting of the commented file."""
    section, comment, settled = "", [], False
    for line in text.splitlines():
        if header := re.fullmatch(r"#?\[+(\w+)\]+", line):
            section, comment = header[1], []
        elif setting := re.match(r"#(\w+) = ", line):
            yield f"{section}.{setting[1]}", " ".join(comment)
            settled = True
        elif not line:
            comment = []
        elif line.startswith("# "):
            comment = [line[2:]] if settled else [*comment, line[2:]]
            settled = False


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "must be given"
    if field.default_factory is not None:
        return "the host's name"
    value = field.default
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, Path):
        value = str(value)
    return f"`{json.dumps(value)}`"


def _allowed(field: FieldInfo) -> str:
    if typing.get_origin(field.annotation) is typing.Literal:
        return ", ".join(f'`"{choice}"`' for choice in typing.get_args(field.annotation))
    limits = []
    for limit in field.metadata:
        match limit:
            case annotated_types.Ge(ge=least):
                limits.append(f"at least {least}")
            case annotated_types.Gt(gt=over):
                limits.append(f"more than {over}")
            case annotated_types.Le(le=most):
                limits.append(f"at most {most}")
            case _:
                pass
    return ", ".join([_kind(field.annotation), *limits])


def _kind(annotation: object) -> str:
    if typing.get_origin(annotation) is dict:
        return "table of whole numbers"
    if typing.get_origin(annotation) is tuple or isinstance(annotation, types.GenericAlias):
        return "list"
    names = {int: "whole number", float: "number", bool: "`true`, `false`", Path: "path"}
    return names.get(annotation, "text") if isinstance(annotation, type) else "text"


if __name__ == "__main__":
    main()
