"""Which marks a generated clip carries."""

from __future__ import annotations

from pydantic import Field

from preparation.settings_base import Settings

KEY = "privfedtalk"
"""The watermark's public key: whoever has this code can read its marks, and could forge or remove them. A key of one's
own keeps others from both."""


class ProvenanceSettings(Settings):
    """Both marks are on: leave one out only where something else says that the clip is synthetic."""

    watermark: bool = Field(True, description="invisible, in every frame; survives H.264, rescaling, cutting in time")
    watermark_key: str = Field(
        KEY,
        min_length=1,
        description="the default is public. One of your own: only who knows it reads, forges, removes",
    )
    manifest: bool = Field(True, description="a signed C2PA manifest; anybody may read it, and anybody may strip it")
