"""A folder of ready HDTF clips, flat or in folders, as most copies are handed on."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from preparation.corpora.candidate import Candidate, distinct_names, safe_name
from preparation.corpora.folder import claim_of
from preparation.corpora.hdtf.names import cut_of
from preparation.corpora.walking import walk
from preparation.settings import CorpusSettings, HdtfSpeaker


def find(root: Path, settings: CorpusSettings) -> Iterator[Candidate]:
    """Every clip below `root`, in a fixed order; see `HdtfSpeaker` for who speaks.

    A clip is called `<video>_<cut>`, so that `preparation.corpora.sources` knows which ones are neighbours. A file
    whose name says nothing of a cut belongs to the speaker that a plain folder would give it.
    """
    paths = [PurePosixPath(path.relative_to(root).as_posix()) for path in walk(root, settings.extensions)]
    claims = [(path, *_claim(path, settings)) for path in paths]
    speakers = distinct_names({claim: "-".join(claim) for _, claim, _ in claims})
    taken = Counter((claim, name) for _, claim, name in claims)
    for path, claim, name in claims:
        # A second copy of a cut is a clip of its own; with a number in the cut's place it stays its video's neighbour.
        if taken[claim, name] > 1:
            digest = hashlib.sha256(str(path).encode("utf-8", "surrogateescape")).hexdigest()
            name = f"{name.rpartition('_')[0] or name}_{int(digest[:12], 16)}"
        yield Candidate(path=str(path), speaker=speakers[claim], name=safe_name(name))


def _claim(path: PurePosixPath, settings: CorpusSettings) -> tuple[tuple[str, ...], str]:
    """Speaker and name; `WDA_KatieHill/000.mp4` is read like `WDA_KatieHill_000.mp4`."""
    stem = f"{path.parts[-2]}_{path.stem}" if path.stem.isdigit() and len(path.parts) > 1 else path.stem
    cut = cut_of(stem)
    if cut is None:
        return claim_of(path, settings.speaker_rule), path.stem
    speaker = cut.person if settings.hdtf_speaker is HdtfSpeaker.PERSON else cut.video
    return (speaker,), f"{cut.video}_{cut.number}"
