from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from librosa.filters import mel

from preparation.speech.mel import mel_filters


@pytest.mark.parametrize(("bins", "highest_hz"), [(80, 8000.0), (128, 8000.0), (40, 3800.0), (20, 900.0)])
def test_equals_librosa_to_the_bit(bins: int, highest_hz: float) -> None:
    theirs = mel(sr=16_000, n_fft=400, n_mels=bins, fmin=0.0, fmax=highest_hz)
    np.testing.assert_array_equal(mel_filters(16_000, 400, bins, highest_hz), theirs)


def test_features_need_neither_librosa_nor_numba() -> None:
    code = """
import sys, numpy as np
from preparation.speech.features import speech_features
speech_features(np.zeros(16000, dtype=np.int16), 25)
sys.exit(int(bool({"librosa", "numba"} & set(sys.modules))))
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
