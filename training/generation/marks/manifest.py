"""The C2PA manifest of a generated clip: that it is synthetic, and by which model and adapter."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from common.text.foreign import one_line
from training.generation.marks.identity import Identity

SYNTHETIC = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
MADE_BY = "org.privfedtalk.model"
"""Our own assertion, which names the model."""
MIME = "video/mp4"


@dataclass(frozen=True)
class Maker:
    """The weights that generated a clip: SHA-256 of the base model and of the adapter's file, and their names."""

    model_sha256: str
    adapter_sha256: str
    method: str
    adapter: str

    def payload(self) -> bytes:
        """The watermark's six bytes: the first three bytes of each hash."""
        return bytes.fromhex(self.model_sha256[:6] + self.adapter_sha256[:6])


@dataclass(frozen=True)
class ReadManifest:
    """The content of a manifest.

    `valid`: the signature is correct and the file is unchanged since it was signed. `trusted`: a known authority
    certified the signer. `failures` are C2PA's codes; `maker` is None if another program signed the file. All text
    comes from the signer and is untrusted.
    """

    valid: bool
    trusted: bool
    synthetic: bool
    signer: str
    title: str
    maker: Maker | None
    failures: list[str]


def attach(source: Path, target: Path, maker: Maker, identity: Identity, title: str) -> None:
    """Write the mp4 `source` to `target` with a signed manifest in it; no network is used."""
    from c2pa import Builder, C2paSignerInfo, Signer

    info = C2paSignerInfo("es256", identity.chain.encode(), identity.key.encode(), None)
    with (
        Signer.from_info(info) as signer,
        Builder(json.dumps(_claim(maker, title))) as builder,
        source.open("rb") as unsigned,
        target.open("w+b") as signed,
    ):
        builder.sign(signer, MIME, unsigned, signed)


def read_manifest(path: Path) -> ReadManifest | None:
    """The file's manifest and whether it is valid (a damaged one is not); None if the file has none."""
    from c2pa import C2paError, Reader

    try:
        with path.open("rb") as stream:
            reader = Reader.try_create(stream)
            if reader is None:
                return None
            with reader:
                store = json.loads(reader.json())
    except C2paError.NotSupported:
        return None  # a container format that cannot hold a manifest
    except C2paError as error:
        return _unreadable(error)
    try:
        return _read(store)
    except (AttributeError, KeyError, TypeError) as error:  # perhaps signed, but not in a form that C2PA specifies
        return _unreadable(error)


def _read(store: dict[str, Any]) -> ReadManifest:
    """The content of a manifest store; its texts come from the signer, so each is reduced to one line."""
    manifest = store["manifests"][store["active_manifest"]]
    assertions = {each["label"]: each["data"] for each in manifest.get("assertions", [])}
    state = store.get("validation_state", "Invalid")
    signature = manifest.get("signature_info", {})
    return ReadManifest(
        valid=state in ("Valid", "Trusted"),
        trusted=state == "Trusted",
        synthetic=_says_synthetic(assertions),
        signer=one_line(signature.get("common_name") or signature.get("issuer") or "unnamed"),
        title=one_line(manifest.get("title", "")),
        maker=_maker_in(assertions.get(MADE_BY)),
        failures=[one_line(each["code"]) for each in store.get("validation_status", [])],
    )


def _unreadable(error: Exception) -> ReadManifest:
    return ReadManifest(False, False, False, "unnamed", "", None, [f"unreadable: {one_line(error)}"])


def _claim(maker: Maker, title: str) -> dict[str, Any]:
    created = {
        "action": "c2pa.created",
        "digitalSourceType": SYNTHETIC,
        "softwareAgent": {"name": "PrivFedTalk", "version": version("privfedtalk")},
    }
    return {
        "claim_generator_info": [{"name": "PrivFedTalk", "version": version("privfedtalk")}],
        "title": title,
        "format": MIME,
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": [created]}},
            {"label": MADE_BY, "data": asdict(maker)},
        ],
    }


def _says_synthetic(assertions: dict[str, Any]) -> bool:
    actions = [
        action
        for label in ("c2pa.actions", "c2pa.actions.v2")
        for action in assertions.get(label, {}).get("actions", [])
    ]
    return any(action.get("digitalSourceType") == SYNTHETIC for action in actions)


def _maker_in(data: dict[str, Any] | None) -> Maker | None:
    names = [field.name for field in fields(Maker)]
    if not data or not all(name in data for name in names):
        return None
    return Maker(**{name: one_line(data[name]) for name in names})
