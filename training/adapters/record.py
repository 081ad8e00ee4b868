"""`privfedtalk.json`, the record of how an adapter was made: its allowed entries, and those that are exported."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from common.errors import CorruptFileError
from common.folders import RunFolder
from common.text.foreign import one_line

UNNAMED = "a client of another run"
"""Shown in place of the client's name where the run does not know whom an adapter is fitted to."""
OWN_ADAPTER = "NOT PRIVATE: fitted to one client's clips without noise; it must stay with that client"
"""The privacy statement of adapters that are fitted to one client."""
OWN_ADAPTERS = "one in each client's folder"
"""The record of the shared adapter says this in methods that send nothing: the trained adapters are the clients'."""


def _matches(pattern: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


def _folder_name(value: Any) -> bool:
    return (
        isinstance(value, str)
        and 0 < len(value) <= 255
        and value not in {".", ".."}
        and not {"/", "\\"} & set(value)
        and not any(unicodedata.category(each) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for each in value)
    )


COUNT = r"[0-9]{1,9}"
ALLOWED: dict[str, Callable[[Any], bool]] = {
    "base_sha256": _matches(r"[0-9a-f]{64}"),
    "parameters": lambda value: type(value) is int and value > 0,
    "method": _matches(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"),
    "privacy": lambda value: isinstance(value, str),
    "clients": _matches(COUNT),
    "rounds_planned": _matches(COUNT),
    "round": _matches(COUNT),
    "federated": _matches("no"),
    "own_adapters": _matches(re.escape(OWN_ADAPTERS)),
    "federation": _matches(r"[0-9a-f]{16}"),
    "theta_sha256": _matches(r"[0-9a-f]{64}"),
    "begun_from": _matches(r"[0-9a-f]{64}"),
    "client": _folder_name,
    "client_digest": _matches(r"[0-9a-f]{64}"),
}
"""The entries that are read, with the check of their values; all other entries are ignored."""
AT_HOME = frozenset({"client", "federation", "theta_sha256", "begun_from"})
"""Entries that are useful only in the run that trained the adapter (see `training.adapters.origin`)."""


def read_record(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The known entries of an adapter's record, text on one line; raises CorruptFileError for an invalid entry."""
    for name, allowed in ALLOWED.items():
        if name in values and not allowed(values[name]):
            raise CorruptFileError(
                f"the adapter in {folder} is refused: {name} is {one_line(values[name])}",
                "get it again from its maker, or use another",
            )
    if "base_sha256" not in values:
        raise CorruptFileError(f"the adapter in {folder} does not say its backbone: base_sha256", "get it again")
    record = {name: values[name] for name in ALLOWED if name in values}
    if "privacy" in record:
        record["privacy"] = one_line(record["privacy"])
    return record


def to_travel(record: Mapping[str, Any], weights_sha256: str) -> dict[str, Any]:
    """The record for export: the client to whom an adapter is fitted is named by a digest, not by name.

    A run that has the client recognises the digest, so the client's consent still decides. The digest does not hide
    the name: anybody with a list of names can try them.
    """
    travelling = {name: value for name, value in record.items() if name not in AT_HOME}
    if "client" in record:
        travelling["client_digest"] = digest_of(record["client"], weights_sha256)
    return travelling


def digest_of(client: str, weights_sha256: str) -> str:
    return hashlib.sha256(f"{weights_sha256} {client}".encode()).hexdigest()


def client_in(run: RunFolder | None, record: Mapping[str, Any], weights_sha256: str) -> str | None:
    """The client to whom the adapter is fitted: the name if the record or `run` knows it, else `UNNAMED`; None for a
    shared adapter."""
    if "client" in record or "client_digest" not in record:
        return record.get("client")
    folders = run.client("any").parent.glob("*/") if run is not None else ()
    for folder in folders:
        if digest_of(folder.name, weights_sha256) == record["client_digest"]:
            return folder.name
    return UNNAMED
