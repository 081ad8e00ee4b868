"""Public networks of another run, used as they are: for a corpus without public people, such as one's own recording.

`training.public_run` names the other run. Its autoencoder, rulers and backbone are copied with their cards, and rounds
are compared on its held-out public speakers. Nobody of the corpus then needs to be public.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Literal

from common.errors import PrivFedTalkError
from common.files import replacing_folder
from common.folders import NETWORK_WEIGHTS, RunFolder
from common.weights.hub import files_sha256
from preparation.clients.roles import load_people, of_role
from preparation.corpora.manifest import load_manifest
from preparation.corpora.twins import copies_of
from training.model.backbones.interface import BackboneShape
from training.model.backbones.kinds import shape_of, window_of
from training.settings import TrainingSettings

Network = Literal["vae", "rulers", "backbone"]


def lender(settings: TrainingSettings) -> RunFolder | None:
    """The run that lends its public networks, if there is one."""
    return None if settings.public_run is None else RunFolder(settings.public_run)


def with_public_people(run: RunFolder, settings: TrainingSettings) -> RunFolder:
    """The run whose public people the networks learned from: the lender, or the run itself."""
    return lender(settings) or run


def borrow(run: RunFolder, settings: TrainingSettings, network: Network) -> bool:
    """Copy a lent network with its card into the run; False where nobody lends one."""
    source = lender(settings)
    if source is None:
        return False
    check_lender(settings)
    with replacing_folder(run.model(network)) as partial:
        shutil.copytree(source.model(network), partial, dirs_exist_ok=True)
    return True


def lent_version(settings: TrainingSettings, network: Network) -> list[str]:
    """A digest of the lent network's files, in a list that is empty where nobody lends one."""
    source = lender(settings)
    if source is None:
        return []
    check_lender(settings)
    return [files_sha256(sorted(path for path in source.model(network).rglob("*") if path.is_file()))]


def check_lender(settings: TrainingSettings) -> None:
    """Raise PrivFedTalkError where the lender lacks a network, or public speakers on whom rounds can be compared."""
    source = lender(settings)
    if source is None:
        return
    remedy = "name a run whose training has begun (training.public_run), or train one: privfedtalk train"
    homes = [source.model("vae"), source.model("rulers") / "opening", source.model("rulers") / "identity"]
    for home in (*homes, source.model("backbone")):
        if not (home / NETWORK_WEIGHTS).exists():
            raise PrivFedTalkError(f"{source.root} has no {home.relative_to(source.model(''))} to lend", remedy)
    people = load_people(source)
    if not any(people[name].splits["validation"] for name in of_role(people, "public")):
        raise PrivFedTalkError(f"{source.root} has no held-out public speaker", remedy)


def taught_by(run: RunFolder, settings: TrainingSettings) -> list[str]:
    """The run's clips that are recordings of people who taught the lent networks: these networks promise them nothing,
    and figures measured on them are of people who trained."""
    source = lender(settings)
    if source is None:
        return []
    public = set(of_role(load_people(source), "public"))
    theirs = [clip for clip in load_manifest(source.manifest) if clip.speaker in public]
    return copies_of(load_manifest(run.manifest), theirs)


def misfits(settings: TrainingSettings, shape: BackboneShape) -> Iterator[str]:
    """In what the lent backbone was made for other samples than those of `shape`, which the run's samples have."""
    source = lender(settings)
    if source is None:
        return
    home = source.model("backbone")
    lent = shape_of(home)
    sizes = {field: (getattr(shape, field), getattr(lent, field)) for field in BackboneShape.model_fields}
    sizes["window"] = (settings.backbone.window, window_of(home))
    for field, (ours, theirs) in sizes.items():
        if ours != theirs:
            yield f"{field.replace('_', ' ')} {ours} where the lent backbone has {theirs}"
