"""Sizes of the study's corpora, networks and federations: small enough that hundreds of runs are affordable."""

from __future__ import annotations

from pydantic import Field

from common.settings import Settings
from preparation.corpora.studio.settings import CLIENT_POPULATION, StudioSettings
from preparation.settings import ClientSettings, CropSettings, FaceSettings, PreparationSettings
from training.settings import (
    BackboneSettings,
    FederationSettings,
    PretrainingSettings,
    TrainingSettings,
    VaeSettings,
)
from training.settings.privacy import PrivacySettings


class StudySettings(Settings):
    """Settings of the study.

    The defaults are half the demo's picture size and a third of its networks, which is enough to order methods but not
    for fine pictures. Of a client's ten clips six are for training, one is for its score, three are held out.
    """

    studio: StudioSettings = StudioSettings(
        public_speakers=24,
        public_clips=3,
        clients=8,
        client_clips=10,
        unseen=12,
        unseen_clips=2,
        seconds=1.28,
        size=112,
        client_population=CLIENT_POPULATION.model_copy(
            update={"glasses": 1.0, "camera_pitch": 6.0, "camera_softness": 0.006, "camera_noise": 5.0}
        ),
    )
    preparation: PreparationSettings = PreparationSettings(
        crops=CropSettings(size=96),
        faces=FaceSettings(tracker="truth"),
        clients=ClientSettings(validation_fraction=0.1, test_fraction=0.3),
    )
    training: TrainingSettings = TrainingSettings(
        vae=VaeSettings(widths=(32, 64), blocks=1, steps=700),
        backbone=BackboneSettings(width=64, depth=3),
        pretraining=PretrainingSettings(steps=1000, speech_steps=200, validate_every=500),
        federation=FederationSettings(rounds=6, local_steps=6, batch_size=4),
        privacy=PrivacySettings(noise_multiplier=0.02, clip_norm=1.5, n_max=6, mean_weight=0.95, seeded_noise=0),
    )
    ruler_steps: int = Field(200, ge=1, description="training steps of each of the two rulers")
    personal_steps: int = Field(18, ge=1, description="steps in which a client fits the shared adapter to its clips")
    curve_rounds: tuple[int, ...] = Field((1, 2, 4, 6), description="rounds after which the loss is measured")
    draws: int = Field(2, ge=1, description="draws of noise and timestep for each window of a held-out clip")
    control_adapters: int = Field(
        4, ge=1, description="clients whose own adapters are tried on strangers, as the control for a shared adapter"
    )
    generated_clips: int = Field(1, ge=1, description="clips of each person, where clips are generated")
