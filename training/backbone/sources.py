"""Where a backbone's pretrained parts come from: a folder that diffusers wrote, or the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from preparation.errors import CorruptFileError, MissingWeightError
from training.diffusers_folders import HUB_ID, files_sha256, network_files
from training.settings import BackboneSettings


def check_sources(settings: BackboneSettings) -> None:
    """Refuse at once, before hours of other work, a source that is not there; a hub id is not looked up."""
    if settings.kind == "sd15":
        for key, source in (("source", settings.sd15.source), ("motion", settings.sd15.motion)):
            if source:
                _check(key, source)


def sources_version(settings: BackboneSettings) -> str:
    """Changes with the weights that the sources stand for; a hub id is pinned by the copy a run made of it."""
    if settings.kind != "sd15":
        return ""
    return " ".join(
        files_sha256(network_files(_network_folder(Path(source), inner))) if Path(source).is_dir() else source
        for source, inner in ((settings.sd15.source, "unet"), (settings.sd15.motion, None))
        if source
    )


def load_network(kind: Any, source: str, inner: str | None) -> Any:
    """A network of a local folder or the hub, where a pipeline keeps it in its folder `inner`."""
    _check("source" if inner else "motion", source)
    if Path(source).is_dir():
        place, options = str(_network_folder(Path(source), inner)), {}
    else:
        owner, name, *deeper = source.split("/")
        folder = deeper[0] if deeper else inner
        place, options = f"{owner}/{name}", {"subfolder": folder} if folder else {}
    try:
        held = kind.load_config(place, **options).get("_class_name")
        if held != kind.__name__:
            raise CorruptFileError(f"{source} holds a {held}", remedy=f"choose a {kind.__name__}")
        return kind.from_pretrained(place, use_safetensors=True, **options).float()
    except (OSError, ValueError, RuntimeError) as error:
        raise MissingWeightError(
            f"the {kind.__name__} {source} cannot be loaded: {str(error).strip().splitlines()[0]}",
            remedy="give a folder that diffusers' `save_pretrained` wrote with safetensors, or a hub id while the hub "
            "can be reached",
        ) from error


def _network_folder(folder: Path, inner: str | None) -> Path:
    """Where in a folder the network lies: a pipeline's has an index beside its networks' folders."""
    return folder / inner if inner and (folder / "model_index.json").exists() else folder


def _check(key: str, source: str) -> None:
    if not Path(source).is_dir() and not HUB_ID.fullmatch(source):
        raise MissingWeightError(
            f"there is no folder {source} for training.backbone.sd15.{key}",
            remedy="name a folder of diffusers' `save_pretrained`, or a hub id owner/name",
        )
