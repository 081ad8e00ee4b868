"""The settings of the studio; the defaults are the demo's corpus."""

from __future__ import annotations

from pydantic import Field

from common.settings import Settings


class PopulationSettings(Settings):
    """How the people of one population look and speak, as far as populations differ."""

    articulation_gain: float = Field(1.0, gt=0.0, le=3.0)
    """Factor of every mouth opening; 1 is the public mean."""
    articulation_variety: float = Field(0.29, ge=0.03, le=0.9)
    """Half-width of the range of the gain between speakers, relative to the gain."""
    lip_vividness: float = Field(0.35, ge=0.0, le=1.5)
    """Mean colour of the lips: 0 is the skin's own, 1 is painted."""
    lip_variety: float = Field(0.40, ge=0.05, le=1.0)
    """Half-width of the range of lip colours between speakers."""
    teeth_brightness: float = Field(0.86, gt=0.0, le=1.5, description="factor of the radiance of teeth")
    light: float = Field(1.0, gt=0.3, le=2.0, description="factor of the light's radiance")
    warmth: float = Field(0.15, ge=0.0, le=1.0, description="colour of the key light: 0 is neutral, 1 is evening sun")
    glasses: float = Field(0.5, ge=0.0, le=1.0, description="share of people who wear glasses")
    camera_pitch: float = Field(0.0, ge=-8.0, le=8.0)
    """How many degrees below the face the camera stands (negative: above), on average."""
    camera_softness: float = Field(0.0, ge=0.0, le=0.02)
    """How far out of focus the camera is, as a share of the frame's width, on average."""
    camera_noise: float = Field(0.0, ge=0.0, le=20.0)
    """Standard deviation of the sensor's noise, of 255, on average."""

    def towards(self, other: PopulationSettings, shift: float) -> PopulationSettings:
        """This population moved by `shift` towards another: 0 is this one, 1 the other, more is beyond it.

        Values stay inside their allowed ranges, so that an extrapolated population can still be drawn.
        """
        mixed = {}
        for name, field in type(self).model_fields.items():
            value = (1.0 - shift) * getattr(self, name) + shift * getattr(other, name)
            for bound in field.metadata:
                value = max(value, getattr(bound, "ge", getattr(bound, "gt", value)))
                value = min(value, getattr(bound, "le", getattr(bound, "lt", value)))
            mixed[name] = value
        return PopulationSettings(**mixed)


PUBLIC_POPULATION = PopulationSettings()
CLIENT_POPULATION = PopulationSettings(
    articulation_gain=1.9,
    articulation_variety=0.06,
    lip_vividness=0.9,
    lip_variety=0.15,
    teeth_brightness=1.1,
    light=1.1,
    warmth=0.3,
)


class StudioSettings(Settings):
    """A rendered corpus: how many people, how many clips of each, how large, how different."""

    public_speakers: int = Field(48, ge=0, description="people of the public split")
    public_clips: int = Field(3, ge=1, description="clips of each public speaker")
    clients: int = Field(8, ge=0, description="people who are clients")
    client_clips: int = Field(8, ge=1, description="clips of each client")
    unseen: int = Field(4, ge=0, description="people like the clients whom no training sees")
    unseen_clips: int = Field(3, ge=1, description="clips of each unseen person")
    volunteers: int = Field(0, ge=0)
    """People of the clients' population whose clips are public; a federation's rounds are compared on them."""
    volunteer_clips: int = Field(2, ge=1, description="clips of each volunteer")
    seconds: float = Field(2.0, ge=0.8, le=60.0, description="length of a clip")
    size: int = Field(144, ge=64, le=1024, multiple_of=2, description="width and height of a clip, pixels")
    seed: int = Field(0, ge=0, description="seed of people, speech and motion: the same seed renders the same bytes")
    crf: int = Field(18, ge=0, le=40, description="H.264 quality of the clips; lower is better and larger")
    public_population: PopulationSettings = PUBLIC_POPULATION
    client_population: PopulationSettings = CLIENT_POPULATION
    shift: float = Field(1.0, ge=0.0, le=1.5)
    """How far the population of clients, unseen people and volunteers is moved from the public one (0) to
    `client_population` (1) and beyond. Choose 0 to test whether federation shows a gain where there is nothing to
    learn."""
