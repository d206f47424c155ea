"""A validation as a page for people and as JSON, and what a commission refers to of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from ichnode import __version__
from ichnode.domain.errors import ConfigurationError
from ichnode.service.validating import FORMAT, KIND
from ichnode.spool import write_durable

PAGE, FIGURES = "validation.html", "validation.json"


def write_validation(folder: Path, result: Mapping[str, Any]) -> Path:
    """Write page and figures into a folder and return the page."""
    text = json.dumps(result, indent=1, sort_keys=True, allow_nan=False) + "\n"
    write_durable(folder / FIGURES, text.encode())
    write_durable(folder / PAGE, render(result).encode())
    return folder / PAGE


def render(result: Mapping[str, Any]) -> str:
    """Return the page: one file that loads nothing."""
    template = files("ichnode.service").joinpath("templates/validation.html.j2")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.from_string(template.read_text(encoding="utf-8"))
    return page.render(v=result, version=__version__, percent=percent, duration=duration)


def percent(share: float) -> str:
    """Return a share in words; only all of them is 100 %, and only none is 0 %."""
    if 0 < share < 0.001:
        return "< 0.1 %"
    if 0.999 < share < 1:
        return "> 99.9 %"
    return f"{100 * share:.1f} %"


def duration(seconds: float) -> str:
    """Return a time in words."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


@dataclass(frozen=True, slots=True)
class Reference:
    """What a commission keeps of a validation."""

    digest: str
    sentence: str


def refer_to(path: Path, model_uid: str) -> Reference:
    """Return what a commission of a model keeps of a validation.

    Raises
    ------
    ConfigurationError
        When the file is no validation, or one of another model.
    """
    try:
        raw = path.read_bytes()
        result = json.loads(raw)
        if result["kind"] != KIND or result["format"] != FORMAT:
            raise ValueError("another kind")
        of = str(result["model"]["model_uid"])
        sentence = summary(result)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, KeyError, TypeError):
        raise ConfigurationError(
            f"{path.name} is no validation of this version; `ichnode validate` writes one."
        ) from None
    if of != model_uid:
        raise ConfigurationError(
            f"{path.name} is of the model {of}, and {model_uid} runs; run `ichnode validate` again."
        )
    digest = hashlib.sha256(raw).hexdigest()
    return Reference(digest, f"Validation {result['created'][:10]} (sha256 {digest}): {sentence}")


def summary(result: Mapping[str, Any]) -> str:
    """Return a validation in one sentence."""
    urgent = result["any"]["urgent"]
    words = f"{result['labelled']} labelled of {result['studies']['analysed']} analysed studies"
    if result["simulated"]:
        words = f"SIMULATED DATA, {words}"
    told = [f"{name} {_told(urgent[name])}" for name in ("sensitivity", "specificity")]
    return f"{words}; called urgent: {', '.join(told)}."


def _told(share: Mapping[str, Any]) -> str:
    if share["value"] is None:
        return "unknown"
    return f"{percent(share['value'])} ({percent(share['low'])} to {percent(share['high'])})"
