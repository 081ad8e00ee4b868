"""What was made of clips that the corpus no longer holds goes too: a person may have withdrawn consent.

The manifest decides. Crops, and notes of refusals, of clips that it does not name are removed, and the whole folder of
a person of whom it names none: crops, shards, what methods kept there. Shards of those who stay are written anew by the
shards step, models by the training steps, because what they depend on has changed; until then they know the clips that
are gone. A copy of the corpus that is only half there, or a narrower list of clips, removes as well: what comes back is
made again.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from preparation.crops import forget_crop
from preparation.folders import RunFolder
from preparation.manifest import load_manifest


@dataclass(frozen=True)
class Removed:
    """How many clips' crops or refusals went, and how many people's folders."""

    clips: int
    people: int


def remove_withdrawn(run: RunFolder) -> Removed:
    """Remove derived data of clips that are not in the run's manifest, and say so in a line."""
    named: dict[str, set[str]] = {}
    for clip in load_manifest(run.manifest):
        named.setdefault(clip.speaker, set()).add(clip.name)
    clips = people = 0
    # A folder with crops is a person's; simulated clients have shards alone, which `preparation.dealing` sees to.
    for crops in sorted(run.root.glob("clients/*/crops")):
        person = crops.parent.name
        gone = sorted(_names(crops) - named.get(person, set()))
        if person in named:
            for name in gone:
                forget_crop(crops, name)
        else:
            shutil.rmtree(crops.parent)
        clips += len(gone)
        people += person not in named
    if clips or people:
        whose = f" and the folders of {people} of their people" if people else ""
        sys.stderr.write(f"removed what was made of {clips} clips that the corpus no longer holds{whose}\n")
    return Removed(clips, people)


def _names(crops: Path) -> set[str]:
    """The clips that left anything here; a clip's name has no dot, and what begins with one is being written."""
    found = [*crops.iterdir(), *(crops / "refused").glob("*.json")]
    return {path.name.partition(".")[0] for path in found if path.is_file() and not path.name.startswith(".")}
