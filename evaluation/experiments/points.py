"""What a point is: a federation in a world and what is measured of it; its file holds all its figures.

A point's file is JSON lines, one a figure: `role` and `person` say whose it is (a figure of the whole federation has
the role "federation"), `stage` when in the training it was measured, `metric` and `value` what it is. Each line also
says which point it belongs to. The file is written whole or not at all, and its name has a digest of all that decides
the figures: a file with the name is the point, and a point under other settings has another name.
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
"""Whose figure a row is: a client's, that of somebody who did not train, or one of the federation as a whole."""
FINAL, PERSONAL = "final", "personal"
"""Stages beside the rounds: after the last round, and after a client fitted the shared adapter to its own clips."""


class World(Protocol):
    """People and frozen networks in a run's folder, in which points train federations; made once for all of them."""

    @property
    def folder(self) -> RunFolder:
        """Where the clients' clips, the table of people and the networks lie."""
        ...

    @property
    def needs(self) -> tuple[World, ...]:
        """The worlds that this one is made from, in the order in which they are made."""
        ...

    @property
    def ready(self) -> bool:
        """Whether the world is whole."""
        ...

    def make(self) -> None:
        """Make the world; what an earlier process left of it is finished or replaced."""
        ...


class Measurement(Protocol):
    """What is measured of a federation that was trained. It travels to other processes."""

    def __call__(self, trained: Trained) -> Iterable[Row]:
        """A row for each figure, as the module's docstring says."""
        ...


@dataclass(frozen=True)
class Federation:
    """How clients of a world are trained: a method under `training`, the settings before the method's own are put in.

    `method` None trains nobody: the untrained adapter, which is the frozen backbone. `without` are the numbers of
    clients who sit out, in the order of their names; of the others `most` take part (None: all). `personal_steps` is
    how long each client fits the last shared adapter to its own clips. `validated` measures every round on public
    people, which is needed where `federation.keep` is "best". An empty `device` is the one of the settings.
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

    `about` stands in each of the file's lines. `scratch` is a folder for what is needed only until the point is made.
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
        """Where the point's file lies."""
        return self.folder / f"{self.name}.jsonl"


def write_rows(path: Path, head: Mapping[str, Any], rows: Iterable[Row]) -> Path:
    """Write a point's file: each row with what all of them share."""
    return write_text(path, "".join(json.dumps({**head, **row}) + "\n" for row in rows))


def read_rows(path: Path) -> list[Row]:
    """The rows of a point's file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def digest_of(*parts: str) -> str:
    """Sixteen hex digits of some texts, for the name of a file that they decide."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
