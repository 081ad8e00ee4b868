"""Fetch registered networks: streamed to a partial file, hashed on the way, moved into place only where the hash fits.

Nothing here runs unless a person asks for it by `privfedtalk weights fetch`: no stage downloads a registered network.
A file without a registered sha256 is refused unless the person accepts the first copy. That is trust on first use: it
says that later copies are the same, not that the first was good.
"""

from __future__ import annotations

import hashlib
import json
import re
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO

from common.errors import CorruptFileError, PrivFedTalkError
from common.files import replacing, write_text
from common.progress import track
from common.weights import registry as weights
from common.weights.registry import TRUSTED, Weight

TIMEOUT_SECONDS = 30.0
BLOCK_BYTES = 1 << 20


def fetch(name: str, into: Path | None = None, trust: bool = False) -> Path:
    """Download a registered network unless its file is there; return the path of the verified file.

    `into` is one of the folders that are looked in, by default the user's cache. Raises PrivFedTalkError where the
    address does not answer or no sha256 is known, CorruptFileError where the content has another sha256.
    """
    if name not in weights.REGISTRY:
        weights.find(name)  # the error that lists the known ones
    weight, folder = weights.REGISTRY[name], into or weights.folders()[-1]
    path = folder / weight.file
    expected = weight.sha256 or weights.trusted(folder).get(weight.file)
    if expected is None and not trust:
        raise PrivFedTalkError(
            f"no sha256 of {weight.file} is known, so nothing could tell the right file from a wrong one",
            remedy=f"to accept the first copy and hold later ones to it, `privfedtalk weights fetch {name} --trust`",
        )
    if not path.is_file():
        found = _download(weight, path, expected)
    elif (found := weights.sha256_of(path)) != (expected or found):
        raise CorruptFileError(
            f"{path} is not {weight.what}: its sha256 is {found}, not {expected}",
            remedy=f"delete {path} and fetch again",
        )
    if expected is None:
        _accept(folder, weight.file, found)
    return path


def address(weight: Weight) -> str:
    """The address to download `source` from; repository@commit:path means the file as committed."""
    repository = re.fullmatch(r"([\w.-]+/[\w.-]+)@([0-9a-f]{40}):(.+)", weight.source)
    return "https://raw.githubusercontent.com/{}/{}/{}".format(*repository.groups()) if repository else weight.source


def _download(weight: Weight, path: Path, expected: str | None) -> str:
    url, digest, size = address(weight), hashlib.sha256(), 0
    with replacing(path) as partial:
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer, partial.open("wb") as file:
                total = int(answer.headers.get("Content-Length") or weight.bytes or 0)
                blocks = -(-total // BLOCK_BYTES) or None
                for block in track(_blocks(answer), f"fetching {weight.file}", blocks, "MiB"):
                    digest.update(block)
                    size += file.write(block)
        except (OSError, HTTPException) as error:
            raise PrivFedTalkError(
                f"{url} cannot be fetched: {getattr(error, 'reason', None) or error}",
                remedy=f"fetch it on a machine that reaches it and copy it to {path}",
            ) from error
        if size < total:
            raise PrivFedTalkError(
                f"{url} broke off after {size} of {total} bytes", remedy="give the same command again"
            )
        if expected is not None and digest.hexdigest() != expected:
            raise CorruptFileError(
                f"{url} gave {size} bytes with sha256 {digest.hexdigest()}, registered is {expected}",
                remedy="nothing was kept; the file may have been replaced at its source: look for the registered one",
            )
    return digest.hexdigest()


def _blocks(answer: BinaryIO) -> Iterator[bytes]:
    while block := answer.read(BLOCK_BYTES):
        yield block


def _accept(folder: Path, file: str, sha256: str) -> None:
    write_text(folder / TRUSTED, json.dumps(weights.trusted(folder) | {file: sha256}, indent=1) + "\n")
