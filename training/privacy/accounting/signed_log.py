"""JSON lines that only grow: each is signed by the run's key, over itself and the signature before it.

Whoever checks the chain notices a line that was changed, taken out or put in. The key lies beside the lines, readable
by its owner alone: it protects against edits of the files by others, not by that owner. Names of people are not signed,
only their number, so that a pseudonym can replace the name of a person who is forgotten.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from common.errors import CorruptFileError

SIGNATURE = "signature"
PEOPLE = frozenset({"clients", "returned", "dropped", "reopened", "cohort", "simulation"})
"""Fields of a line that hold names of people."""
_PURPOSE = b"PrivFedTalk, a line of a run's log, version 1\x00"


@dataclass(frozen=True)
class RunKey:
    """The Ed25519 key of one run, kept in a file that only its owner may read."""

    private: Ed25519PrivateKey

    @classmethod
    def open(cls, path: Path) -> RunKey:
        """The key in `path`, made there at first use; processes that come first at the same time get the same key."""
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
                file.write(Ed25519PrivateKey.generate().private_bytes_raw().hex() + "\n")
            try:
                os.link(fresh, path)
            except FileExistsError:
                pass  # another process was first: its key is the run's
            finally:
                fresh.unlink()
        try:
            return cls(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(path.read_text(encoding="utf-8").strip())))
        except ValueError as error:
            raise CorruptFileError(f"{path} holds no key", "put the run's own key back; its records need it") from error

    def sign(self, line: Mapping[str, Any], before: str) -> str:
        """The signature of a line, hex, chained to the one before it ("" for the first)."""
        return self.private.sign(_text(line, before)).hex()

    def objection(self, lines: Iterable[Mapping[str, Any]]) -> str:
        """What shows that `lines` are not as this run wrote them; empty where they are."""
        public: Ed25519PublicKey = self.private.public_key()
        before = ""
        for number, line in enumerate(lines, start=1):
            signature = str(line.get(SIGNATURE, ""))
            try:
                public.verify(bytes.fromhex(signature), _text(line, before))
            except (InvalidSignature, ValueError):
                return f"line {number} was not signed by this run, or does not follow the line before it"
            before = signature
        return ""


def _text(line: Mapping[str, Any], before: str) -> bytes:
    plain = {name: value for name, value in line.items() if name != SIGNATURE and name not in PEOPLE}
    counts = {name: len(value) for name, value in line.items() if name in PEOPLE and name != "simulation"}
    return _PURPOSE + json.dumps([before, plain, counts], sort_keys=True, allow_nan=False).encode()
