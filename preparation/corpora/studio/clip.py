"""One clip from its seed: the sentence, the sound, the frames, the truth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from preparation.corpora.studio.head.camera import photograph
from preparation.corpora.studio.head.identity import KINDS, Identity, draw_identity, speaker_seed
from preparation.corpora.studio.landmarks import measure
from preparation.corpora.studio.motion import Performance, perform
from preparation.corpora.studio.renderer import Sculpture, render, sculpt
from preparation.corpora.studio.settings import PopulationSettings, StudioSettings
from preparation.corpora.studio.voice.articulation import Utterance, compose_utterance
from preparation.corpora.studio.voice.synthesis import speak


@dataclass(frozen=True)
class Speaker:
    """A person of the corpus, ready to be filmed."""

    kind: str
    number: int
    identity: Identity
    sculpture: Sculpture


@dataclass(frozen=True)
class StudioClip:
    """A clip before encoding. `sound` int16 [S]; frames are drawn when asked for, uint8 [size, size, 3]; `grain`
    seeds the camera's noise."""

    speaker: Speaker
    performance: Performance
    sound: NDArray[np.int16]
    grain: tuple[int, ...]

    @property
    def utterance(self) -> Utterance:
        return self.performance.utterance

    def frames(self) -> Iterator[NDArray[np.uint8]]:
        person, rng = self.speaker.identity, np.random.default_rng(self.grain)
        for pose in self.performance.poses:
            drawn = render(self.speaker.sculpture, pose)
            yield photograph(drawn, person.camera_softness, person.camera_noise, rng)

    def truth(self) -> dict[str, NDArray[np.float32]]:
        """landmarks [T, 68, 2] px; mouth_opening [T] (of the eye distance); pose [T, 3] yaw, pitch, roll in
        degrees; blink [T] in [0, 1]."""
        sculpture, poses = self.speaker.sculpture, self.performance.poses
        landmarks, openings = zip(*(measure(sculpture, pose) for pose in poses), strict=True)
        return {
            "landmarks": np.stack(landmarks),
            "mouth_opening": np.array(openings, np.float32),
            "pose": np.array([(p.head.yaw, p.head.pitch, p.head.roll) for p in poses], np.float32),
            "blink": np.array([p.eyes.blink for p in poses], np.float32),
        }


def population_of(kind: str, settings: StudioSettings) -> PopulationSettings:
    """The population of a kind of people: clients, unseen people and volunteers share one, shifted from the public."""
    if kind == "public":
        return settings.public_population
    return settings.public_population.towards(settings.client_population, settings.shift)


def invite(kind: str, number: int, settings: StudioSettings) -> Speaker:
    """Speaker `number` of a kind, the same whatever else is rendered."""
    identity = draw_identity(settings.seed, kind, number, population_of(kind, settings))
    looks = np.random.default_rng(speaker_seed(settings.seed, kind, number).integers(2**63, size=4))
    return Speaker(kind, number, identity, sculpt(identity, settings.size, looks))


def film(speaker: Speaker, clip: int, settings: StudioSettings) -> StudioClip:
    """Clip number `clip` of a speaker."""
    rng = speaker_seed(settings.seed, speaker.kind, speaker.number, clip)
    utterance = compose_utterance(rng, settings.seconds, speaker.identity.tempo)
    sound = speak(rng, utterance, speaker.identity.voice)
    grain = (settings.seed, KINDS[speaker.kind], speaker.number, clip + 1, 1)
    return StudioClip(speaker, perform(rng, speaker.identity, utterance), sound, grain)
