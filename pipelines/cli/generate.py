"""`privfedtalk generate`: a talking head from a picture and speech."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Annotated

import typer

from common.text.commands import command
from pipelines.cli.adapter import MethodOption, WhoseOption
from pipelines.terminal.options import LARGEST_SEED, JsonOption, RunArgument, SetOption, choose
from pipelines.terminal.paths import readable_file, writable_file
from pipelines.terminal.text import console, print_json, styled, warn


def generate(
    reference: Annotated[
        Path, typer.Option("--reference", "-r", help="A picture of one face, or a clip's first frame.")
    ],
    speech: Annotated[Path, typer.Option("--speech", help="A sound file, or a clip whose sound is taken.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The mp4 to write.")],
    run: RunArgument = "demo",
    method: MethodOption = None,
    adapter: WhoseOption = "global",
    seed: Annotated[int, typer.Option("--seed", min=0, max=LARGEST_SEED, help="Seed of the initial noise.")] = 0,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, max=1000, help="Sampling steps.", show_default="the run's own")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 …")] = "auto",
    crf: Annotated[int, typer.Option("--crf", min=0, max=51, help="H.264 quality; less is better and larger.")] = 18,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a picture talk: H.264 at 25 frames/s with the sound as AAC, as long as the speech.

    The clip carries an invisible watermark and a signed C2PA manifest that say it
    is synthetic; `privfedtalk verify` reads them.

    [bold]Examples[/bold]

        privfedtalk generate --reference face.jpg --speech talk.wav --out talk.mp4

        privfedtalk generate mine -r face.jpg --speech talk.mp3 --adapter c0003 --steps 8 --out talk.mp4
    """
    from assets.stage.stages import reading
    from common.folders import RunFolder
    from preparation.crops.portrait import read_portrait, read_speech
    from preparation.settings import CorpusKind
    from training.adapters.membership import revoked_in
    from training.generation.talker import GLOBAL, method_of, open_talker

    began = time.perf_counter()
    readable_file(reference, "picture")
    readable_file(speech, "sound")
    target = writable_file(out, [reference, speech])  # before a clip is generated, not after it
    configuration = choose(None, run, settings, training__generation__steps=steps).configuration
    folder, training = RunFolder(configuration.root), configuration.training
    rendered = configuration.corpus.kind is CorpusKind.STUDIO
    method = method_of(folder, method)
    with contextlib.ExitStack() as held:  # a model that is being trained is not loaded by halves
        for name in ("vae", "backbone", f"federation/{method}"):
            held.enter_context(reading(folder, name, by="generate"))
        talker = open_talker(folder, training, configuration.preparation, method, adapter, device, rendered)
    gone = revoked_in(folder, method) if adapter == GLOBAL else []
    if gone:
        anew = command("train", run=run, method=method)
        warn(f"{method} still contains {', '.join(gone)}, who revoked their consent; train it anew: {anew}")
    if talker.fitted_to is not None and not folder.client(talker.fitted_to).exists():
        warn(f"{adapter} is fitted to {talker.fitted_to}, of whose consent this run knows nothing: ask who exported it")
    loaded = time.perf_counter()
    portrait = read_portrait(reference, configuration.preparation)
    voice = read_speech(speech, configuration.preparation)
    if not as_json:
        console.print(f"{reference.name} {portrait.how}")
        for name, value in voice.conversions.items():
            console.print(f"{speech.name}: {name.replace('_', ' ')}: {value}")
    frames = talker.write(portrait.frame, voice.sound, target, seed, crf)
    ended = time.perf_counter()
    document = {
        "file": str(out),
        "frames": frames,
        "seconds": frames / 25,
        "reference": portrait.how,
        "speech": voice.conversions,
        "method": talker.maker.method,
        "adapter": adapter,
        "seed": seed,
        "device": str(talker.device),
        "model_sha256": talker.maker.model_sha256,
        "adapter_sha256": talker.maker.adapter_sha256,
        "watermark": talker.provenance.watermark,
        "manifest": talker.provenance.manifest,
        "load_seconds": round(loaded - began, 2),
        "generation_seconds": round(ended - loaded, 2),
        "frames_per_second": round(frames / (ended - loaded), 2),
    }
    if as_json:
        print_json(document)
        return
    console.print(
        f"{frames} frames ({frames / 25:.1f} s) from files to file in {ended - loaded:.1f} s on {talker.device}: "
        f"{document['frames_per_second']} frames/s; the model took {loaded - began:.1f} s to load"
    )
    marks = [name for name, on in (("watermark", document["watermark"]), ("C2PA manifest", document["manifest"])) if on]
    console.print(styled("marked as synthetic by: ", " and ".join(marks) or ("nothing", "bold yellow")))
    console.print(styled("Open ", (str(out), "bold")))
