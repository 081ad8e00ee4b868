"""The matched protocol: every method, reference and gate sees the same clips, references and speech.

A method is a name and a function from a clip and speech to frames. The gates are bounds for methods: `copy_reference`
repeats a still picture, `vae_ceiling` passes the true clip through the autoencoder, `noise` is the output of an
untrained model. A method that does not beat the still picture on the lips does not speak.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from common.errors import PrivFedTalkError
from common.folders import METRICS
from common.progress import track
from common.workers import map_threads
from evaluation import catalogue
from evaluation.measuring.significance import Estimate, estimate
from evaluation.metrics.arrays import Floats, Frames
from evaluation.metrics.clip import EvaluationClip, Generate, Swapped, Track
from evaluation.metrics.identity import cosine_to, identity_drift
from evaluation.metrics.interface import AlignedEmbedder, Instrument, Networks
from evaluation.metrics.lipsync import lip_correlation, lip_landmark_distance, opening_error
from evaluation.metrics.motion import landmark_jitter_ratio
from evaluation.settings import EvaluationSettings
from preparation.faces.landmarks import mouth_opening
from preparation.media.writing import encode
from preparation.quarantine import write_parquet

FACE_STRIDE = 5
"""Every fifth frame is embedded: a face hardly changes in between."""
QUARTERS = 4
"""Fewer embedded faces than this have no first and last quarter, and so no drift."""

COLUMNS = ["method", "role", "client", "clip_id", "metric", "value"]


def copy_reference(clip: EvaluationClip, speech: Floats) -> Frames:
    """The gate that never moves: the reference frame, repeated for the length of the speech."""
    return np.repeat(clip.reference[None], len(speech), axis=0)


def evaluate_method(
    method: str,
    generate: Generate,
    clips: Sequence[EvaluationClip],
    networks: Networks,
    settings: EvaluationSettings | None = None,
    folder: Path | None = None,
    speaks: bool = True,
    workers: int = 1,
) -> pd.DataFrame:
    """Generate every clip and measure it: one row per clip and metric (columns as in `COLUMNS`).

    NaN marks what is undefined on a clip (the flicker of a still), an absent row what was not measured.
    `speaks=False` is for gates whose output does not depend on speech: the swap is left out. With a `folder`,
    `metrics.parquet` and `videos/<clip>.mp4` (with the clip's sound) are written there. `workers` clips are generated
    side by side, on one core each; their number changes no figure.
    """
    settings = settings or EvaluationSettings()

    def measure(numbered: tuple[int, EvaluationClip]) -> tuple[Frames, dict[str, float]]:
        count, clip = numbered
        frames = _checked(method, clip, generate(clip, clip.speech))
        tracked_frames = settings.tracked_frames if count < settings.tracked_clips_per_client else 0
        values = measure_clip(clip, frames, networks, tracked_frames)
        if speaks and clip.swapped is not None and count < settings.swapped_clips_per_client:
            values |= swap(clip, clip.swapped, tracked_frames)
        if folder is not None and count < settings.videos_per_client:
            out = video_path(folder, clip.clip_id)
            encode(frames, clip.audio, out, crf=settings.video_crf, made="a generated clip")
        return frames, values

    def swap(clip: EvaluationClip, donor: Swapped, tracked_frames: int) -> dict[str, float]:
        track_faces = networks.track if tracked_frames else None
        if clip.opening is None and donor.opening is None and track_faces is None:
            return {}  # nothing could be compared
        frames = _checked(method, clip, generate(clip, donor.speech))
        values = _swap(clip, donor, networks.opening.opening(frames))
        return values | (_tracked_swap(clip, donor, frames[:tracked_frames], track_faces) if track_faces else {})

    rows: list[dict[str, object]] = []
    numbered = _numbered_by_client(clips)
    measured = map_threads(measure, numbered, workers, ahead=2 * workers)
    for (count, clip), (frames, values) in zip(
        numbered, track(measured, f"evaluating {method}", total=len(clips), unit="clips"), strict=True
    ):
        if count < settings.instrument_clips_per_client:
            for meter in networks.meters:  # these add clip after clip to what they know
                values |= meter.measure(clip, frames)
        place = {"method": method, "role": clip.role, "client": clip.client, "clip_id": clip.clip_id}
        rows += [place | {"metric": metric, "value": value} for metric, value in values.items()]
    table = pd.DataFrame(rows, columns=COLUMNS)
    if folder is not None:
        write_parquet(table, folder / METRICS)
    return table


def _numbered_by_client(clips: Sequence[EvaluationClip]) -> list[tuple[int, EvaluationClip]]:
    """Each clip with the number of clips of its client before it."""
    seen: Counter[str] = Counter()
    numbered = []
    for clip in clips:
        numbered.append((seen[clip.client], clip))
        seen[clip.client] += 1
    return numbered


def measure_clip(clip: EvaluationClip, frames: Frames, networks: Networks, tracked_frames: int = 0) -> dict[str, float]:
    """All metrics of one generated clip [T, H, W, 3] against its truth, except those of opened instruments."""
    values: dict[str, float] = {}
    for instrument in catalogue.instruments():
        if instrument.measure is not None:
            found = instrument.measure(clip, frames, networks)
            values |= found if isinstance(found, Mapping) else {_only_metric_of(instrument): found}
    if tracked_frames and networks.track is not None:
        values |= _tracked(frames[:tracked_frames], clip, networks.track)
        if networks.faces is not None:
            values |= _faces(frames, clip, networks.track, networks.faces)
    return values


def _only_metric_of(instrument: Instrument) -> str:
    """The key of an instrument's only metric, whose figure the instrument returns without a key."""
    (key,) = (one.key for one in catalogue.METRICS if one.instrument == instrument)
    return key


def _tracked(frames: Frames, clip: EvaluationClip, track_faces: Track) -> dict[str, float]:
    """The face tracker's metrics: of the generated frames, and of the true frames by the same tracker."""
    landmarks, found = track_faces(frames)
    true_landmarks, true_found = track_faces(clip.frames[: len(frames)])
    both = np.asarray(found, bool) & np.asarray(true_found, bool)
    values = {"landmarker_rate": float(np.mean(found)), "landmarker_rate_truth": float(np.mean(true_found))}
    if both.any():
        values["lip_landmark_distance"] = lip_landmark_distance(landmarks[both], true_landmarks[both])
        opening, true_opening = mouth_opening(landmarks[both]), mouth_opening(true_landmarks[both])
        values["tracked_correlation"] = lip_correlation(opening, true_opening)
        values["tracked_opening_error"] = opening_error(opening, true_opening)
    if both.all():
        # A gap in the track would count as a jump.
        values["landmark_jitter_ratio"] = landmark_jitter_ratio(landmarks, true_landmarks)
    return values


def _faces(frames: Frames, clip: EvaluationClip, track_faces: Track, embedder: AlignedEmbedder) -> dict[str, float]:
    """Identity by the pretrained embedder, at every fifth frame of the whole clip.

    Frames without a face are left out (`landmarker_rate` counts them); a clip with fewer than four faces has no drift.
    """
    some = frames[::FACE_STRIDE]
    (place,), here = track_faces(clip.reference[None])
    landmarks, found = track_faces(some)
    if not here[0] or not any(found):
        return {}
    (reference,) = embedder.embed_aligned(clip.reference[None], place[None])
    similarity = cosine_to(embedder.embed_aligned(some[found], landmarks[found]), reference)
    values = {embedder.metric: float(similarity.mean())}
    return values | ({f"{embedder.metric}_drift": identity_drift(similarity)} if sum(found) >= QUARTERS else {})


def _swap(clip: EvaluationClip, swapped: Swapped, opening: Floats) -> dict[str, float]:
    """Correlation of the opening under another clip's speech with that clip's truth (new) and with this one's (old)."""
    values: dict[str, float] = {}
    if swapped.opening is not None:
        values["swapped_new"] = lip_correlation(opening, swapped.opening)
    if clip.opening is not None:
        values["swapped_old"] = lip_correlation(opening, clip.opening)
    return values


def _tracked_swap(clip: EvaluationClip, donor: Swapped, frames: Frames, track_faces: Track) -> dict[str, float]:
    """The same by the face tracker's openings, over the frames in which it found the generated face."""
    landmarks, found = track_faces(frames)
    here = np.asarray(found, bool)
    if not here.any():
        return {}
    opening, length = mouth_opening(landmarks[here]), len(frames)
    return {
        "tracked_swapped_new": lip_correlation(opening, donor.seen_opening[:length][here]),
        "tracked_swapped_old": lip_correlation(opening, clip.seen_opening[:length][here]),
    }


def summarise(table: pd.DataFrame, seed: int = 0) -> dict[str, dict[str, Estimate]]:
    """method -> metric -> mean of client means, standard error, interval and n. The rows must be of one role."""
    roles = table["role"].unique()
    assert len(roles) <= 1, f"a summary mixes {sorted(roles)}: select one role first"
    summary: dict[str, dict[str, Estimate]] = {}
    for (method, metric), group in table.groupby(["method", "metric"], sort=False):
        summary.setdefault(str(method), {})[str(metric)] = estimate(group["value"], group["client"], seed)
    return summary


def video_path(folder: Path, clip_id: str) -> Path:
    return folder / "videos" / f"{clip_id.replace('/', '_')}.mp4"


def read_metrics(path: Path) -> pd.DataFrame:
    if not path.exists():
        raise PrivFedTalkError(f"no metrics at {path}", remedy="measure it first: privfedtalk evaluate")
    return pd.read_parquet(path)


def _checked(method: str, clip: EvaluationClip, frames: Frames) -> Frames:
    """The frames; raises PrivFedTalkError for a wrong shape or type, which would silently spoil a mean."""
    if frames.shape != clip.frames.shape or frames.dtype != np.uint8:
        raise PrivFedTalkError(
            f"{method} gave {frames.dtype} {frames.shape} for {clip.clip_id}, the truth is {clip.frames.shape}",
            remedy="a method returns uint8 frames, one for each of the clip's",
        )
    return frames
