"""Settings of the training floor; each group says what its values mean and where they come from."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from common.settings import Settings
from preparation.settings import ConsentSettings
from training.settings.backbones import BaseSettings, Sd15Settings
from training.settings.marks import ProvenanceSettings
from training.settings.methods import FedAdamSettings, FedProxSettings, ScaffoldSettings
from training.settings.privacy import PrivacySettings
from training.settings.rounds import AvailabilitySettings, CheckSettings, FaultSettings

Prediction = Literal["v", "epsilon"]
"""What a backbone predicts; `training.model.diffusion` converts between them."""

Schedule = Literal["cosine", "stable_diffusion"]
"""How much noise each timestep has; see `training.model.diffusion`."""

Sampler = Literal["ddim", "dpm++"]
"""The sampler that turns noise into a clip; see `training.generation.samplers`."""

MethodName = str
"""A key of `training.federation.methods.METHODS`, the one list of methods; `check_names` there refuses others."""

Component = Literal["isfa", "tdc", "dp", "secure_aggregation"]
"""Parts of the full method; `training.federation.methods.components` explains them."""


class VaeSettings(Settings):
    """The autoencoder: its source, and how the demo's small f8 autoencoder is built and trained.

    `source` is `small` (trained on the public split), `taef2` (a registered pretrained network, nothing is trained), a
    folder that diffusers' `save_pretrained` wrote (`AutoencoderKL` or `AutoencoderTiny`), or a hub id
    `owner/name@revision` (see `common.weights.hub`). Choose `small` for rendered faces, `taef2` for real ones; all
    other values here belong to the small one.
    """

    source: str = Field("small", min_length=1, description="small, taef2, a diffusers folder, or a hub id")
    latent_channels: int = Field(8, ge=1, description="channels of a latent")
    widths: tuple[int, int] = Field((48, 96), description="channels at each of the two resolutions")
    blocks: int = Field(2, ge=1, description="residual blocks at each resolution, in encoder and decoder each")
    steps: int = Field(1500, ge=1, description="training steps")
    batch_size: int = Field(8, ge=1, description="frames in a step")
    learning_rate: float = Field(3e-3, gt=0, description="largest learning rate")
    latent_noise: float = Field(0.05, ge=0, description="noise added to unit-std latents while training")
    edge_weight: float = Field(1.0, ge=0, description="weight of the image-gradient term that keeps eyes crisp")
    feature_weight: float = Field(3.0, ge=1, description="extra weight of mouth and eye pixels")


class BackboneSettings(Settings):
    """The denoiser. `tiny` for the rendered demo on a CPU, `base` for a GPU without any pretrained weights, `sd15` to
    start from Stable Diffusion's; width, depth, heads, patch and speech_tokens belong to `tiny`.

    Stable Diffusion's weights were trained with `diffused: latent`, `prediction: epsilon` and `schedule:
    stable_diffusion`, and are of use at once with all three; under the defaults pretraining has to change them first.
    """

    kind: Literal["tiny", "base", "sd15"] = "tiny"
    """The network: tiny for a CPU, base for a GPU without pretrained weights, sd15 to start from Stable Diffusion's."""
    width: int = Field(96, ge=8, description="length of a token")
    depth: int = Field(4, ge=1, description="transformer blocks")
    heads: int = Field(4, ge=1, description="attention heads")
    patch: int = Field(2, ge=1, description="width and height of a token, latent pixels")
    window: int = Field(8, ge=2, description="frames denoised together; 16 is usual at full size")
    speech_tokens: int = Field(2, ge=1, description="tokens that describe a frame's speech")
    diffused: Literal["residual", "latent"] = Field(
        "residual", description="residual: a frame's latent minus the reference's. latent: the frame's latent itself"
    )
    prediction: Prediction = Field(
        "v", description="what the network predicts: v is well posed at every noise level, epsilon not at pure noise"
    )
    schedule: Schedule = Field(
        "cosine",
        description="noise levels: cosine ends in pure noise, stable_diffusion (as SD was trained) just before it",
    )
    base: BaseSettings = BaseSettings()
    sd15: Sd15Settings = Sd15Settings()

    @model_validator(mode="after")
    def _epsilon_needs_a_signal(self) -> BackboneSettings:
        if self.prediction == "epsilon" and self.schedule == "cosine":
            raise ValueError(
                "prediction=epsilon says nothing of the picture at pure noise, where schedule=cosine begins; "
                "take schedule=stable_diffusion, or prediction=v"
            )
        return self


class PretrainingSettings(Settings):
    """Training of the backbone on the public split."""

    steps: int = Field(1800, ge=1, description="training steps")
    batch_size: int = Field(8, ge=1, description="windows in a step")
    learning_rate: float = Field(3e-3, gt=0, description="largest learning rate")
    ema: float = Field(0.995, ge=0, lt=1, description="decay of the mean of the weights, which becomes the backbone")
    speech_steps: int = Field(300, ge=0, description="steps of the speech encoder's own pretraining")
    speech_dropout: float = Field(
        0.0, ge=0, lt=1, description="dropout in it: 0.5 where public speech is minutes, which it else learns by heart"
    )
    freeze_speech: bool = Field(True, description="whether the pretrained speech encoder stays as it is")
    validate_every: int = Field(300, ge=1, description="steps between two validations")
    own_references: float = Field(0.35, ge=0, le=1, description="share of windows whose reference is of the same clip")


class DecodedSettings(Settings):
    """Which frames the terms on decoded frames use (ours; the paper does not say). Both values bound their cost."""

    least_alpha_bar: float = Field(0.5, ge=0, lt=1, description="samples with less signal than this are not decoded")
    frames: int = Field(2, ge=1, description="frames decoded of each sample, spread evenly over its window")


class IdentityTermSettings(Settings):
    """L_id, eq. 9. `ruler` is trained by the pipeline on the public split; choose `mobilefacenet` for real faces."""

    network: Literal["none", "ruler", "mobilefacenet"] = Field(
        "none", description="compares faces; none: the term is off"
    )
    weight: float = Field(0.10, ge=0, description="lambda of the term")


class PerceptualTermSettings(Settings):
    """L_perc, eq. 10. `ruler` compares features of the pipeline's own rulers; choose an `lpips` for real faces."""

    network: Literal["none", "ruler", "lpips_alex", "lpips_squeeze", "lpips_vgg"] = "none"
    """The network whose features are compared; none switches the term off."""
    weight: float = Field(0.10, ge=0, description="lambda of the term")


class SyncTermSettings(Settings):
    """L_sync, eq. 11. `ruler` compares mouth openings by the pipeline's own ruler; choose it on rendered faces.

    `light_asd` uses a pretrained active-speaker network; choose it for real faces, with shards that hold the sound in
    its form (`preparation.shards.cepstra`). It decodes every frame of a window, not `decoded.frames` of them.
    """

    network: Literal["none", "ruler", "light_asd"] = Field(
        "none", description="compares lips with speech; none: the term is off"
    )
    weight: float = Field(0.05, ge=0, description="lambda of the term")


class ObjectiveSettings(Settings):
    """The local objective, eq. 12, and how its expectation is taken.

    The weights are the paper's lambdas; a term is off when its network is `none` or its weight zero. Identity,
    perceptual and sync terms decode frames in the clients' local steps only, never in pretraining. Mouth weighting
    and the timestep bias are ours: the mouth is 3 % of the picture and all that speech decides, and few-step
    sampling takes its steps at high noise.
    """

    denoising_weight: float = Field(1.0, ge=0, description="weight of the denoising term")
    tdc_weight: float = Field(0.05, ge=0, description="lambda of temporal consistency (TDC)")
    identity: IdentityTermSettings = IdentityTermSettings()
    perceptual: PerceptualTermSettings = PerceptualTermSettings()
    sync: SyncTermSettings = SyncTermSettings()
    decoded: DecodedSettings = DecodedSettings()
    mouth_weight: float = Field(10.0, ge=1, description="weight of the mouth in the denoising term; the rest has 1")
    eye_weight: float = Field(2.0, ge=1, description="weight of the eyes in the denoising term")
    noise_bias: float = Field(0.6, gt=0, description="t ~ U(0,1)**noise_bias; below 1 favours high noise")
    min_snr_gamma: float | None = Field(
        None,
        gt=0,
        description="min-SNR weighting of timesteps (Hang et al. 2023; their gamma is 5): less weight where little "
        "noise is left, and none at pure noise, where few-step sampling begins. null: all timesteps count alike",
    )
    drop_speech: float = Field(
        0.0, ge=0, lt=1, description="share of windows that are shown no speech, which generation.speech_guidance needs"
    )
    drop_identity: float = Field(
        0.0, ge=0, lt=1, description="share of windows that are shown no reference, which identity_guidance needs"
    )
    shared_noise: float = Field(0.5, ge=0, lt=1, description="share of the noise variance common to all frames")

    def in_pretraining(self) -> ObjectiveSettings:
        """These settings without those of the terms on decoded frames, on which the backbone does not depend."""
        off = {
            name: ObjectiveSettings.model_fields[name].default for name in ("identity", "perceptual", "sync", "decoded")
        }
        return self.model_copy(update=off)

    def pixel_weights(self) -> dict[str, float]:
        """The weight of each term on decoded frames, of those that are switched on."""
        terms: dict[str, IdentityTermSettings | PerceptualTermSettings | SyncTermSettings] = {
            "identity": self.identity,
            "perceptual": self.perceptual,
            "sync": self.sync,
        }
        return {name: term.weight for name, term in terms.items() if term.network != "none" and term.weight > 0}


class AdapterSettings(Settings):
    """LoRA, eq. 7. `attention` is the paper's choice; `all` is what moved the mouth in our measurements."""

    rank: int = Field(8, ge=1, description="rank of each pair of matrices")
    alpha: float = Field(8.0, gt=0, description="scale: the product of a pair is multiplied by alpha / rank")
    targets: Literal["attention", "all"] = Field("all", description="adapted layers: those of attention alone, or all")
    averaging: Literal["plain", "ffa", "fedex"] = Field(
        "plain",
        description="how pairs are averaged, as the means of A and of B do not multiply to the mean of B A. plain: "
        "averages both all the same, as the paper does. ffa (FFA-LoRA, Sun et al. 2024): A stays as drawn, only B is "
        "trained and sent, so that the average is exact, noise enters once, and half the bytes are sent; choose it "
        "under strong noise or where clients differ much. fedex (FedEx-LoRA, Singhal et al. 2024): trains both, and "
        "adds what the average leaves out to the frozen weights, which are sent down in every round; choose it where "
        "nothing is hidden or noised",
    )


class FederationSettings(Settings):
    """Rounds, clients and local work (Algorithm 1)."""

    rounds: int = Field(6, ge=1, description="rounds of the federation (T)")
    clients_per_round: int | None = Field(None, ge=1, description="size of a cohort; null: every client, every round")
    sampling: Literal["fixed", "poisson", "allocation"] = Field(
        "fixed",
        description="fixed: exactly clients_per_round clients. poisson: each client with the same chance, as many on "
        "average; epsilon of the released model is then far smaller. allocation: each client in one round of every "
        "N/clients_per_round, at random; under central noise epsilon is then smaller still",
    )
    local_steps: int = Field(10, ge=1, description="steps of a client in a round")
    batch_size: int = Field(8, ge=1, description="windows in a client's step")
    micro_batch: int | None = Field(
        None,
        ge=1,
        description="windows of a batch computed at once; their gradients add up to the batch's. null: all of them",
    )
    memory_budget_gb: float | None = Field(
        None,
        gt=0,
        description="GB for a worker's models and one step, without libraries: micro_batch becomes what fits. "
        "Choose it where a batch does not fit; where one fits, nothing changes",
    )
    learning_rate: float = Field(2e-3, gt=0, description="learning rate of the clients' steps")
    server_rate: float = Field(1.0, gt=0, description="learning rate of the server's step (eta)")
    personalisation_steps: int = Field(
        0,
        ge=0,
        description="steps in which each client, when the federation is over, fits the shared adapter to its own "
        "clips; the result stays with the client. `local` has no shared adapter to fit and takes no such steps",
    )
    unmeasured: Literal["refuse", "allow"] = Field(
        "refuse",
        description="clients without a usable clip to validate with. refuse: they do not take part, because nothing "
        "would show whether what they teach is any good. allow: they train with a score of one half; choose it where "
        "people have a clip or two each; who has fewer than three is then never validated",
    )
    score: Literal["paper", "speech"] = Field(
        "paper",
        description="s_k. paper: identity and temporal stability of a generated clip, which hardly separates bad "
        "clients from good ones. speech: how much held-out clips depend on their own speech; choose it where clients' "
        "sound or video may be bad, with a privacy.gamma of 5 or more, because its values lie between 0 and about 0.6",
    )
    score_alpha: float = Field(0.7, ge=0, le=1, description="IDSim's share in s_k; the rest is TempStab")
    score_frames: int = Field(
        8,
        ge=2,
        description="frames generated for the score, of a validation clip; 8 are a window of the demo's backbone",
    )
    score_clips: int | None = Field(
        1,
        ge=1,
        description="held-out clips of the client over which the score's parts are averaged; null: all of them. "
        "One says little about a client whose clips differ; each more costs as much again",
    )
    score_steps: int = Field(
        2,
        ge=1,
        description="sampling steps of the score's clip; more make no better one (benchmarks/README.md, Samplers)",
    )
    keep: Literal["last", "best"] = Field(
        "last",
        description="the adapter that is saved: the last round's, or that of the round with the lowest public "
        "validation loss (on volunteers, where the corpus has any: docs/corpora.md)",
    )
    availability: AvailabilitySettings = AvailabilitySettings()
    faults: tuple[FaultSettings, ...] = ()
    """Kinds of unreliable clients that are simulated; none: all are reliable."""
    checks: CheckSettings = CheckSettings()


class ComputeSettings(Settings):
    """How a backbone computes its steps; it changes the last digits of results at most. Measured in docs/scaling.md."""

    compile: bool = Field(
        False,
        description="torch.compile: a minute or more at the start of each worker. Choose it for long runs on a GPU",
    )
    gradient_checkpointing: bool = Field(
        False, description="computes activations again instead of keeping them. Choose it where one window does not fit"
    )
    channels_last: bool = Field(False, description="layout of pictures in memory. Choose it for `sd15` on a GPU")
    frozen_bfloat16: bool = Field(
        False,
        description="keeps frozen matrices in the precision in which a GPU computes with them: half their memory. "
        "It does nothing on a device without bfloat16",
    )


class ExecutionSettings(Settings):
    """Where clients train. Nothing here changes what they learn, so a federation may go on under other values.

    Choose `ray` (needs the extra `ray`) for several machines, `local` for one, `here` (no workers) where a federation
    takes less than the half minute in which workers start. A Ray cluster's machines must see the run's folder under
    the same path.
    """

    engine: Literal["local", "ray", "here"] = Field("local", description="processes here, a cluster, or this process")
    devices: tuple[str, ...] = Field(
        (),
        description="devices of local workers, e.g. [cuda:0, cuda:1]; none: every GPU, or the CPU `workers` times",
    )
    restarts: int = Field(2, ge=0, description="workers that one client may crash in a round before that is an error")
    ray_address: str | None = Field(
        None, description="address of a running cluster, e.g. 10.0.0.1:6379; null: one is started"
    )
    ray_actors: int | None = Field(
        None,
        ge=1,
        description="number of actors; null: as many as the cluster has GPUs, or `workers` without any",
    )
    gpus_per_actor: float = Field(
        1.0, gt=0, le=1, description="GPUs of one Ray actor; below 1, several actors share a GPU"
    )


class GenerationSettings(Settings):
    """Sampling of a clip."""

    sampler: Sampler = Field("ddim", description="sampler that turns noise into a clip")
    steps: int = Field(5, ge=1, description="sampling steps")
    speech_guidance: float = Field(
        1.0,
        ge=0,
        description="above 1, lips follow speech more than the backbone predicts (Ho and Salimans 2022), at twice the "
        "time; of use only to a backbone that was trained with objective.drop_speech",
    )
    identity_guidance: float = Field(1.0, ge=0, description="as speech_guidance, for objective.drop_identity")
    overlap: int = Field(4, ge=0, description="frames that neighbouring windows share")


class TrainingSettings(Settings):
    """All settings of the training floor."""

    methods: tuple[MethodName, ...] = Field(
        ("privfedtalk", "fedavg"),
        min_length=1,
        description="methods to train and evaluate, by their names in training.federation.methods",
    )
    components: dict[MethodName, tuple[Component, ...]] = Field(default_factory=dict)
    """Parts of the full method that a method uses in place of its own, e.g. `fedavg: [dp, secure_aggregation]`."""
    public_run: Path | None = Field(
        None,
        description="a run that lends its autoencoder, rulers and backbone, and on whose held-out public speakers "
        "rounds are compared: for a corpus without public people, such as your own recording",
    )
    vae: VaeSettings = VaeSettings()
    backbone: BackboneSettings = BackboneSettings()
    pretraining: PretrainingSettings = PretrainingSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    adapter: AdapterSettings = AdapterSettings()
    federation: FederationSettings = FederationSettings()
    privacy: PrivacySettings = PrivacySettings()
    compute: ComputeSettings = ComputeSettings()
    generation: GenerationSettings = GenerationSettings()
    provenance: ProvenanceSettings = ProvenanceSettings()
    consent: ConsentSettings = ConsentSettings()
    execution: ExecutionSettings = ExecutionSettings()
    fedprox: FedProxSettings = FedProxSettings()
    scaffold: ScaffoldSettings = ScaffoldSettings()
    fedadam: FedAdamSettings = FedAdamSettings()
