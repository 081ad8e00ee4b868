"""Settings of the large backbones."""

from __future__ import annotations

from pydantic import Field, model_validator

from common.settings import Settings


class BaseSettings(Settings):
    """The size of `base`, a video transformer; the defaults make 124 million parameters."""

    width: int = Field(768, ge=32, description="length of a token")
    depth: int = Field(12, ge=1, description="transformer blocks")
    heads: int = Field(12, ge=1, description="width / heads is an even number; 64 and 128 are fastest on a GPU")
    patch: int = Field(2, ge=1, description="width and height of a token, latent pixels")

    @model_validator(mode="after")
    def _even_heads(self) -> BaseSettings:
        if self.width % (2 * self.heads):
            raise ValueError(f"width={self.width} divided by heads={self.heads} is no even number")
        return self


class Sd15Settings(Settings):
    """Where `sd15` gets its weights: a folder that diffusers' `save_pretrained` wrote, of the network or of a whole
    pipeline, or a hub id `owner/name@revision` (`owner/name/folder@revision` where the network lies deeper)."""

    source: str | None = Field(
        None,
        min_length=1,
        description="a UNet2DConditionModel's source. null: SD-1.5's architecture with random weights",
    )
    motion: str | None = Field(
        None,
        min_length=1,
        description="a MotionAdapter's source. null: new temporal layers that at first change nothing",
    )
