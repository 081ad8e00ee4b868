"""Settings of the nightly measurements."""

from __future__ import annotations

from pydantic import Field

from common.settings import Settings


class NightlySettings(Settings):
    """When models are measured, on how many people and clips, and how sure a difference must be to be reported."""

    cron: str = Field("0 2 * * *", description="when the nightly schedule starts, in cron's format")
    time_zone: str = Field("UTC", description="time zone of `cron` and of the nights' dates, e.g. Europe/Vienna")
    people: int = Field(24, ge=2, description="public people on the panel, at most; below six no test reaches p < 0.05")
    clips_per_person: int = Field(2, ge=1, description="clips of each of these people")
    level: float = Field(0.05, gt=0, lt=1, description="p (Holm over the methods) below which a metric counts as worse")
    drift_nights: int = Field(7, ge=2, description="how many nights back a slow decline is looked for")
