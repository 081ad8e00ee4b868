"""When the nights are, what they look at, and how sure a difference must be."""

from __future__ import annotations

from pydantic import Field

from common.settings import Settings


class NightlySettings(Settings):
    """When the nights are, what they look at, and how sure a difference must be."""

    cron: str = Field("0 2 * * *", description="when the schedule ticks, as cron writes it")
    time_zone: str = Field("UTC", description="of `cron` and of the nights' names, e.g. Europe/Vienna")
    people: int = Field(24, ge=2, description="public people on the panel, at most; below six no test can find much")
    clips_per_person: int = Field(2, ge=1, description="clips of each of these people")
    level: float = Field(0.05, gt=0, lt=1, description="p (Holm over the methods) below which a metric got worse")
    drift_nights: int = Field(7, ge=2, description="how many nights back a slow decline is looked for")
