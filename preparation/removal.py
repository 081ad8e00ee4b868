"""What was made of clips that the corpus no longer holds: kept by default, removed where that is asked for.

A person may have withdrawn consent; then crops, and notes of refusals, of clips that the manifest does not name are to
go, and the whole folder of a person of whom it names none: crops, shards, what methods kept there. But a disk may also
be missing for a day, or a list of clips be narrower for once, and nobody's night of work should go with that. So it is
removed only on request (`preparation.corpus.forget_absent`, `privfedtalk prepare --forget`). Shards of those who stay
are written anew by the shards step either way; models know the clips that are gone until they are trained again.
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
class Absent:
    """Of how many clips that are not there something had been made, and how many people of these have no clip left."""

    clips: int
    people: int


def settle_absent(run: RunFolder, forget: bool) -> Absent:
    """Say in a line what the run holds of clips that are not in its manifest, and with `forget` remove it."""
    named: dict[str, set[str]] = {}
    for clip in load_manifest(run.manifest):
        named.setdefault(clip.speaker, set()).add(clip.name)
    clips = people = 0
    # A folder with crops is a person's; simulated clients have shards alone, which `preparation.dealing` sees to.
    for crops in sorted(run.root.glob("clients/*/crops")):
        person = crops.parent.name
        gone = sorted(_names(crops) - named.get(person, set()))
        clips += len(gone)
        people += person not in named
        if not forget:
            continue
        if person in named:
            for name in gone:
                forget_crop(crops, name)
        else:
            shutil.rmtree(crops.parent)
    if clips or people:
        whose = f" and the folders of {people} of their people" if people else ""
        what = f"what was made of {clips} clips that the corpus no longer holds{whose}"
        sys.stderr.write(f"removed {what}\n" if forget else f"kept {what}; `privfedtalk prepare --forget` removes it\n")
    return Absent(clips, people)


def _names(crops: Path) -> set[str]:
    """The clips that left anything here; a clip's name has no dot, and what begins with one is being written."""
    found = [*crops.iterdir(), *(crops / "refused").glob("*.json")]
    return {path.name.partition(".")[0] for path in found if path.is_file() and not path.name.startswith(".")}
