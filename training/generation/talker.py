"""Generating talking heads with a run's model: any portrait, speech and length, with a client's or the shared adapter.

    talker = open_talker(RunFolder(Path("data/demo")), configuration.training, configuration.preparation)
    talker.write(portrait.frame, sound, Path("talk.mp4"), seed=0)

The written clip carries marks that say it is synthetic, see `training.generation.marks`.
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
"""The shared adapter's name, used in place of a client's."""


@dataclass(frozen=True)
class Talker:
    """A backbone with an adapter in it, the autoencoder, and the function that computes speech features.

    `maker` identifies the weights; `fitted_to` is the client to whom the adapter is fitted, if its record names one.
    """

    generator: Generator
    hear: SpeechFeatures
    device: torch.device
    maker: Maker
    provenance: ProvenanceSettings
    fitted_to: str | None

    def frames(
        self, portrait: Frame, sound: NDArray[np.int16], seed: int, sampled: Advance | None = None
    ) -> Iterator[Frame]:
        """Stream frames uint8 [H, W, 3] at 25 fps for a portrait of the run's crop size and a sound of 16 kHz mono.

        Memory does not grow with their number. Frames come in bursts; `sampled` is called with the progress in between.
        """
        vae, count = self.generator.vae, frames_for(sound)
        reference = torch.from_numpy(vae.encode_frames(portrait[None])[0]).to(self.device)

        def hear(start: int, stop: int) -> Tensor:
            return torch.from_numpy(features_of_part(self.hear, sound, start, stop, count)).to(self.device)

        return self.generator.stream(reference, hear, count, seed, sampled=sampled)

    def write(self, portrait: Frame, sound: NDArray[np.int16], out: Path, seed: int, crf: int = 18) -> int:
        """Write the marked clip as mp4 (H.264, AAC), as a whole or not at all; return its number of frames."""
        count, settings = frames_for(sound), self.provenance
        identity = open_identity() if settings.manifest else None
        meter, steps = Meter("generating", count, "frames"), self.generator.settings.steps
        # A frame's work is counted as steps + 1 equal parts: each sampling step, and writing the frame.
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
    """The number of frames that cover a sound; the last one may be covered in part."""
    return -(-len(sound) // SAMPLES_PER_FRAME)


def open_talker(
    run: RunFolder,
    training: TrainingSettings,
    preparation: PreparationSettings,
    method: str | None = None,
    adapter: str = GLOBAL,
    device: str = "auto",
    rendered: bool = False,
) -> Talker:
    """Load a run's model with an adapter.

    `adapter` is `global`, the method's shared adapter; a client's name, for its own adapter; or the name of an imported
    one, whose record says by which method it was made. `rendered`: the run's faces are rendered and belong to nobody,
    so that no consent record is required.

    Raises PrivFedTalkError if the run has no model, no such method or no such adapter, or if the client to whom the
    adapter is fitted did not agree to be generated.
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
    """The adapter's description in a clip's manifest; it has no names, since clips travel and names are people's."""
    if facts.client is not None:
        return "a client's own"
    return GLOBAL if adapter == GLOBAL else "imported"


def agreed_facts(run: RunFolder, folder: Path, adapter: str, required: bool) -> AdapterFacts:
    """The facts about the adapter in `folder`, after checking that its client agreed to be generated.

    `adapter` is the run's name for it. An exported and re-imported copy still belongs to its client, whom its record
    names. An adapter whose client is unknown to the run passes, since consent was checked where it was exported.
    """
    adapter = adapter_name(run, adapter)
    if folder.is_relative_to(run.client(adapter)):  # before any of its files is read
        check_generation(run, adapter, required)
    facts = inspect_adapter(folder, run)
    client = facts.client or adapter
    if client != GLOBAL and run.client(client).exists():
        check_generation(run, client, required, adapter)
    return facts


def adapter_name(run: RunFolder, typed: str) -> str:
    """A client's or an imported adapter's name in the run's own spelling; unchanged if the run has no such name."""
    known = (path.name for place in ("clients/*", "imported/*") for path in run.root.glob(place))
    return own_spelling(typed, [GLOBAL, *known]) or typed


def method_of(run: RunFolder, asked: str | None) -> str:
    """The method whose adapter is meant: `asked`, or else the only one that the run trained, or else PrivFedTalk."""
    trained = run.trained_methods
    return asked or (trained[0] if len(trained) == 1 else "privfedtalk")


def adapter_folder(run: RunFolder, method: str | None, adapter: str) -> Path:
    """The folder of a run's adapter: `adapter` is `global`, a client's name, or the name of an imported adapter.

    Without a `method` it is that of `method_of`. Raises PrivFedTalkError if the run has no such adapter, if the rounds
    beside it did not make it, or if the method shares none.
    """
    method = method_of(run, method)
    adapter = adapter_name(run, adapter)
    if (run.imported(adapter) / ADAPTER_WEIGHTS).exists():
        return run.imported(adapter)
    trained = run.trained_methods
    if method not in trained:
        known = f"it has {', '.join(trained)}" if trained else "it has none"
        raise PrivFedTalkError(
            f"{run.root} holds no adapter of a method {method!r}; {known}",
            f"{command('train', run=run.root, method=method)}, or name another with --method",
        )
    own = sorted(
        path.parents[3].name for path in run.root.glob(f"clients/*/methods/{method}/adapter/{ADAPTER_WEIGHTS}")
    )
    if adapter == GLOBAL:
        check_origin(run, run.adapter(method))
        if own and "own_adapters" in inspect_adapter(run.adapter(method)).recorded:
            raise PrivFedTalkError(
                f"under {method} each client trains alone, and no adapter is shared; own ones: {', '.join(own)}",
                f"--adapter {own[0]}",
            )
        return run.adapter(method)
    folder = run.client_adapter(adapter, method)
    if not (folder / ADAPTER_WEIGHTS).exists():
        known = f"under {method} these clients have one: {', '.join(own)}" if own else f"nobody has one under {method}"
        raise PrivFedTalkError(
            f"{adapter} has no adapter of its own; {known}",
            "use --adapter global, or train with training.federation.personalisation_steps, or --method local",
        )
    check_origin(run, folder)
    return folder
