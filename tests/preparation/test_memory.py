"""Memory with the length of a clip: what is held is held once, and the rest streams. Measured in processes of their
own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import av
import pytest

from common.weights import registry as weights

LATENTS = """
import sys
from pathlib import Path
import numpy as np
from preparation.shards.samples import encode_frames
from preparation.shards.store import Sample, write_shards

def encode(frames):
    return np.full((len(frames), 4, 64, 64), 0.5, dtype=np.float32)

def peak():
    # Not ru_maxrss, which a new process inherits from the one that started it.
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024

count = 5000
picture = np.zeros((8, 8, 3), dtype=np.uint8)
encode_frames((picture for _ in range(64)), encode, 64, 64)
before = peak()
latents = encode_frames((picture for _ in range(count)), encode, count, 64)
one = np.zeros((1, 20, 80), dtype=np.float16)
sample = Sample("a", "c", "c/a", "train", latents, one, latents[0], picture, np.zeros((1, 68, 2), dtype=np.float32))
write_shards(Path(sys.argv[1]), [sample])
print((peak() - before) / latents.nbytes)
"""


def test_latents_of_a_long_clip_are_held_once(tmp_path: Path) -> None:
    """Ten minutes at 512 pixels are 0.49 GB of latents; here are 200 seconds. Lists of parts in single precision,
    joined, converted and packed one after the other held them five times."""
    done = subprocess.run(
        [sys.executable, "-c", LATENTS, str(tmp_path / "c")],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert 0.9 < float(done.stdout) < 1.3


WHOLE = """
import json, sys
from pathlib import Path
import torch
from common.folders import RunFolder
from preparation.pipeline import prepare_folder
from preparation.settings import PreparationSettings
from training.settings import VaeSettings
from training.model.autoencoders.small import SmallVae

def peak():
    # Not ru_maxrss, which a new process inherits from the one that started it.
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024

if __name__ == "__main__":
    torch.set_num_threads(1)
    root, out, size = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    widths = (48, 96) if size == 128 else (8, 8)
    autoencoder = SmallVae(VaeSettings(widths=widths, blocks=1)).eval().requires_grad_(False)
    settings = PreparationSettings.model_validate({
        "faces": {"tracker": "mediapipe", "every": 50, "longest_bridged_gap": 50},
        "crops": {"size": size},
        "samples": {"cut": "never"},
    })
    report = prepare_folder("folder", root, RunFolder(out), settings, 1, autoencoder.encode_frames, "small")
    said = {"frames": report.shards.frames, "samples": report.shards.samples, "crops": report.crops.frames}
    print(json.dumps(said | {"peak": peak()}))
"""


def looped(source: Path, path: Path, seconds: float) -> Path:
    """A clip's packets over and over, nothing encoded anew: a long clip in a second."""
    with av.open(str(source)) as given, av.open(str(path), "w") as made:
        streams = [given.streams.video[0], given.streams.audio[0]]
        copies = {stream.index: made.add_stream_from_template(stream) for stream in streams}
        length = float(given.streams.video[0].duration * given.streams.video[0].time_base)
        for turn in range(round(seconds / length)):
            given.seek(0)
            for packet in given.demux(streams):
                if packet.dts is None or float(packet.dts * packet.time_base) >= length:
                    continue
                shift = round(turn * length / packet.time_base)
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                packet.stream = copies[packet.stream.index]
                made.mux(packet)
    return path


def prepared(source: Path, folder: Path, seconds: float, size: int) -> dict[str, int]:
    """What a process of its own says that prepared a clip of 512 pixels."""
    root = folder / "corpus"
    root.mkdir(parents=True)
    looped(source, root / "long.mp4", seconds)
    done = subprocess.run(
        [sys.executable, "-c", WHOLE, str(root), str(folder / "run"), str(size)],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow(minutes=4)
@pytest.mark.parametrize("size", [128, 512])
def test_ten_minutes_at_512_pixels_stay_under_1500_megabytes(
    clips_dir: Path, weights_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """From the file to the shards, in crops of either size, with the small VAE."""
    monkeypatch.setenv(weights.ENVIRONMENT_VARIABLE, str(weights_dir))
    said = prepared(clips_dir / "hdtf_WDA_KatieHill_000.mp4", tmp_path, 600, size)
    # The speaker's only clip lends its last fifth for the reference.
    assert said["crops"] > 14900 and said["frames"] > 0.79 * 14900 and said["samples"] == 8
    assert said["peak"] < 1.5e9, said
