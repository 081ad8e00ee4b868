"""What the studio can be asked for; the defaults are the demo's corpus."""

from __future__ import annotations

from pydantic import Field

from common.settings import Settings


class PopulationSettings(Settings):
    """How the people of one population look and speak, as far as populations differ.

    `articulation_gain` multiplies every mouth opening; 1 is the public mean. `articulation_variety` is the
    half-width of its spread between speakers, relative to the gain. `lip_vividness` runs from the skin's own
    colour (0) to painted lips (1). `teeth_brightness`, `light` multiply radiance, `warmth` turns the key light
    from neutral (0) to evening sun (1). `glasses` is the share of people who wear them. The camera stands
    `camera_pitch` degrees below the face (negative: above), is out of focus by `camera_softness` of the frame's
    width, and its sensor adds `camera_noise` of 255 as standard deviation; people's cameras spread around these.
    """

    articulation_gain: float = Field(1.0, gt=0.0, le=3.0)
    articulation_variety: float = Field(0.29, ge=0.03, le=0.9)
    lip_vividness: float = Field(0.35, ge=0.0, le=1.5)
    lip_variety: float = Field(0.40, ge=0.05, le=1.0)
    teeth_brightness: float = Field(0.86, gt=0.0, le=1.5)
    light: float = Field(1.0, gt=0.3, le=2.0)
    warmth: float = Field(0.15, ge=0.0, le=1.0)
    glasses: float = Field(0.5, ge=0.0, le=1.0)
    camera_pitch: float = Field(0.0, ge=-8.0, le=8.0)
    camera_softness: float = Field(0.0, ge=0.0, le=0.02)
    camera_noise: float = Field(0.0, ge=0.0, le=20.0)

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
    """A rendered corpus: how many people, how many clips of each, how large, how different.

    `shift` moves the clients' population, which is the unseen people's and volunteers' too, from the public one (0) to
    `client_population` (1) and beyond: choose 0 to ask whether federation invents a gain where there is nothing to
    learn.
    """

    public_speakers: int = Field(48, ge=0)
    public_clips: int = Field(3, ge=1)
    clients: int = Field(8, ge=0)
    client_clips: int = Field(8, ge=1)
    unseen: int = Field(4, ge=0)
    unseen_clips: int = Field(3, ge=1)
    volunteers: int = Field(0, ge=0)
    volunteer_clips: int = Field(2, ge=1)
    seconds: float = Field(2.0, ge=0.8, le=60.0)
    size: int = Field(144, ge=64, le=1024, multiple_of=2)
    seed: int = Field(0, ge=0)
    crf: int = Field(18, ge=0, le=40)
    public_population: PopulationSettings = PUBLIC_POPULATION
    client_population: PopulationSettings = CLIENT_POPULATION
    shift: float = Field(1.0, ge=0.0, le=1.5)
