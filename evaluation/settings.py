"""Settings of the evaluation."""

from __future__ import annotations

from pydantic import Field

from common.settings import Settings
from preparation.settings import EmbedderName


class EvaluationSettings(Settings):
    """Which clips are measured, with what, and how many of them."""

    clips_per_client: int = Field(2, ge=1, description="held-out clips of each client that are generated, at most")
    swapped_clips_per_client: int = Field(
        1,
        ge=0,
        description="clips of each client that are generated a second time, with another person's speech; each costs "
        "another generation",
    )
    tracked_clips_per_client: int = Field(
        1, ge=0, description="clips of each client that the face tracker looks at; few, because it is slow"
    )
    tracked_frames: int = Field(25, ge=1, description="frames of each tracked clip, from its start")
    face_embedder: EmbedderName = Field(
        "mobilefacenet",
        description="network that measures identity on tracked faces. arcface_r50 is InsightFace's, whose figures "
        "other papers report; `privfedtalk weights fetch arcface_r50` fetches it, and it is for research only",
    )
    instruments: tuple[str, ...] = Field(
        (),
        description="instruments that measure further metrics, as docs/metrics.md lists them; on a CPU each takes "
        "from half a second (flow) to ten seconds (syncnet) a clip",
    )
    instrument_clips_per_client: int = Field(
        1_000, ge=1, description="clips of each client that these instruments measure, at most"
    )
    distribution_frames_per_clip: int = Field(16, ge=1, description="frames of each clip that FID and KID use")
    videos_per_client: int = Field(1, ge=0, description="generated clips of each client that are kept as videos")
    video_crf: int = Field(20, ge=0, le=51, description="H.264 rate factor of the videos; lower is better and larger")
    seed: int = Field(0, description="seed of everything that evaluation draws")
