"""The marks that a generated clip carries."""

from __future__ import annotations

from pydantic import Field

from common.settings import HIDDEN, Settings

KEY = "privfedtalk"
"""The watermark's default key, which everybody knows."""


class ProvenanceSettings(Settings):
    """Both marks are on; leave one out only where something else says that the clip is synthetic."""

    watermark: bool = Field(
        True,
        description="invisible mark in every frame, a hint only; survives H.264, rescaling, cutting in time. Anybody "
        "can copy or remove it",
    )
    watermark_key: str = Field(
        KEY,
        min_length=1,
        json_schema_extra={HIDDEN: "secret"},
        description="key under which the watermark is written and read; choose one of your own only to tell your "
        "marks from others'. It protects nothing: whoever has one marked clip can copy or remove its mark without it",
    )
    manifest: bool = Field(
        True,
        description="signed C2PA manifest, which binds the clip to what its signer states about the model. Anybody can "
        "read or strip it",
    )
