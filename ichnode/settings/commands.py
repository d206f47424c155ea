"""A program of the site's own as a destination."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import ClassVar

from pydantic import Field, field_validator

from ichnode.domain.work import DeliveryKind
from ichnode.settings.destinations import Destination


class CommandSettings(Destination):
    """A program that is started for each alert."""

    way: ClassVar[str] = "command"

    timeout_s: float = Field(30.0, gt=0, le=300)
    """Then it is killed."""
    command: tuple[str, ...] = Field(min_length=1)
    """The program by its full path, and its arguments; no shell reads them."""
    phi: bool = False
    """Whether it may be told who the patient is."""

    @field_validator("command")
    @classmethod
    def _full_path(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not PurePosixPath(value[0]).is_absolute():
            raise ValueError("name the program by its full path")
        if any("\0" in word for word in value):
            raise ValueError("an argument holds no zero byte")
        return value

    @property
    def takes(self) -> frozenset[DeliveryKind]:
        """The alert."""
        return frozenset(("command",))

    @property
    def address(self) -> str:
        """The program; its arguments may hold what is nobody's business."""
        return self.command[0]

    @property
    def is_loopback(self) -> bool:
        """Never: where a program takes what it is told is not known."""
        return False
