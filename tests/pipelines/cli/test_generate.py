"""`privfedtalk generate`, from files to file."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from common import locks
from common.folders import RunFolder
from common.locks import locked
from evaluation.measuring.clips import read_evaluation_clips
from pipelines.cli import app
from pipelines.configuration.tree import PROJECT, load, remember, remembered
from preparation.media.video import open_video
from preparation.media.writing import encode
from tests.preparation.conftest import noise
from tests.training.small_run import SIZE, make_run, voice, write_portrait
from training.generation.talker import open_talker
from training.model.frozen.rulers import OpeningRuler


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run, a portrait and a clip with a voice, in a folder."""
    make_run(tmp_path / "mine")
    remember(
        load(
            "small",
            [f"data={tmp_path}", "run=mine", f"preparation.crops.size={SIZE}", "preparation.faces.tracker=truth"],
        )
    )
    write_portrait(tmp_path / "face.png")
    encode(noise(15), voice(0.6), tmp_path / "voice.mp4")
    return tmp_path


def options(run: Path, *more: str) -> list[str]:
    files = ["--reference", str(run / "face.png"), "--speech", str(run / "voice.mp4"), "--out", str(run / "talk.mp4")]
    return ["generate", str(run / "mine"), *files, *more]


def test_a_picture_talks(run: Path) -> None:
    result = CliRunner().invoke(app, options(run, "--steps", "2"))
    assert result.exit_code == 0, result.output
    assert "taken as a crop, as it is" in result.stdout
    assert "frames/s" in result.stdout
    assert "generating" in result.stderr
    assert open_video(run / "talk.mp4").facts.frames in (15, 16)  # AAC may end with a little more


def test_what_was_done_to_the_voice_is_said(run: Path) -> None:
    """A pair whose sides cancel when they are mixed, in a file whose name FFmpeg would take for a protocol."""
    sound = voice(0.6)
    with wave.open(str(run / "12:30.wav"), "wb") as file:
        file.setparams((2, 2, 16_000, 0, "NONE", ""))
        file.writeframes(np.stack([sound, -sound], axis=1).astype("<i2").tobytes())
    more = ["--steps", "1", "--speech", str(run / "12:30.wav")]
    said = CliRunner().invoke(app, options(run, *more))
    assert said.exit_code == 0 and "12:30.wav: channel: left" in said.stdout, said.output
    told = json.loads(CliRunner().invoke(app, options(run, *more, "--json")).stdout)
    assert told["speech"] == {"channel": "left"}


def test_json_for_machines(run: Path) -> None:
    result = CliRunner().invoke(app, options(run, "--steps", "1", "--adapter", "c0000", "--json"))
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["adapter"], told["method"], told["device"]) == ("c0000", "privfedtalk", "cpu")
    assert told["frames"] == open_video(run / "talk.mp4").facts.frames
    assert told["frames_per_second"] > 0
    # The clip travels, and a client's name may be a person's.
    assert b"c0000" not in (run / "talk.mp4").read_bytes()
    manifest = json.loads(CliRunner().invoke(app, ["verify", str(run / "talk.mp4"), "--json"]).stdout)["manifest"]
    assert manifest["maker"]["adapter"] == "a client's own"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--adapter", "nobody"], "nobody has no adapter of its own"),
        (["--method", "scaffold"], "no adapter of a method 'scaffold'"),
        (["--device", "abacus"], "device 'abacus' cannot be used"),
    ],
)
def test_errors_exit_with_2_and_leave_no_file(run: Path, more: list[str], said: str) -> None:
    result = CliRunner().invoke(app, options(run, *more))
    assert result.exit_code == 2
    assert said in result.stderr
    assert not (run / "talk.mp4").exists()


def test_a_run_that_is_not_there_is_named(run: Path) -> None:
    _, _, *files = options(run)
    result = CliRunner().invoke(app, ["generate", "absent/run", *files])
    assert result.exit_code == 2 and "absent/run holds no trained model" in result.stderr
    assert not (run / "talk.mp4").exists()


@pytest.mark.slow
def test_silence_keeps_a_trained_mouth_shut() -> None:
    """On the demo's model: in a second of silence before and after speech the mouth opens less than in the speech."""
    demo = RunFolder(PROJECT / "data" / "demo")
    if not (demo.adapter("privfedtalk") / "adapter_model.safetensors").exists():
        pytest.skip("needs a trained data/demo (make demo)")
    configuration = load(remembered(demo.root))
    talker = open_talker(demo, configuration.training, configuration.preparation)
    ruler, silence = OpeningRuler.load(demo.model("rulers") / "opening"), np.zeros(32_000, np.int16)
    for clip in read_evaluation_clips(demo, roles=["unseen"])[:2]:
        sound = np.concatenate([silence, clip.audio, silence])
        opening = ruler.opening(np.stack(list(talker.frames(clip.reference, sound, 0))))
        # Speech features look 0.1 s ahead and back.
        quiet = np.concatenate([opening[:45], opening[-45:]])
        spoken = opening[50:-50]
        assert quiet.mean() < 0.5 * spoken.mean()
        assert quiet.max() < np.quantile(spoken, 0.75)


def test_what_is_generated_says_so_and_what_is_not_does_not(run: Path) -> None:
    cli = CliRunner()
    assert cli.invoke(app, options(run, "--steps", "1")).exit_code == 0
    found = cli.invoke(app, ["verify", str(run / "talk.mp4")])
    assert found.exit_code == 0
    said = " ".join(found.stdout.split())  # a narrow terminal breaks lines
    assert "synthetic" in said and "no known authority vouches" in said
    told = json.loads(cli.invoke(app, ["verify", str(run / "talk.mp4"), "--json"]).stdout)
    assert told["marked"] and told["agree"] and told["manifest"]["maker"]["method"] == "privfedtalk"

    bare = [*options(run, "--steps", "1"), "--set", "training.provenance.manifest=false"]
    assert cli.invoke(app, bare).exit_code == 0
    hint = cli.invoke(app, ["verify", str(run / "talk.mp4")])
    assert hint.exit_code == 3 and "a hint that it is synthetic" in " ".join(hint.stdout.split())
    assert json.loads(cli.invoke(app, ["verify", str(run / "talk.mp4"), "--json"]).stdout)["evidence"] == "hint"

    none = cli.invoke(app, ["verify", str(run / "voice.mp4")])
    assert none.exit_code == 1 and "no mark" in none.stdout
    (run / "text.mp4").write_text("la la la")
    assert cli.invoke(app, ["verify", str(run / "text.mp4")]).exit_code == 2
    assert cli.invoke(app, ["verify", str(run / "absent.mp4")]).exit_code == 2


def test_marks_can_be_left_out_and_that_is_said(run: Path) -> None:
    unmarked = [f"training.provenance.{mark}=false" for mark in ("watermark", "manifest")]
    result = CliRunner().invoke(app, options(run, "--steps", "1", *(p for s in unmarked for p in ("--set", s))))
    assert "marked as synthetic by: nothing" in result.stdout
    assert CliRunner().invoke(app, ["verify", str(run / "talk.mp4")]).exit_code == 1


def test_a_model_that_is_being_trained_is_not_loaded_by_halves(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "PATIENCE_SECONDS", 0.05)
    folder = RunFolder(run / "mine")
    with locked(folder.lock("federation/privfedtalk"), "federation/privfedtalk"):
        refused = CliRunner().invoke(app, options(run, "--steps", "1"))
    assert refused.exit_code == 2 and "federation/privfedtalk, process" in refused.stderr
    assert not (run / "talk.mp4").exists()
    with locked(folder.lock("federation/scaffold"), "federation/scaffold"):
        assert CliRunner().invoke(app, options(run, "--steps", "1")).exit_code == 0
