"""Loading a backbone's pretrained parts from a folder that diffusers wrote, or from the hub."""

from __future__ import annotations

from typing import Any

from common.errors import CorruptFileError
from common.weights.hub import Loaded, find_network, loaded_from, loading, local_folder, parse_hub_id, version_of
from training.settings import BackboneSettings


def check_sources(settings: BackboneSettings) -> None:
    """Raise an error for an unusable source at once, before hours of other work. A hub id is parsed, not looked up."""
    if settings.kind == "sd15":
        for source, inner in ((settings.sd15.source, "unet"), (settings.sd15.motion, None)):
            if source and local_folder(source) is None:
                parse_hub_id(source, _key(inner))


def sources_version(settings: BackboneSettings) -> str:
    """A string that changes if the weights of the sources change; for a hub id, if its revision changes."""
    if settings.kind != "sd15":
        return ""
    return " ".join(
        version_of(source, _key(inner), inner)
        for source, inner in ((settings.sd15.source, "unet"), (settings.sd15.motion, None))
        if source
    )


def load_network(kind: Any, source: str, inner: str | None) -> tuple[Any, Loaded]:
    """A network from a local folder or the hub, and the facts about its source; `inner` is its folder in a pipeline."""
    place, commit = find_network(source, _key(inner), inner)
    with loading(
        f"the {kind.__name__} {source} cannot be loaded",
        "give a folder that diffusers' `save_pretrained` wrote with safetensors, or a hub id while the hub can be "
        "reached",
    ):
        held = kind.load_config(str(place)).get("_class_name")
        if held != kind.__name__:
            raise CorruptFileError(f"{source} holds a {held}", remedy=f"choose a {kind.__name__}")
        network = kind.from_pretrained(str(place), use_safetensors=True).float()
    return network, loaded_from(source, place, commit)


def _key(inner: str | None) -> str:
    return f"training.backbone.sd15.{'source' if inner else 'motion'}"
