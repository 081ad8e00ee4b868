"""Any folder of clips, flat or nested, with whatever names people give their files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from preparation.corpora.candidate import Candidate, safe_name
from preparation.settings import CorpusSettings, SpeakerRule


def find(root: Path, settings: CorpusSettings) -> Iterator[Candidate]:
    """Every file below `root` with a clip's extension, in a fixed order; see `SpeakerRule` for who speaks."""
    paths = [PurePosixPath(path.relative_to(root).as_posix()) for path in walk(root, settings.extensions)]
    claims = [(path, speaker_of(path, settings.speaker_rule)) for path in paths]
    shared = Counter((speaker, path.stem) for path, speaker in claims)
    for path, speaker in claims:
        # Two files that differ only in their extension (or their folder) are two clips.
        alone = shared[speaker, path.stem] == 1
        name = path.stem if alone else "-".join([*path.parts[:-1], path.stem, path.suffix.lstrip(".")])
        yield Candidate(path=str(path), speaker=safe_name(speaker), name=safe_name(name))


def speaker_of(path: PurePosixPath, rule: SpeakerRule) -> str:
    """The speaker that a clip's place claims; `path` is relative to the corpus root."""
    folders = path.parts[:-1]
    if rule is SpeakerRule.STEM or not folders:
        return path.stem
    return {
        SpeakerRule.AUTO: "-".join(folders),
        SpeakerRule.PARENT: folders[-1],
        SpeakerRule.TOP: folders[0],
    }[rule]


def walk(root: Path, extensions: tuple[str, ...]) -> Iterator[Path]:
    """Files with one of the extensions, sorted; links to folders are followed, but no folder twice.

    A broken link or one that points at itself is still yielded: opening it fails with a reason, and so it
    gets its row in the quarantine table instead of vanishing. So does a folder that cannot be listed.
    """
    wanted = {extension.lower() for extension in extensions}
    seen: set[Path] = set()
    pending = [root]
    while pending:
        folder = pending.pop()
        resolved = folder.resolve()
        if resolved in seen:
            continue
        seen.add(resolved)
        try:
            entries = sorted(folder.iterdir())
        except OSError:
            yield folder
            continue
        folders = []
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if _is_folder(entry):
                folders.append(entry)
            elif entry.suffix.lower() in wanted:
                yield entry
        pending.extend(reversed(folders))


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False
