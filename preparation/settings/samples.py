"""How recordings are cut into samples; a group of `preparation.settings.PreparationSettings`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from common.settings import Settings

CUT_BY_AUTO = ("folder",)
"""Corpora whose files are recordings of any length. Those of LRS3, HDTF and the studio are cut already."""


class SampleSettings(Settings):
    """How recordings are cut into samples, and how far apart samples on two sides of a split are."""

    cut: Literal["auto", "always", "never"] = "auto"
    """Which corpora are cut. auto: plain folders, alone or in a mix. LRS3, HDTF and the studio keep their clips as they
    are, unless it is `always`."""
    longest_seconds: float = Field(default=10.0, ge=2, description="longest sample of a recording that is cut, seconds")
    shortest_seconds: float = Field(default=3.0, ge=1)
    """Shortest sample that a cut may make, seconds; at most half of the longest. A shot that is shorter is kept whole
    if it passes the quality filters, and a client of few seconds gets shorter samples, down to one second."""
    gap_seconds: float = Field(default=1.0, ge=0)
    """Seconds between samples of one recording that are in two splits; what is said there is in none."""
    reference: Literal["auto", "recording", "another"] = "auto"
    """Where a sample's reference frame is from. recording: another moment of the sample's own recording, so that hair,
    clothes, light and background can be known from it, as most papers do. another: another recording of the person
    where there is one, as if filmed on another day. auto: `recording`; of the studio `another`."""

    @model_validator(mode="after")
    def _every_length_can_be_cut(self) -> Self:
        if self.longest_seconds < 2 * self.shortest_seconds:
            raise ValueError(
                f"longest_seconds {self.longest_seconds:g} is less than twice shortest_seconds "
                f"{self.shortest_seconds:g}: some recordings could not be cut"
            )
        return self

    def same_recording(self, corpus: str) -> bool:
        """Whether references of a corpus of this kind are from the sample's own recording."""
        return self.reference == "recording" or (self.reference == "auto" and corpus != "studio")

    def cuts(self, corpus: str) -> bool:
        """Whether recordings of a corpus of this kind are cut."""
        return self.cut == "always" or (self.cut == "auto" and corpus in CUT_BY_AUTO)
