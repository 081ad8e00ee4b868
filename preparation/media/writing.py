"""Write frames and sound as an mp4."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import cv2
import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from common.files import replacing
from preparation.media.container import address
from preparation.media.rates import AUDIO_RATE_HZ, FPS
from preparation.media.track.frames import Frame

MADE_HERE = "made by privfedtalk: "
"""The beginning of the comment in every file that a run makes, so that the file is never taken for somebody's clip."""


_AVX512F = 13
"""OpenCV's number of the feature, `CV_CPU_AVX_512F`; its Python names leave it out."""


def encode(
    frames: Iterable[Frame],
    audio: NDArray[np.int16] | None,
    path: Path,
    crf: int = 18,
    fps: int = FPS,
    made: str = "",
) -> None:
    """Write H.264 + AAC to an mp4, whole or not at all. Width and height must be even.

    `made` names a product of a run ("a crop"), which is no clip of a corpus; the file's comment then says so.

    frames: uint8 [H, W, 3] each, RGB; audio: int16 [S], 16 kHz mono, or None. One thread, so that the same input gives
    the same bytes and worker processes do not compete for cores.
    """
    iterator = iter(frames)
    first = next(iterator, None)
    assert first is not None, "a clip has at least one frame"
    with replacing(path) as partial:
        try:
            with av.open(address(partial), "w", format="mp4", options={"movflags": "faststart"}) as container:
                if made:
                    container.metadata["comment"] = f"{MADE_HERE}{made}"
                video = container.add_stream("libx264", rate=fps, options=x264_options(crf))
                video.height, video.width = first.shape[:2]
                video.pix_fmt = "yuv420p"
                video.thread_count = 1
                sound = container.add_stream("aac", rate=AUDIO_RATE_HZ, layout="mono") if audio is not None else None
                for index, picture in enumerate(chain([first], iterator)):
                    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
                    frame.pts, frame.time_base = index, Fraction(1, fps)
                    container.mux(video.encode(frame))
                container.mux(video.encode(None))
                if sound is not None and audio is not None:
                    block = av.AudioFrame.from_ndarray(np.ascontiguousarray(audio)[None], format="s16", layout="mono")
                    block.sample_rate, block.pts = AUDIO_RATE_HZ, 0
                    container.mux(sound.encode(block))
                    container.mux(sound.encode(None))
        except FFmpegError as error:
            # Frames and sound were checked when they were read; an error here comes from the disk.
            raise OSError(error.errno, error.strerror, str(path)) from error


def x264_options(crf: int) -> dict[str, str]:
    """Options of FFmpeg's libx264 at constant quality `crf`, with a fast preset; to be used with one thread.

    x264's macroblock tree with AVX-512 reads uninitialised memory where a picture's width is no multiple of 128 pixels:
    a clip of 64, 96 or 144 pixels gave up to eleven different files. Limited to AVX2 it takes as long and always gives
    one file, at 128 and 256 pixels the same as with AVX-512.
    """
    options = {"crf": str(crf), "preset": "veryfast"}
    if cv2.checkHardwareSupport(_AVX512F):
        options["x264-params"] = "asm=avx2,fma3,bmi2"
    return options
