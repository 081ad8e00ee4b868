"""Figures of an inversion: PSNR and identity of the faces found, compared with the mean face, and the pictures."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy import stats

from common.errors import MissingWeightError
from common.files import replacing, write_text
from common.folders import INVERSION, INVERSION_FACES, INVERSION_SHEET, RunFolder
from evaluation.attacks.inversion_run import GUESSED, KNOWN, ONE_STEP, ROUND, Attacked, InversionSettings, attack
from evaluation.attacks.inversion_views import NOISY, RAW, SUM
from evaluation.figures.charts import contact_sheet
from evaluation.measuring.significance import Values, standard_error
from evaluation.metrics.arrays import Floats, Frames
from evaluation.metrics.fidelity import psnr
from evaluation.metrics.identity import cosine_to
from evaluation.metrics.interface import Embedder
from training.federation.methods import configure
from training.model.autoencoders.base import Autoencoder, to_pixels
from training.model.autoencoders.sources import load_autoencoder
from training.model.frozen.mobilefacenet import MobileFaceNetEmbedder
from training.model.frozen.rulers import IdentityRuler
from training.settings import TrainingSettings

TRUTH, MEAN_FACE = "truth", "mean face"
MOST_DB = 60.0
LONG = {ONE_STEP: "One step on one window", ROUND: "A round's local steps"}
SHORT = {(ONE_STEP, KNOWN): "step, known", (ONE_STEP, GUESSED): "step, guessed", (ROUND, GUESSED): "round"}
SHORT_VIEW = {RAW: "raw", SUM: "sum", NOISY: "noisy"}


@dataclass(frozen=True)
class Mean:
    """A mean over clients with Student's 95 % interval."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Values) -> Mean:
        half = float(stats.t.ppf(0.975, len(values) - 1)) * standard_error(values)
        return cls(float(values.mean()), float(values.mean()) - half, float(values.mean()) + half)


@dataclass(frozen=True)
class Leak:
    """The figures of one view of the update for one attacker.

    gain: PSNR minus that of the mean face, client by client. identity: for each network, the cosine to the true face.
    identity_gain: that cosine minus the mean face's. recognised: how many of the faces found are most like their own
    client, among the attacked clients and by the run's own network. stalled: how many of the `searches` stalled.
    """

    update: str
    sees: str
    knows: str
    cosine: float
    psnr: Mean
    gain: Mean
    identity: dict[str, Mean]
    identity_gain: dict[str, Mean]
    recognised: int
    searches: int
    stalled: int

    @property
    def tells(self) -> bool:
        """Whether the view surely reveals more of the face than the mean face does."""
        return self.gain.low > 0


def judge(
    attacked: Attacked, vae: Autoencoder, embedders: Mapping[str, Embedder]
) -> tuple[list[Leak], Leak, dict[str, Frames]]:
    """All leaks, the baseline of an attacker without an update, and decoded faces uint8 [N, H, W, 3] by row."""
    count = len(attacked.clients)
    truth = vae.decode_latents(attacked.truth)
    mean = vae.decode_latents(attacked.mean_face[None].expand(count, -1, -1, -1))
    own = {name: network.embed(truth) for name, network in embedders.items()}

    def compare(frames: Frames) -> tuple[Values, dict[str, Values], int]:
        embedded = {name: network.embed(frames) for name, network in embedders.items()}
        cosines = {
            name: np.array([cosine_to(one[None], true)[0] for one, true in zip(found, own[name], strict=True)])
            for name, found in embedded.items()
        }
        own_network = next(iter(embedders))
        alike = np.stack([cosine_to(own[own_network], one) for one in embedded[own_network]])
        recognised = int((alike.argmax(1) == np.arange(count)).sum())
        # The PSNR of equal pictures is infinite.
        return np.minimum(psnr(frames, truth), MOST_DB), cosines, recognised

    base, base_cosines, _ = compare(mean)

    def leak(update: str, sees: str, knows: str, cosines: list[float], stalled: int, frames: Frames) -> Leak:
        near, alike, recognised = compare(frames)
        identity = {name: Mean.of(values) for name, values in alike.items()}
        gains = {name: Mean.of(values - base_cosines[name]) for name, values in alike.items()}
        return Leak(
            update, sees, knows, float(np.mean(cosines)), Mean.of(near), Mean.of(near - base), identity, gains,
            recognised, len(cosines), stalled,
        )  # fmt: skip

    faces, leaks = {TRUTH: truth, MEAN_FACE: mean}, []
    for one in attacked.attacks:
        found = vae.decode_latents(one.faces)
        leaks.append(leak(one.update, one.sees, one.knows, one.cosines, one.stalled, found))
        faces[row_of(leaks[-1])] = found
    return leaks, leak("none", "nothing", "the public split", [0.0], 0, mean), faces


def run_inversion(
    run: RunFolder, method: str, training: TrainingSettings, seed: int, settings: InversionSettings
) -> dict[str, Any]:
    """Attack the method's clients and write the figures to the run's `attacks/inversion/METHOD`."""
    attacked = attack(run, method, training, seed, settings)
    privacy = configure(method, training).privacy
    about = {
        "method": method,
        "settings": settings.shown(),
        "asked": training.consent.required,
        "privacy": {name: getattr(privacy, name) for name in ("mode", "noise_multiplier", "clip_norm")},
    }
    vae = load_autoencoder(run.model("vae"))
    return write(run.attack("inversion", method), attacked, vae, embedders_of(run), about)


def row_of(leak: Leak) -> str:
    """A short name for the row of faces."""
    return f"{SHORT[leak.update, leak.knows]}: {SHORT_VIEW[leak.sees]}"


def sentences(leaks: Sequence[Leak]) -> list[str]:
    """A sentence for each update and attacker: what each view reveals, and whether the raw update leaks more than the
    noisy sum, where no search stalled."""
    lines = []
    for update, knows in dict.fromkeys((leak.update, leak.knows) for leak in leaks):
        views = {leak.sees: leak for leak in leaks if (leak.update, leak.knows) == (update, knows)}
        parts = "; ".join(f"{leak.sees} {_finding(leak)}" for leak in views.values())
        tail = ""
        if NOISY in views and (views[RAW].stalled or views[NOISY].stalled):
            tail = " No comparison: a search stalled."
        elif NOISY in views:
            more = views[RAW].gain.low > views[NOISY].gain.high
            tail = f" The raw update {'leaks' if more else 'does not leak'} visibly more than what the server sees."
        lines.append(f"{LONG[update]}, {knows}: {parts}.{tail}")
    return lines


def _finding(leak: Leak) -> str:
    gain = f"{leak.gain.mean:+.1f} dB [{leak.gain.low:+.1f}, {leak.gain.high:+.1f}] to the mean face"
    if leak.stalled == leak.searches:
        return f"is undecided: the search stalled, from which nothing follows ({gain})"
    some = f"; {leak.stalled} of {leak.searches} searches stalled" if leak.stalled else ""
    if leak.tells:
        return f"tells something of the face ({gain}{some})"
    return f"is undecided ({gain}{some})" if some else f"tells nothing for sure ({gain})"


def write(
    folder: Path, attacked: Attacked, vae: Autoencoder, embedders: Mapping[str, Embedder], about: Mapping[str, Any]
) -> dict[str, Any]:
    """Write `inversion.json`, `inversion.png` (labelled rows) and `faces.png` (rows alone); return the JSON content."""
    leaks, nothing, faces = judge(attacked, vae, embedders)
    document = {
        **about,
        "clients": attacked.clients,
        "cohort": attacked.cohort,
        "baseline": asdict(nothing),
        "leaks": [{**asdict(leak), "tells": leak.tells, "row": row_of(leak)} for leak in leaks],
        "sentences": sentences(leaks),
        "rows": list(faces),
    }
    grid = np.concatenate([np.concatenate(list(row), axis=1) for row in faces.values()])
    pictures = {INVERSION_SHEET: contact_sheet(list(faces.items()), len(attacked.clients)), INVERSION_FACES: grid}
    for name, picture in pictures.items():
        with replacing(folder / name) as partial:
            Image.fromarray(picture).save(partial, format="PNG")
    write_text(folder / INVERSION, json.dumps(document, indent=1, allow_nan=False) + "\n")
    return document


class Pretrained:
    """A pretrained torch network as an `Embedder`."""

    def __init__(self, network: MobileFaceNetEmbedder) -> None:
        self.network = network

    @torch.inference_mode()
    def embed(self, frames: Frames) -> Floats:
        """Frames uint8 [T, H, W, 3] -> unit embeddings float32 [T, D]."""
        return self.network(to_pixels(frames)).numpy()


def embedders_of(run: RunFolder) -> dict[str, Embedder]:
    """The run's own identity ruler and, where its weights are available, a published network."""
    found: dict[str, Embedder] = {"ruler": IdentityRuler.load(run.model("rulers") / "identity")}
    with contextlib.suppress(MissingWeightError):
        found["MobileFaceNet"] = Pretrained(MobileFaceNetEmbedder.load())
    return found
