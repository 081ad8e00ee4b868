"""Defines a point: a federation in a world and what is measured of it; and the format of the point's file.

A point's file is JSON lines, one for each figure: `role` and `person` say whose figure it is (a figure of the whole
federation has the role "federation"), `stage` when in the training it was measured, `metric` and `value` what it is.
Each line also names the point. The file is written whole or not at all, and its name has a digest of all that decides
the figures: if a file of that name exists, the point is made, and a point under other settings has another name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from common.files import write_text
from common.folders import RunFolder
from training.settings import TrainingSettings

if TYPE_CHECKING:
    from evaluation.experiments.trained import Trained

Row = dict[str, Any]

CLIENT, UNSEEN, FEDERATION = "client", "unseen", "federation"
"""Roles of rows: a figure of a client, of a person who did not train, or of the federation as a whole."""
FINAL, PERSONAL = "final", "personal"
"""Stages other than rounds: after the last round, and after a client fitted the shared adapter to its own clips."""


class World(Protocol):
    """People and frozen networks in a run's folder, on which points train federations; made once for all points."""

    @property
    def folder(self) -> RunFolder:
        """Where the clients' clips, the table of people and the networks lie."""
        ...

    @property
    def needs(self) -> tuple[World, ...]:
        """The worlds that this one is made from, in the order in which they must be made."""
        ...

    @property
    def ready(self) -> bool:
        """Whether the world is complete."""
        ...

    def make(self) -> None:
        """Make the world; an incomplete one of an earlier process is finished or replaced."""
        ...


class Measurement(Protocol):
    """Measures a trained federation. It is sent to other processes, so it must be picklable."""

    def __call__(self, trained: Trained) -> Iterable[Row]:
        """A row for each figure, as the module's docstring says."""
        ...


@dataclass(frozen=True)
class Federation:
    """How clients of a world are trained: a method and `training`, the settings before the method's own are applied.

    `method` None trains nobody and leaves the untrained adapter, which equals the frozen backbone. `without` has the
    numbers, in the order of names, of clients who sit out; of the others `most` take part (None: all).
    `personal_steps`: steps in which each client fits the last shared adapter to its own clips. `validated` measures
    every round on public people, which `federation.keep` "best" needs. An empty `device` means that of the settings.
    """

    method: str | None
    training: TrainingSettings
    seed: int
    without: tuple[int, ...] = ()
    most: int | None = None
    personal_steps: int = 0
    validated: bool = False
    device: str = "cpu"


@dataclass(frozen=True)
class Point:
    """One federation with its measurement; `name` is that of its file in `folder`, `label` is for people.

    `about` is written into each line of the file. `scratch` is a folder for files needed only until the point is made.
    """

    folder: Path
    name: str
    label: str
    world: World
    federation: Federation
    measurement: Measurement
    scratch: Path
    about: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.label

    @property
    def path(self) -> Path:
        """The point's file."""
        return self.folder / f"{self.name}.jsonl"


def write_rows(path: Path, head: Mapping[str, Any], rows: Iterable[Row]) -> Path:
    """Write a point's file: each row after `head`, the entries that all rows share; returns the path."""
    return write_text(path, "".join(json.dumps({**head, **row}) + "\n" for row in rows))


def read_rows(path: Path) -> list[Row]:
    """The rows of a point's file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def digest_of(*parts: str) -> str:
    """Sixteen hex digits of some texts, for the name of a file whose content depends on them."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
