"""A run's model made to talk: any portrait, any speech, any length, with the adapter of one client or of all.

    talker = open_talker(RunFolder(Path("data/demo")), configuration.training, configuration.preparation)
    talker.write(portrait.frame, sound, Path("talk.mp4"), seed=0)

What it writes says by itself that it is synthetic, see `training.generation.marks`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.errors import PrivFedTalkError
from common.files import partial_of, replacing
from common.folders import ADAPTER_WEIGHTS, RunFolder
from common.progress import Meter
from common.text.commands import command
from common.text.names import own_spelling
from preparation.clients.consent import check_generation
from preparation.media.rates import SAMPLES_PER_FRAME
from preparation.media.sound import fit_audio
from preparation.media.track.frames import Frame
from preparation.media.writing import encode
from preparation.settings import PreparationSettings
from preparation.speech.features import SpeechFeatures, features_of_part, open_speech
from training.adapters.adapter import load_adapted, weights_sha256
from training.adapters.folders import AdapterFacts, inspect_adapter
from training.adapters.origin import check_origin
from training.generation.frames import Advance, Generator
from training.generation.marks.identity import open_identity
from training.generation.marks.manifest import Maker, attach
from training.generation.marks.watermark import embed
from training.model.autoencoders.sources import load_autoencoder
from training.model.backbones.kinds import load_backbone
from training.model.device import open_device
from training.settings import TrainingSettings
from training.settings.marks import ProvenanceSettings

GLOBAL = "global"
"""The shared adapter's name where a client's own could stand."""


@dataclass(frozen=True)
class Talker:
    """A backbone with an adapter in it, the autoencoder, and the ear; `maker` says which weights these are, and
    `fitted_to` whose clips alone the adapter learned from, where its record names a client."""

    generator: Generator
    hear: SpeechFeatures
    device: torch.device
    maker: Maker
    provenance: ProvenanceSettings
    fitted_to: str | None

    def frames(
        self, portrait: Frame, sound: NDArray[np.int16], seed: int, sampled: Advance | None = None
    ) -> Iterator[Frame]:
        """Frames uint8 [H, W, 3] at 25 fps for a portrait of the run's crop size and a sound of 16 kHz mono, streamed;
        memory does not grow with their number. They come in bursts; `sampled` hears of the work between."""
        vae, count = self.generator.vae, frames_for(sound)
        reference = torch.from_numpy(vae.encode_frames(portrait[None])[0]).to(self.device)

        def hear(start: int, stop: int) -> Tensor:
            return torch.from_numpy(features_of_part(self.hear, sound, start, stop, count)).to(self.device)

        return self.generator.stream(reference, hear, count, seed, sampled=sampled)

    def write(self, portrait: Frame, sound: NDArray[np.int16], out: Path, seed: int, crf: int = 18) -> int:
        """Write `out` as mp4, H.264 with the sound as AAC, marked, whole or not at all; returns its count of frames."""
        count, settings = frames_for(sound), self.provenance
        identity = open_identity() if settings.manifest else None
        meter, steps = Meter("generating", count, "frames"), self.generator.settings.steps
        # A frame is done in equal parts by each step of sampling and by being drawn.
        drawn: Iterable[Frame] = self.frames(
            portrait, sound, seed, lambda frames: meter.advance(frames * steps / (steps + 1))
        )
        if settings.watermark:
            drawn = embed(drawn, self.maker.payload(), settings.watermark_key)
        shown = _counted(drawn, meter, 1 / (steps + 1))
        if identity is None:
            encode(shown, fit_audio(sound, count), out, crf=crf, made="a generated clip")
            return count
        unsigned = partial_of(out, "unsigned.partial")
        try:
            encode(shown, fit_audio(sound, count), unsigned, crf=crf, made="a generated clip")
            with replacing(out) as signed:
                attach(unsigned, signed, self.maker, identity, out.name)
        finally:
            unsigned.unlink(missing_ok=True)
        return count


def _counted(frames: Iterable[Frame], meter: Meter, each: float) -> Iterator[Frame]:
    for frame in frames:
        yield frame
        meter.advance(each)
    meter.close()


def frames_for(sound: NDArray[np.int16]) -> int:
    """How many frames a sound lasts; the last one may be heard in part."""
    return -(-len(sound) // SAMPLES_PER_FRAME)


def open_talker(
    run: RunFolder,
    training: TrainingSettings,
    preparation: PreparationSettings,
    method: str = "privfedtalk",
    adapter: str = GLOBAL,
    device: str = "auto",
    rendered: bool = False,
) -> Talker:
    """Load what a run trained. `adapter` is `global`, the method's shared adapter; a client, for its own; or the name
    of an imported one, whose own record says by which method it was made. `rendered`: nobody stands behind the run's
    faces, so that silence is consent.

    Raises PrivFedTalkError where the run holds no model, no such method or no such adapter, and where the client whom
    the adapter is fitted to did not agree to be generated.
    """
    if not (run.model("backbone") / "config.json").exists():
        raise PrivFedTalkError(
            f"{run.root} holds no trained model", f"{command('train', run=run.root)}, or name another run"
        )
    folder, chosen = adapter_folder(run, method, adapter), open_device(device)
    facts = agreed_facts(run, folder, adapter, training.consent.required and not rendered)
    backbone = load_backbone(run.model("backbone"))
    base = weights_sha256(backbone)
    adapted = load_adapted(backbone, folder, merged=True).to(chosen)
    vae = load_autoencoder(run.model("vae")).to(chosen)
    generator = Generator(adapted, vae, training.generation, training.objective.shared_noise)
    maker = Maker(base, facts.sha256, facts.method, _kind_of(facts, adapter))
    return Talker(generator, open_speech(preparation.speech), chosen, maker, training.provenance, facts.client)


def _kind_of(facts: AdapterFacts, adapter: str) -> str:
    """What a clip says of its adapter beside the hash: no name, for a clip travels, and names are people's."""
    if facts.client is not None:
        return "a client's own"
    return GLOBAL if adapter == GLOBAL else "imported"


def agreed_facts(run: RunFolder, folder: Path, adapter: str, required: bool) -> AdapterFacts:
    """What an adapter in `folder`, by the run's name for it, says of itself, if whom it is fitted to may be generated.

    A copy that was exported and imported again is still its client's: the record in it names the client. One whose
    client the run has never heard of passes, for consent was asked where it was exported.
    """
    adapter = adapter_name(run, adapter)
    if folder.is_relative_to(run.client(adapter)):  # before anything of it is read
        check_generation(run, adapter, required)
    facts = inspect_adapter(folder, run)
    client = facts.client or adapter
    if client != GLOBAL and run.client(client).exists():
        check_generation(run, client, required, adapter)
    return facts


def adapter_name(run: RunFolder, typed: str) -> str:
    """The run's own spelling of a client's or an imported adapter's name; as it was typed where there is none such."""
    known = (path.name for place in ("clients/*", "imported/*") for path in run.root.glob(place))
    return own_spelling(typed, [GLOBAL, *known]) or typed


def adapter_folder(run: RunFolder, method: str, adapter: str) -> Path:
    """Where an adapter of a run lies: `global`, the client whose own it is, or the name it was imported under.

    Raises PrivFedTalkError where there is none of that name, or one that the rounds beside it did not make.
    """
    adapter = adapter_name(run, adapter)
    if (run.imported(adapter) / ADAPTER_WEIGHTS).exists():
        return run.imported(adapter)
    trained = sorted(path.parents[1].name for path in run.root.glob(f"federation/*/adapter/{ADAPTER_WEIGHTS}"))
    if method not in trained:
        known = f"it has {', '.join(trained)}" if trained else "it has none"
        raise PrivFedTalkError(
            f"{run.root} holds no adapter of a method {method!r}; {known}",
            f"{command('train', run=run.root, method=method)}, or name another with --method",
        )
    if adapter == GLOBAL:
        check_origin(run, run.adapter(method))
        return run.adapter(method)
    folder = run.client_adapter(adapter, method)
    if not (folder / ADAPTER_WEIGHTS).exists():
        own = sorted(
            path.parents[3].name for path in run.root.glob(f"clients/*/methods/{method}/adapter/{ADAPTER_WEIGHTS}")
        )
        known = f"those of {method} who have: {', '.join(own)}" if own else f"nobody has under {method}"
        raise PrivFedTalkError(
            f"{adapter} has no adapter of its own; {known}",
            "use --adapter global, or train with training.federation.personalisation_steps, or --method local",
        )
    check_origin(run, folder)
    return folder
