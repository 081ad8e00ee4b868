"""Pictures that show at a glance whether a stage went well: first frames of clips, faces through the autoencoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from common.files import replacing
from common.folders import RunFolder

if TYPE_CHECKING:
    from preparation.corpora.clip import Clip
    from preparation.settings import MediaSettings

Frame = npt.NDArray[np.uint8]


def shown(folder: RunFolder, clips: Sequence[Clip]) -> list[Clip]:
    """The clips of people whose consent record, if any, does not forbid showing them."""
    from preparation.shards.gate import Gate

    speakers = {clip.speaker for clip in clips}
    refused = Gate(folder, "generation", required=False).refused(sorted(speakers))
    return [clip for clip in clips if clip.speaker not in refused]


def first_frames(
    clips: Sequence[Clip], corpus_root: Path, limits: MediaSettings | None = None, count: int = 6
) -> list[Frame]:
    """The first frame of `count` clips, spread evenly over the manifest: 96 pixels high, and grey if a clip cannot be
    read."""
    from preparation.media.container import DEFAULT_LIMITS
    from preparation.media.previews import moments

    places = sorted({round(place) for place in np.linspace(0, len(clips) - 1, count)}) if clips else []
    paths = [clips[place].path for place in places]
    return [moments(corpus_root / path, [0], limits=limits or DEFAULT_LIMITS, what=path)[0] for path in paths]


def save_coded_faces(folder: RunFolder, count: int = 6) -> None:
    """Save a sheet of held-out public speakers' faces, above the same faces through the autoencoder.

    Crops that cannot be read are left out.
    """
    from PIL import Image

    from preparation.clients.roles import load_people, of_role
    from preparation.media.previews import for_show
    from preparation.shards.gate import Gate
    from training.model.autoencoders.sources import load_autoencoder

    people, gate = load_people(folder), Gate(folder, "generation", required=False)
    agreed = gate.admit(of_role(people, "public"), "the sheet of coded faces")
    held_out = [(name, clip) for name in agreed for clip in people[name].splits["validation"]]
    faces: list[Frame] = []
    for name, clip in [(name, clip) for name, clip in held_out if gate.has_crop(clip)][:count]:
        with for_show(f"the crop of {clip}"):
            faces.append(next(gate.crop(name, clip).frames()))
    coded_faces(folder).unlink(missing_ok=True)
    if not faces:
        return
    import torch

    truth = np.stack(faces)
    model = load_autoencoder(folder.model("vae"))
    coded = model.decode_latents(torch.from_numpy(model.encode_frames(truth)))
    rows = np.concatenate([np.hstack(list(truth)), np.hstack(list(coded))])
    with replacing(coded_faces(folder)) as partial:
        Image.fromarray(rows).save(partial, "PNG")


def coded_faces(folder: RunFolder) -> Path:
    """The path of that sheet: not in a model's folder, because later stages must not depend on a picture."""
    return folder.root / "pictures" / "coded_faces.png"
