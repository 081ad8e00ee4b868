"""Loading autoencoders from a run's folder, the registry of weights, a diffusers folder, or the hub.

A pretrained network's weights are copied into the run's model folder, with the revision and sha256 of the source. The
run then needs neither the source folder nor the internet again, its workers may run on other machines, and a later
change on the hub does not affect it. The largest copy in use has 335 MB, which is little beside a corpus.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from common.errors import CorruptFileError, PrivFedTalkError
from common.weights import registry as weights
from common.weights.hub import find_network, loaded_from, loading, local_folder, parse_hub_id, version_of
from training.model.autoencoders.base import Autoencoder
from training.model.autoencoders.diffusers_kind import CLASSES, DiffusersAutoencoder
from training.model.autoencoders.small import SmallVae
from training.model.autoencoders.taesd import Taesd, read_taesd
from training.settings import VaeSettings

SMALL = "small"
KEY = "training.vae.source"
REGISTERED = {"taef2": ("taef2_encoder", "taef2_decoder")}
"""Sources that are names of registered files: encoder, decoder."""


def load_autoencoder(folder: Path) -> Autoencoder:
    """Read what any autoencoder's `save` wrote, ready for inference."""
    if not (folder / "config.json").exists():
        raise PrivFedTalkError(f"{folder} holds no autoencoder", remedy="make it first: privfedtalk prepare")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kind = config.pop("kind", SMALL)
    model: Autoencoder
    if kind == SMALL:
        model = SmallVae(VaeSettings(**config))
    elif kind == "taesd":
        model = Taesd(config.pop("encoder"), config.pop("decoder"), config)
    elif kind == "diffusers":
        model = DiffusersAutoencoder(config.pop("diffusers"), config)
    else:
        raise CorruptFileError(f"{folder}/config.json names the kind {kind!r}", remedy="run the vae stage again")
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model.eval().requires_grad_(False)


def open_pretrained(source: str) -> Autoencoder:
    """The network that `training.vae.source` names, its latents not yet standardised.

    Raises `MissingWeightError` if a file is absent or the hub cannot be reached, `CorruptFileError` if a folder holds
    something else.
    """
    check_source(source)
    if source in REGISTERED:
        paths = [weights.find(name) for name in REGISTERED[source]]
        facts = {"source": source, "sha256": [weights.REGISTRY[name].sha256 for name in REGISTERED[source]]}
        model: Autoencoder = read_taesd(paths[0], paths[1], facts)
    else:
        model = _from_diffusers(source, *find_network(source, KEY))
    return model.eval().requires_grad_(False)


def check_source(source: str) -> None:
    """Raise an error for an unusable source at once, before hours of other work. A hub id is parsed, not looked up."""
    if source in REGISTERED:
        for name in REGISTERED[source]:
            weights.find(name)
    elif source == SMALL:
        return
    elif folder := local_folder(source):
        _diffusers_config(folder)
    else:
        parse_hub_id(source, KEY)


def source_version(source: str) -> str:
    """A string that changes if the weights of a source change; for a hub id, if its revision changes."""
    if source in REGISTERED:
        return " ".join(str(weights.REGISTRY[name].sha256) for name in REGISTERED[source])
    return source if source == SMALL else version_of(source, KEY)


def _from_diffusers(source: str, place: Path, commit: str | None) -> DiffusersAutoencoder:
    import diffusers

    with loading(
        f"the autoencoder {source} cannot be loaded",
        "give a folder that diffusers' `save_pretrained` wrote with safetensors, or a hub id while the hub can be "
        "reached; `--vae small` needs neither",
    ):
        config = dict(diffusers.AutoencoderKL.load_config(str(place)))
        kind = config.get("_class_name")
        if kind not in CLASSES:
            raise CorruptFileError(f"{source} holds a {kind}", remedy=f"choose an {' or an '.join(CLASSES)}")
        network = getattr(diffusers, kind).from_pretrained(str(place), use_safetensors=True)
    facts = {name: value for name, value in loaded_from(source, place, commit).to_json().items() if value is not None}
    plain = {key: value for key, value in config.items() if key in dict(network.config) or key == "_class_name"}
    model = DiffusersAutoencoder(plain, facts)
    model.network.load_state_dict(network.float().state_dict())
    return model


def _diffusers_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if config["_class_name"] in CLASSES:
            return config
        reason = f"holds a {config['_class_name']}"
    except (OSError, ValueError, KeyError, TypeError):
        reason = "holds no config.json of diffusers"
    raise CorruptFileError(
        f"{folder} {reason}", remedy=f"name the folder that `save_pretrained` of an {' or an '.join(CLASSES)} wrote"
    )
