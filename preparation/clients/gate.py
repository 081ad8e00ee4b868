"""The one way to a person's clips: every reader of shards or crops says for what, and the consent records are asked.

training    steps on the clips, and attacks that train on them or on what they tell
generation  making or showing the person's face: evaluation, pictures on a page, reconstructions, a client's own adapter

    gate = Gate(run, "generation", settings.consent.required)
    for client in gate.admit(clients, "evaluation"):
        for sample in gate.samples(client, "test"): ...    # of `preparation.shards.gate.Gate`, which reads shards too

Preparation reads clips without asking: crops and shards are made of the clips that a run was given before anybody's
answer is recorded, and nothing is learnt or shown by making them. Which modules those are, a test lists.
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

_told: set[tuple[str, str, str, str]] = set()
"""What was said on standard error already: a reason is given once for each purpose, not at every epoch."""


@dataclass(frozen=True)
class CropGate:
    """What one run may be read for. `required`: whether a client's silence is a no (`training.consent.required`).

    Records are read at every question, so that what is revoked while a federation runs holds from then on.
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
            said = (str(self.run.root), purpose, name, reason)
            if said not in _told:
                _told.add(said)
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
        """A clip's crop, where `name` is whose clip it is now; raises where it must not be read."""
        self.check(name)
        return load_crop(self.run.crops_of(clip_id), clip_id.rpartition("/")[2])

    def has_crop(self, clip_id: str) -> bool:
        """Whether a clip has a crop; nothing of it is read."""
        return has_crop(self.run.crops_of(clip_id), clip_id.rpartition("/")[2])
