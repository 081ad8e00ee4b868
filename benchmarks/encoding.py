"""Frames per second at which autoencoders from elsewhere encode, and what precision costs in dB:

    python -m benchmarks.encoding --clips FOLDER

Frames are the clips' own, cut to a square about their middle and scaled to `--size`; each way of computing encodes all
of them on one thread (or on the GPU), in turns, `--repeat` times, of which the fastest counts. dB are of the decoded
frames against the originals; the decoder computes in float32 for all.
"""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import nullcontext
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from preparation.media.video import open_video
from preparation.settings import MediaSettings
from training.model.autoencoders.base import Autoencoder
from training.model.autoencoders.sources import open_pretrained
from training.model.device import choose_device, full_precision

Frames = NDArray[np.uint8]
FRAMES_A_CLIP = 16
BATCHES = (1, 2, 4, 8, 48)
"""Frames that are encoded at once; preparation takes 48, or as many as fit."""


def squares(clips: Path, size: int) -> Frames:
    """Frames [N, size, size, 3] of a folder's clips."""
    found = []
    for path in sorted(path for path in clips.rglob("*") if path.suffix in (".mp4", ".mpg", ".mov", ".mkv")):
        for frame in islice(open_video(path, MediaSettings()).frames(), FRAMES_A_CLIP):
            side = min(frame.shape[:2])
            top, left = (frame.shape[0] - side) // 2, (frame.shape[1] - side) // 2
            cut = frame[top : top + side, left : left + side]
            found.append(cv2.resize(cut, (size, size), interpolation=cv2.INTER_AREA))
    if not found:
        raise SystemExit(f"no clips in {clips}")
    return np.stack(found).astype(np.uint8)


def decibels(model: Autoencoder, frames: Frames, latents: NDArray[np.float32]) -> float:
    """Mean PSNR of the decoded frames."""
    with full_precision():
        decoded = model.decode_latents(torch.from_numpy(latents))
    errors = np.square(decoded.astype(np.float64) - frames).mean((1, 2, 3))
    return float((10 * np.log10(255**2 / errors)).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--autoencoder", default="taef2", help="as training.vae.source")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device, frames = choose_device(), squares(arguments.clips, arguments.size)
    model = open_pretrained(arguments.autoencoder).to(device)
    model.standardise(frames)
    ways = {"float32": (True, 48)} | {f"as it comes, {count} at a time": (False, count) for count in BATCHES}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    latents: dict[str, NDArray[np.float32]] = {}
    for _ in range(arguments.repeat):
        for name, (exact, batch) in ways.items():
            with full_precision() if exact else nullcontext():
                begun = time.perf_counter()
                latents[name] = model.encode_frames(frames, batch)
                seconds[name].append(time.perf_counter() - begun)
    threads = ", one thread" if device.type == "cpu" else ""
    print(f"{arguments.autoencoder}, {len(frames)} frames of {arguments.size} px, {device}{threads}\n")
    print("| computed in | frames/s | × float32 | dB |\n|---|---|---|---|")
    for name, turns in seconds.items():
        rate, gain = len(frames) / min(turns), min(seconds["float32"]) / min(turns)
        print(f"| {name} | {rate:.1f} | {gain:.2f} | {decibels(model, frames, latents[name]):.2f} |")


if __name__ == "__main__":
    main()
