"""Memory with the length of a clip: what is held is held once, and the rest streams. Measured in processes of their
own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

LATENTS = """
import resource, sys
from pathlib import Path
import numpy as np
from preparation.samples import encode_frames
from preparation.shards import Sample, write_shards

def encode(frames):
    return np.full((len(frames), 4, 64, 64), 0.5, dtype=np.float32)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

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
