"""Pretrained networks from a hub, each pinned to a revision, so that an id means the same in every run.

An id is `owner/name@revision`, with the folder inside the repository as a third part where there is one
(`owner/name/vae@revision`). The revision is a commit's 40 hex digits, or `main` for the newest state, whose commit is
then recorded. Networks that this project names itself are pinned in `PINNED` and need no revision. Only configuration
and safetensors are fetched, never code and nothing that would be unpickled. A local folder may be named instead: by its
path, or by its name where it lies among the other weights (`common.weights.registry.folders`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from common.errors import CorruptFileError, MissingWeightError, PrivFedTalkError
from common.weights.registry import folders

PINNED = {
    "facebook/wav2vec2-base-960h": "22aad52d435eb6dbaf354bdad9b0da84ce7d6156",
    "openai/whisper-tiny": "169d4a4341b33bc18d8881c4b69c2e104e1cc0af",
    "stabilityai/sd-vae-ft-mse": "31f26fdeee1355a5c34592e401dd41e45d25a493",
    "stable-diffusion-v1-5/stable-diffusion-v1-5": "451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
}
"""The commits that several public projects pin for these repositories."""

MAIN = "main"
NAMED = {"whisper-tiny.en": f"openai/whisper-tiny.en@{MAIN}"}
"""The ids of networks that are asked for by a folder's name, for where no such folder lies among the weights."""

_ID = re.compile(r"(?P<repository>[A-Za-z0-9][\w.-]*/[\w.-]+)(?:/(?P<folder>[\w.-]+))?(?:@(?P<revision>[^@]*))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_STEMS = ("diffusion_pytorch_model", "model")
_FILES = ("config.json", *(f"{stem}{end}" for stem in _STEMS for end in (
    ".safetensors", ".safetensors.index.json", "-[0-9]*-of-[0-9]*.safetensors")))  # fmt: skip
"""A network's configuration and weights, without variants in other precisions."""


@dataclass(frozen=True)
class HubNetwork:
    """A network inside a repository of the hub; `folder` is empty where it lies at the top."""

    repository: str
    folder: str
    revision: str

    def __str__(self) -> str:
        return f"{self.repository}{'/' * bool(self.folder)}{self.folder}@{self.revision}"


@dataclass(frozen=True)
class Loaded:
    """What was loaded for a run: its source as given, the commit (None for a local folder), and the files' hash."""

    source: str
    revision: str | None
    sha256: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def parse_hub_id(source: str, key: str) -> HubNetwork:
    """The network that an id, or a name of `NAMED`, stands for, at its pinned revision.

    Raises MissingWeightError where the text cannot be an id (such as a folder that does not exist), PrivFedTalkError
    where the id pins no commit; `key` is the setting that holds it.
    """
    source = NAMED.get(source, source)
    found = _ID.fullmatch(source)
    if found is None or source.startswith(".") or ".." in source:
        raise MissingWeightError(
            f"there is no folder {source} for {key}",
            remedy="name a folder that `save_pretrained` wrote, or a hub id owner/name@revision",
        )
    repository, revision = found["repository"], found["revision"] or PINNED.get(found["repository"])
    if found["revision"] == "" or revision is None:
        raise PrivFedTalkError(
            f"{key}={source} does not say which revision of {repository} is meant, so that it may change",
            remedy=f"pin it: {source.rstrip('@')}@<the commit's 40 hex digits>; {source.rstrip('@')}@{MAIN} takes "
            "whatever is there today and records the commit",
        )
    if revision != MAIN and not _COMMIT.fullmatch(revision):
        raise PrivFedTalkError(
            f"{key}={source} names the revision {revision!r}, which may be moved",
            remedy=f"name a commit by its 40 hex digits, or {MAIN}",
        )
    return HubNetwork(repository, found["folder"] or "", revision)


def local_folder(source: str) -> Path | None:
    """The folder that `source` is the path of, or its name among the weights; None where there is none."""
    named = Path(source).expanduser()
    among_weights = [] if named.parent != Path() else [folder / source for folder in folders()]
    return next((place for place in (named, *among_weights) if place.is_dir()), None)


def find_network(source: str, key: str, inner: str | None = None) -> tuple[Path, str | None]:
    """The folder of the network that `source` names, fetched where it is the hub's, and its commit, if it has one.

    `inner` is the network's folder where `source` is a whole pipeline. Raises what `parse_hub_id` and `fetch_hub` do.
    """
    if folder := local_folder(source):
        return _own_folder(folder, inner), None
    return fetch_hub(parse_hub_id(source, key), inner)


def version_of(source: str, key: str, inner: str | None = None) -> str:
    """A text that changes if the network's weights change: a hash of a local folder's files, or the hub's revision."""
    if folder := local_folder(source):
        return files_sha256(network_files(_own_folder(folder, inner)))
    return str(parse_hub_id(source, key))


def _own_folder(folder: Path, inner: str | None) -> Path:
    """The network's own folder: `inner` if `folder` holds a pipeline, which has an index file, else `folder` itself."""
    return folder / inner if inner and (folder / "model_index.json").exists() else folder


@contextmanager
def loading(failed: str, remedy: str) -> Iterator[None]:
    """Turn what a library raises while it fetches or loads a network into a MissingWeightError: `failed` and why."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        raise MissingWeightError(f"{failed}: {str(error).strip().splitlines()[0]}", remedy) from error


def fetch_hub(network: HubNetwork, inner: str | None = None) -> tuple[Path, str]:
    """The local folder of a network, downloaded where the cache does not have it, and its commit.

    `inner` is the folder inside the repository, for an id that names none. Raises MissingWeightError where the hub
    cannot be reached or has no such network, CorruptFileError where it answers with another commit.
    """
    import huggingface_hub

    folder = network.folder or inner or ""
    wanted = [f"{folder}/{name}" if folder else name for name in _FILES]
    with loading(
        f"{network} cannot be had from the hub",
        "give a folder that `save_pretrained` wrote with safetensors, or try again while the hub can be reached",
    ):
        snapshot = Path(
            huggingface_hub.snapshot_download(network.repository, revision=network.revision, allow_patterns=wanted)
        )
    commit = snapshot.name
    if not _COMMIT.fullmatch(commit) or network.revision not in (MAIN, commit):
        raise CorruptFileError(
            f"for {network} the hub's cache gave {snapshot}, which is not of that commit", remedy="delete that folder"
        )
    place = snapshot / folder
    if not (place / "config.json").is_file() or not network_files(place)[1:]:
        raise MissingWeightError(
            f"{network} holds no config.json with weights in safetensors", remedy="name the folder: owner/name/folder"
        )
    return place, commit


def network_files(folder: Path) -> list[Path]:
    """The files that define the network in a folder: its configuration and weights."""
    return sorted(path for pattern in ("config.json", "*.safetensors") for path in folder.glob(pattern))


def files_sha256(paths: Iterable[Path]) -> str:
    """One hash of files' names and contents."""
    total = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            total.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


def loaded_from(source: str, folder: Path, commit: str | None) -> Loaded:
    """The record of a network that was loaded from `folder`."""
    return Loaded(source, commit, files_sha256(network_files(folder)))
