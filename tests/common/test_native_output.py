from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from common.native_output import without_chatter

CHATTER = """WARNING: Logging before InitGoogle() is written to STDERR
W0000 00:00:1795487329.298962    7548 inference_feedback_manager.cc:121] Feedback manager requires a model
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
"""


def test_chatter_is_dropped_and_errors_are_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    with without_chatter():
        os.write(2, CHATTER.encode() + b"E0000 00:00:1795487329.3 22 graph.cc:1] broken\n")
        os.write(2, b"crops: 3/9\n")
        os.write(2, b"a line without an end")
    assert capfd.readouterr().err == "E0000 00:00:1795487329.3 22 graph.cc:1] broken\ncrops: 3/9\na line without an end"


def test_what_precedes_an_error_is_all_shown(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError), without_chatter():
        os.write(2, CHATTER.encode())
        raise RuntimeError("no model")
    assert capfd.readouterr().err == CHATTER
    os.write(2, b"open\n")
    assert capfd.readouterr().err == "open\n"


def test_a_tracker_starts_and_looks_in_silence(clips_dir: Path, weights_dir: Path) -> None:
    script = """
import sys
from itertools import islice
from pathlib import Path
from preparation.faces.mediapipe_tracker import MediaPipeTracker
from preparation.settings import FaceSettings
from preparation.media.video import open_video
tracker = MediaPipeTracker(FaceSettings())
print([len(tracker.detect(frame)) for frame in islice(open_video(Path(sys.argv[1])).frames(), 2)])
tracker.close()
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(clips_dir / "grid/bbaf2n.mpg")],
        env={
            **os.environ,
            "PRIVFEDTALK_WEIGHTS": str(weights_dir),
            "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout.strip(), done.stderr) == ("[1, 1]", "")
