"""A corpus made of other corpora: a folder with a link to each part, and `mix.json`, which names each part's reader."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from common.errors import CorruptFileError, PrivFedTalkError
from common.files import write_text
from preparation.settings import CorpusKind, CorpusPart

MIX_NAME = "mix.json"


def named(parts: Iterable[CorpusPart]) -> dict[str, CorpusPart]:
    """The parts by the names of their links: the part's kind, numbered where a kind occurs several times."""
    names: dict[str, CorpusPart] = {}
    seen: Counter[str] = Counter()
    for part in parts:
        seen[part.kind] += 1
        names[part.kind.value if seen[part.kind] == 1 else f"{part.kind.value}-{seen[part.kind]}"] = part
    return names


def link_part(root: Path, name: str, target: Path) -> None:
    """Make `<root>/<name>` lead to the folder of a part that is already there."""
    if not target.is_dir():
        raise PrivFedTalkError(
            f"the folder {target} of the part {name} does not exist", remedy="check the path given as --part"
        )
    root.mkdir(parents=True, exist_ok=True)
    link = root / name
    if link.is_symlink():
        link.unlink()
    elif link.exists():
        shutil.rmtree(link)  # clips that an earlier run cut here
    link.symlink_to(target.resolve(), target_is_directory=True)


def own_part(root: Path, name: str) -> Path:
    """The folder of a part whose clips are made here; a link in its place is removed, so that nothing is written to the
    link's target."""
    folder = root / name
    if folder.is_symlink():
        folder.unlink()
    return folder


def write_parts(root: Path, kinds: Mapping[str, CorpusKind]) -> None:
    """Write the parts to `mix.json`, the one whose clients get guests first; remove links that are no longer a part."""
    for path in root.iterdir():
        if path.is_symlink() and path.name not in kinds:
            path.unlink()
    write_text(root / MIX_NAME, json.dumps({name: kind.value for name, kind in kinds.items()}, indent=1) + "\n")


def read_parts(root: Path) -> dict[str, CorpusKind]:
    """The kind of each part by its name, in order."""
    path = root / MIX_NAME
    if not path.exists():
        raise PrivFedTalkError(f"{root} is no mix: it holds no {MIX_NAME}", remedy="make it first: privfedtalk prepare")
    try:
        return {name: CorpusKind(kind) for name, kind in json.loads(path.read_text(encoding="utf-8")).items()}
    except (ValueError, AttributeError) as error:
        raise CorruptFileError(f"{path} names no parts: {error}", remedy="delete it, run the corpus step") from error
