"""One clip's files: the video with its sound, LRS3's text sidecar, and the ground truth, which no real corpus has.

Everything is written under a temporary name and renamed; the video comes last, so a clip whose video exists is whole.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from common.files import replacing
from preparation.corpora.studio.motion import FPS
from preparation.corpora.studio.voice.articulation import Utterance
from preparation.corpora.studio.voice.synthesis import SAMPLE_HZ
from preparation.media.writing import x264_options

AUDIO_BIT_RATE = 48_000
TRUTH_SUFFIX = ".truth.safetensors"


def encode_clip(frames: Iterable[NDArray[np.uint8]], sound: NDArray[np.int16], size: int, crf: int) -> bytes:
    """An mp4 of H.264 (25 fps, one thread: the same bytes every time) and AAC (16 kHz mono)."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=FPS)
        video.width = video.height = size
        video.pix_fmt = "yuv420p"
        video.options = {**x264_options(crf), "threads": "1"}
        video.codec_context.thread_count = 1
        audio = container.add_stream("aac", rate=SAMPLE_HZ, layout="mono")
        audio.bit_rate = AUDIO_BIT_RATE
        for frame in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(video.encode(None))
        block = av.AudioFrame.from_ndarray(sound[None, :], format="s16", layout="mono")
        block.sample_rate, block.time_base, block.pts = SAMPLE_HZ, Fraction(1, SAMPLE_HZ), 0
        container.mux(audio.encode(block))
        container.mux(audio.encode(None))
    return buffer.getvalue()


def sidecar_text(speaker: str, utterance: Utterance, landmarks: NDArray[np.float32], size: int) -> str:
    """LRS3's annotation: text, confidence, reference, one face box a frame (fractions), one row a word.

    The box is that of a face detector: from the brows to the chin, as wide as the jaw, cut at the frame's edge.
    """
    text = " ".join(word.upper() for word, _, _ in utterance.words)
    lines = [f"Text:  {text}", "Conf:  5", f"Ref:  {speaker}", "", "FRAME \tX \tY \tW \tH"]
    low = np.clip(landmarks.min(axis=1) / size, 0.0, 1.0)
    high = np.clip(landmarks.max(axis=1) / size, 0.0, 1.0)
    for frame, (corner, extent) in enumerate(zip(low, high - low, strict=True)):
        row = [f"{value:.3f}" for value in (*corner.tolist(), *extent.tolist())]
        lines.append(" \t".join([f"{frame:06d}", *row]))
    lines += ["", "WORD START END ASDSCORE"]
    # Active-speaker scores of real LRS3 words lie between 3 and 12; here it is certain who speaks.
    lines += [f"{word.upper()} {start:.2f} {end:.2f} 10.0" for word, start, end in utterance.words]
    return "\n".join(lines) + "\n"


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it either exists complete or not at all."""
    with replacing(path) as partial:
        partial.write_bytes(content)


def write_clip(video: Path, encoded: bytes, sidecar: str, truth: dict[str, NDArray[np.float32]]) -> int:
    """Write the three files of a clip, the video last; returns the video's bytes."""
    write_whole(video.with_suffix(".txt"), sidecar.encode())
    write_whole(video.with_suffix(TRUTH_SUFFIX), save(truth))
    write_whole(video, encoded)
    return len(encoded)
