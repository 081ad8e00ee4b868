"""The one way to a person's clips: every reader of shards or crops names its use, and the consent records are asked.

training    training on the clips, and attacks that train on them or on what is derived from them
generation  making or showing the person's face: evaluation, pictures on a page, reconstructions, a client's own adapter

    gate = Gate(run, "generation", settings.consent.required)
    for client in gate.admit(clients, "evaluation"):
        for sample in gate.samples(client, "test"): ...    # of `preparation.shards.gate.Gate`, which reads shards too

Preparation reads clips without asking: it makes crops and shards before anybody's consent is recorded, and making them
neither learns nor shows anything. A test lists the modules that may do so.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass

from common.errors import PrivFedTalkError
from common.folders import RunFolder
from common.text.commands import command
from preparation.clients.consent import Use, objection_to, objections
from preparation.crops.crop import Crop, has_crop, load_crop

_reported: set[tuple[str, str, str, str]] = set()
"""What was already written to standard error: a reason is given once for each purpose, not at every epoch."""


@dataclass(frozen=True)
class CropGate:
    """Access to one run's crops for one use. `required`: whether a client needs a record (`training.consent.required`).

    Records are read at every question, so that a revocation holds at once, even while a federation runs.
    """

    run: RunFolder
    use: Use
    required: bool = True

    def objection(self, name: str) -> str | None:
        """Why somebody's clips must not be read for this use, or None."""
        return objection_to(self.run, name, self.use, self.required)

    def refused(self, names: Iterable[str]) -> dict[str, str]:
        """Those of the names whose clips must not be read for this use, each with the reason."""
        return objections(self.run, names, self.use, self.required)

    def admit(self, names: Iterable[str], purpose: str) -> list[str]:
        """The names that may be read, in their order; the others are named on standard error, with the reason."""
        names = list(names)
        refused = self.refused(names)
        for name, reason in refused.items():
            refusal = (str(self.run.root), purpose, name, reason)
            if refusal not in _reported:
                _reported.add(refusal)
                sys.stderr.write(f"consent: {name} is left out of {purpose}: no {self.use} ({reason})\n")
        return [name for name in names if name not in refused]

    def check(self, name: str) -> None:
        """Raise PrivFedTalkError where somebody's clips must not be read for this use."""
        reason = self.objection(name)
        if reason is not None:
            raise PrivFedTalkError(
                f"{name} has not agreed to {self.use}: {reason}",
                f"go on without {name}, or ask, then: " + command("consent grant", name, run=self.run.root, who="NAME"),
            )

    def crop(self, name: str, clip_id: str) -> Crop:
        """A clip's crop; `name` is the client or person who has the clip. Raises where it must not be read."""
        self.check(name)
        return load_crop(self.run.crops_of(clip_id), clip_id.rpartition("/")[2])

    def has_crop(self, clip_id: str) -> bool:
        """Whether a clip has a crop; the crop is not read."""
        return has_crop(self.run.crops_of(clip_id), clip_id.rpartition("/")[2])
