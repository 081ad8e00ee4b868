"""What is measured on, and how much of it."""

from __future__ import annotations

from pydantic import Field

from common.settings import Settings
from preparation.settings import EmbedderName


class EvaluationSettings(Settings):
    """What is measured on, and how much of it."""

    clips_per_client: int = Field(2, ge=1, description="held-out clips of each client that are generated, at most")
    swapped_clips_per_client: int = Field(
        1, ge=0, description="clips generated again with another's speech, half of the cost"
    )
    tracked_clips_per_client: int = Field(1, ge=0, description="clips the face tracker looks at, for its cost")
    tracked_frames: int = Field(25, ge=1, description="frames of each tracked clip, from its start")
    face_embedder: EmbedderName = Field(
        "mobilefacenet",
        description="network that measures identity on tracked faces. arcface_r50 is InsightFace's, whose figures "
        "others print; it is fetched by `privfedtalk weights fetch arcface_r50` and is for research only",
    )
    instruments: tuple[str, ...] = Field(
        (),
        description="further metrics by what measures them, as docs/metrics.md lists them: on a processor each takes "
        "from half a second (flow) to ten seconds (syncnet) a clip",
    )
    instrument_clips_per_client: int = Field(
        1_000, ge=1, description="clips of each client that instruments look at, at most"
    )
    distribution_frames_per_clip: int = Field(16, ge=1, description="frames of each clip that FID and KID look at")
    videos_per_client: int = Field(1, ge=0, description="generated clips of each client that are kept as videos")
    video_crf: int = Field(20, ge=0, le=51, description="H.264 quality of the videos; less is better and larger")
    seed: int = Field(0, description="of everything that evaluation draws")
