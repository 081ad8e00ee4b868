"""Any folder of clips, flat or nested, with whatever names people give their files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from preparation.corpora.candidate import Candidate, distinct_names, safe_name
from preparation.corpora.walking import USUAL, walk
from preparation.settings import CorpusSettings, SpeakerRule


def find(root: Path, settings: CorpusSettings) -> Iterator[Candidate]:
    """Every file below `root` that may be a clip, in a fixed order; see `SpeakerRule` for who speaks."""
    paths = [PurePosixPath(path.relative_to(root).as_posix()) for path in walk(root, settings.extensions)]
    claims = [(path, claim_of(path, settings.speaker_rule)) for path in paths]
    speakers = distinct_names({claim: "-".join(claim) for _, claim in claims})
    sharing = Counter((claim, path.stem) for path, claim in claims)
    usual = Counter((claim, path.stem) for path, claim in claims if path.suffix.lower() in USUAL)
    for path, claim in claims:
        # Two files that differ only in their extension (or their folder) are two clips.
        alone = sharing[claim, path.stem] == 1 or (path.suffix.lower() in USUAL and usual[claim, path.stem] == 1)
        name = path.stem if alone else "-".join([*path.parts[:-1], path.stem, path.suffix.lstrip(".")])
        yield Candidate(path=str(path), speaker=speakers[claim], name=safe_name(name))


def claim_of(path: PurePosixPath, rule: SpeakerRule) -> tuple[str, ...]:
    """The speaker that a clip's path claims, as the names of folders, or the one file name, that the rule goes by;
    `path` is relative to the corpus root."""
    folders = path.parts[:-1]
    if rule is SpeakerRule.STEM or not folders:
        return (path.stem,)
    return {
        SpeakerRule.AUTO: folders,
        SpeakerRule.PARENT: folders[-1:],
        SpeakerRule.TOP: folders[:1],
    }[rule]
