"""`privfedtalk generate`: a talking head from a picture and speech."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from pipelines.cli.adapter import MethodOption, WhoseOption
from pipelines.cli.shared import DemoOption, JsonOption, SetOption, choose, console, print_json


def generate(
    reference: Annotated[
        Path, typer.Option("--reference", "-r", help="A picture of one face, or a clip's first frame.")
    ],
    speech: Annotated[Path, typer.Option("--speech", help="A sound file, or a clip whose sound is taken.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The mp4 to write.")],
    run: DemoOption = "demo",
    method: MethodOption = "privfedtalk",
    adapter: WhoseOption = "global",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the noise that it begins with.")] = 0,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Of sampling.", show_default="the run's own")
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

        privfedtalk generate -r face.jpg --speech talk.mp3 --run mine --adapter c0003 --steps 8 --out talk.mp4
    """
    from preparation.folders import RunFolder
    from preparation.portrait import read_portrait, read_speech
    from preparation.settings import CorpusKind
    from training.containing import revoked_in
    from training.talking import GLOBAL, open_talker

    began = time.perf_counter()
    configuration = choose(None, run, settings, training__generation__steps=steps).configuration
    folder, training = RunFolder(configuration.root), configuration.training
    rendered = configuration.corpus.kind is CorpusKind.STUDIO
    talker = open_talker(folder, training, configuration.preparation, method, adapter, device, rendered)
    gone = revoked_in(folder, method) if adapter == GLOBAL else []
    if gone:
        anew = f"privfedtalk train --run {run} --method {method}"
        _warn(f"{method} still contains {', '.join(gone)}, who revoked their consent; train it anew: {anew}")
    if talker.fitted_to is not None and not folder.client(talker.fitted_to).exists():
        _warn(
            f"{adapter} is fitted to {talker.fitted_to}, of whose consent this run knows nothing: ask who exported it"
        )
    loaded = time.perf_counter()
    portrait = read_portrait(reference, configuration.preparation)
    voice = read_speech(speech, configuration.preparation)
    if not as_json:
        console.print(f"{reference.name} {portrait.how}", markup=False)
        for name, value in voice.conversions.items():
            console.print(f"{speech.name}: {name.replace('_', ' ')}: {value}", markup=False)
    frames = talker.write(portrait.frame, voice.sound, out, seed, crf)
    ended = time.perf_counter()
    told = {
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
        print_json(told)
        return
    console.print(
        f"{frames} frames ({frames / 25:.1f} s) from files to file in {ended - loaded:.1f} s on {talker.device}: "
        f"{told['frames_per_second']} frames/s; the model took {loaded - began:.1f} s to load"
    )
    marks = [name for name, on in (("watermark", told["watermark"]), ("C2PA manifest", told["manifest"])) if on]
    console.print(f"marked as synthetic by: {' and '.join(marks) or '[bold yellow]nothing[/bold yellow]'}")
    console.print(f"Open [bold]{escape(str(out))}[/bold]")


def _warn(what: str) -> None:
    typer.secho(f"warning: {what}", fg="yellow", err=True)
