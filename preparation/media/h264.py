"""How pictures are written as H.264: by x264, so that the same pictures give the same bytes on any machine."""

from __future__ import annotations

import cv2

_AVX512F = 13
"""OpenCV's number of the feature, `CV_CPU_AVX_512F`; its Python names leave it out."""


def x264_options(crf: int) -> dict[str, str]:
    """Options of FFmpeg's libx264 at constant quality `crf`, quick; to be used with one thread.

    x264's macroblock tree with AVX-512 reads memory that nobody wrote where a picture is no multiple of 128 pixels
    wide: a clip of 64, 96 or 144 pixels had up to eleven different files. Told to make do with AVX2 it takes as long
    and writes one, at 128 and 256 pixels the same as with AVX-512.
    """
    options = {"crf": str(crf), "preset": "veryfast"}
    if cv2.checkHardwareSupport(_AVX512F):
        options["x264-params"] = "asm=avx2,fma3,bmi2"
    return options
