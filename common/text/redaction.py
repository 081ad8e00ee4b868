"""Remove names from a run's records: a removed person becomes `forgotten-1` in every record, so that counts and rounds
can still be checked.

Records are read as JSON, so that names are replaced and equal words of the format are not; in text a name is replaced
where it stands as a word. There is no list of keys that hold names: any key or list may.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.files import replacing

RECORDS, TEXTS = {".json", ".jsonl"}, {".md", ".txt", ".csv", ".html"}
LEFT_ALONE = ("corpus", "models", "stages", "clients")
"""Folders without records of other people: the clips, networks of the public split, digests; and people's own folders,
which are removed whole or name nobody else."""
FORGOTTEN = re.compile(r"forgotten-(\d+)")
WORDS = frozenset(
    {
        *("client", "clients", "returned", "dropped", "left_out", "survivors", "round", "rounds", "outcome", "reason"),
        *("method", "mode", "sampling", "score", "settings", "seconds", "metrics", "simulation", "losses", "weights"),
        *("faults", "lost", "simulated_seconds", "privacy", "verdict", "violations", "mark", "epsilon_release"),
        *("epsilon_server", "delta", "noise_multiplier", "clip_norm", "parameters", "base", "adapter"),
    }
)
"""Keys of the records' own format; such a key is a person's name only among names of people."""
FORMAT_VALUES = frozenset({"method", "outcome", "mode", "sampling", "accountant_release", "accountant_server"})
"""Keys whose values are words of the format."""


def pseudonyms(root: Path, people: Sequence[str]) -> dict[str, str]:
    """`forgotten-N` for each of these people, counting on from those of earlier removals."""
    used = [
        int(number)
        for path in _files(root)
        for number in FORGOTTEN.findall(path.read_text(encoding="utf-8", errors="replace"))
    ]
    first = max(used, default=0) + 1
    return {name: f"forgotten-{first + index}" for index, name in enumerate(sorted(people))}


def redact_run(root: Path, names: Mapping[str, str], clips: Iterable[str] = ()) -> list[Path]:
    """Replace names of people, and ids of single clips of people who stay, in every record and text below `root`;
    return the changed files."""
    gone = {clip: _renamed(clip, names) or f"{clip.rpartition('/')[0]}/forgotten-clip" for clip in clips} | dict(names)
    if not gone:
        return []
    pattern = re.compile("|".join(rf"(?<![\w-]){re.escape(name)}(?![\w-])" for name in _longest_first(gone)))
    changed = []
    for path in _files(root):
        before = path.read_text(encoding="utf-8", errors="surrogateescape")
        if not any(name in before or json.dumps(name)[1:-1] in before for name in gone):
            continue
        after = _redacted_file(path.suffix, before, gone, pattern)
        if after != before:
            with replacing(path) as partial:
                partial.write_text(after, encoding="utf-8", errors="surrogateescape")
            changed.append(path)
    return changed


def redacted(value: Any, gone: Mapping[str, str], pattern: re.Pattern[str], key: str = "") -> Any:
    """A JSON value with names replaced in keys, lists and text; `key` is the key under which it stands."""
    if isinstance(value, str):
        if key in FORMAT_VALUES and value in gone:
            return value
        return _renamed(value, gone) or pattern.sub(lambda found: gone[found[0]], value)
    if isinstance(value, list):
        return [redacted(item, gone, pattern) for item in value]
    if isinstance(value, dict):
        format_words = [name for name in value if name in WORDS]
        keys_are_people = len(format_words) < len(value) and all(name in gone for name in format_words)
        return {
            (_renamed(name, gone) or name) if keys_are_people or name not in WORDS else name: redacted(
                item, gone, pattern, name
            )
            for name, item in value.items()
        }
    return value


def _redacted_file(suffix: str, text: str, gone: Mapping[str, str], pattern: re.Pattern[str]) -> str:
    if suffix in RECORDS:
        try:
            if suffix == ".jsonl":
                return "".join(
                    json.dumps(redacted(json.loads(line), gone, pattern), ensure_ascii=False) + "\n"
                    for line in text.splitlines()
                )
            return json.dumps(redacted(json.loads(text), gone, pattern), indent=1, ensure_ascii=False) + "\n"
        except ValueError:  # a line that a killed process left half written
            pass
    return pattern.sub(lambda found: gone[found[0]], text)


def _renamed(value: str, gone: Mapping[str, str]) -> str:
    """The new name of a person, or of one of their clips; empty where it is neither."""
    person, slash, clip = value.partition("/")
    if value in gone:
        return gone[value]
    return f"{gone[person]}/clip" if slash and clip and person in gone else ""


def _longest_first(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: (-len(name), name))


def _files(root: Path) -> Iterator[Path]:
    for top in sorted(root.iterdir()):
        found = [top, *sorted(top.rglob("*"))] if top.name not in LEFT_ALONE else []
        yield from (path for path in found if path.suffix in RECORDS | TEXTS and path.is_file())
