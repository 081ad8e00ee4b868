"""The true landmarks that lie beside a rendered corpus's clips, as a face tracker."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from common.errors import CorruptFileError, PrivFedTalkError
from common.weights import registry as weights
from preparation.corpora.clip import Clip
from preparation.faces.track import Seen, Track
from preparation.media.track.frames import Frame, Picture


class TruthTracker:
    """Returns the true landmarks of a rendered clip. Choose it where no face tracker's weights are available, or to
    exclude the tracker's errors."""

    name = "truth"
    needs: tuple[str, ...] = ()
    trembles = False

    def track(
        self, frames: Iterable[Frame | Picture], clip: Clip, corpus_root: Path, seen: Seen | None = None
    ) -> Track:
        if clip.truth is None:
            raise PrivFedTalkError(
                f"{clip.path} has no truth beside it and no face tracker is at hand",
                remedy=f"provide face_landmarker.task ({weights.ENVIRONMENT_VARIABLE}) for clips of real faces",
            )
        landmarks = read_truth(corpus_root / clip.truth)["landmarks"]
        frames_there = sum(1 for _ in frames)
        if len(landmarks) != frames_there:
            raise CorruptFileError(
                f"{clip.truth} describes {len(landmarks)} frames, {clip.path} has {frames_there} at 25 fps",
                remedy="render the clip again",
            )
        return Track(landmarks, np.ones(len(landmarks), dtype=np.int16))

    def close(self) -> None:
        pass


def read_truth(path: Path) -> dict[str, np.ndarray]:
    """The studio's sidecar: landmarks [T, 68, 2], mouth_opening [T], pose [T, 3], blink [T], all float32."""
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CorruptFileError(f"{path} cannot be read: {error}", remedy="render the corpus again") from error
    if tensors.get("landmarks", np.zeros(0)).shape[1:] != (68, 2):
        raise CorruptFileError(f"{path} holds no landmarks [T, 68, 2]", remedy="render the corpus again")
    return {name: np.asarray(tensor, dtype=np.float32) for name, tensor in tensors.items()}
