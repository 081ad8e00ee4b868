"""What is measured on, and how much of it."""

from __future__ import annotations

from pydantic import Field

from preparation.settings_base import Settings


class EvaluationSettings(Settings):
    """What is measured on, and how much of it."""

    clips_per_client: int = Field(2, ge=1)
    tracked_clips_per_client: int = Field(1, ge=0, description="clips the face tracker looks at, for its cost")
    tracked_frames: int = Field(25, ge=1, description="of each such clip, from its start")
    videos_per_client: int = Field(1, ge=0)
    video_crf: int = Field(20, ge=0, le=51)
    seed: int = 0
