"""Counts of who took part and what was left out, without names: the page is passed on, and names may be people's."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from statistics import median
from typing import Any

from preparation.clients.roles import SPLITS
from preparation.quarantine import QuarantineRow

NAMES = re.compile(
    r"""(?<!\w)'[^']*'(?!\w)|"[^"]*"|(?<!\S)/\S+|\S+\.(?:mp4|mov|avi|mkv|webm|wav|txt|json|safetensors)\b"""
)
"""Parts of a reason that may be a name: quoted words, absolute paths, file names."""
ROLES = {"public": "public people", "client": "clients", "unseen": "strangers", "volunteer": "volunteers"}
ONE = {"public": "public person", "client": "client", "unseen": "stranger", "volunteer": "volunteer"}


def counted(rows: Iterable[QuarantineRow]) -> list[dict[str, Any]]:
    """One row for all files that a step refused for the same reason, the most frequent first, without file names."""
    alike = Counter((row.step, nameless(row.reason, row.file), nameless(row.remedy, row.file)) for row in rows)
    return [
        {"step": step, "reason": reason, "remedy": remedy, "files": files}
        for (step, reason, remedy), files in alike.most_common()
    ]


def nameless(text: str, file: str) -> str:
    """A reason or remedy with the names of the file, of its folders and of whatever else may be named replaced by …"""
    path = PurePath(file)
    for name in sorted({file, path.name, path.stem, *path.parts}, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "…", text)
    return NAMES.sub("…", text)


def headcount(count: int, role: str) -> str:
    """The number of people of a role, in words: "8 clients", "1 stranger"."""
    return f"{count} {(ONE if count == 1 else ROLES)[role]}"


def roles_of(clients: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How many people have each role."""
    return {role: sum(client["role"] == role for client in clients) for role in ROLES}


def by_role(clients: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for each role that anybody has: the number of people, and the spread of their numbers of clips."""
    rows = []
    for role, label in ROLES.items():
        own = [client for client in clients if client["role"] == role]
        clips = sorted(sum(client.get(split, 0) for split in SPLITS) for client in own)
        if own:
            spread = {"fewest": clips[0], "median": median(clips), "most": clips[-1], "all": sum(clips)}
            rows.append({"role": label, "people": len(own), **spread})
    return rows
