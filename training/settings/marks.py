"""Which marks a generated clip carries."""

from __future__ import annotations

from pydantic import Field

from common.settings import HIDDEN, Settings

KEY = "privfedtalk"
"""The watermark's default key, which everybody knows."""


class ProvenanceSettings(Settings):
    """Both marks are on; leave one out only where something else says that the clip is synthetic."""

    watermark: bool = Field(
        True,
        description="a hint, invisible, in every frame; survives H.264, rescaling, cutting in time. Anybody may copy "
        "or remove it",
    )
    watermark_key: str = Field(
        KEY,
        min_length=1,
        json_schema_extra={HIDDEN: "secret"},
        description="under which key the watermark is written and read; choose one of your own only to tell your "
        "marks from others'. It protects nothing: whoever has one marked clip copies or removes its mark without it",
    )
    manifest: bool = Field(
        True,
        description="a signed C2PA manifest, which binds the clip to what its signer says of its model. Anybody may "
        "read or strip it",
    )
