"""The parameters of the preparation floor, one group per step."""

from __future__ import annotations

import hashlib
from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from common.settings import HIDDEN, Settings
from preparation.settings.checks import IdentitySettings, SyncSettings
from preparation.settings.samples import SampleSettings


class CorpusKind(StrEnum):
    """Which reader understands a corpus folder."""

    STUDIO = "studio"
    LRS3 = "lrs3"
    HDTF = "hdtf"
    MIX = "mix"
    FOLDER = "folder"


EmbedderName = Literal["mobilefacenet", "arcface_r50"]
"""Pretrained face embedders, see `preparation.faces.embedder`."""


class SpeakerRule(StrEnum):
    """Who speaks in a clip of a plain folder.

    `AUTO` suits most folders: a clip at the root is a speaker of its own, named by its file stem (flat
    folders of unrelated clips); a clip deeper down belongs to the speaker named by its folder path
    (`s1/video` is `s1-video`). `PARENT` uses the parent folder's bare name, `TOP` the first folder below the
    root (GRID's `s1/video/…`), `STEM` always the file stem.
    """

    AUTO = "auto"
    PARENT = "parent"
    TOP = "top"
    STEM = "stem"


class HdtfSpeaker(StrEnum):
    """Who speaks in a clip of HDTF.

    `PERSON` joins the numbered videos of one politician (`WRA_AdamKinzinger0` to `2`), so that nobody is public and a
    client at once. `VIDEO` takes each video for a speaker, as most papers on HDTF do.
    """

    PERSON = "person"
    VIDEO = "video"


class SourceRule(StrEnum):
    """How to know which video a clip was cut from; clips of one video are always in one split.

    `AUTO` goes by the corpus, see `preparation.corpora.sources`. For a plain folder choose `NUMBERED` where names end
    in the cut's number (`talk_000`, `talk_001`: ready HDTF clips), `SPEAKER` where all clips of a speaker are from one
    recording, `CLIP` where each clip is a recording of its own.
    """

    AUTO = "auto"
    CLIP = "clip"
    NUMBERED = "numbered"
    SPEAKER = "speaker"


class SizeRule(StrEnum):
    """How many clips the clients hold.

    `NATURAL` leaves the sizes alone. `LOGNORMAL` draws them independently (a few large clients, most near the
    median); `ZIPF` makes the r-th largest 1 / r^skew of the largest (the long tail of real applications).
    """

    NATURAL = "natural"
    LOGNORMAL = "lognormal"
    ZIPF = "zipf"


class PartitionRule(StrEnum):
    """Who the clients are.

    `IDENTITY`: each person is a client, as the corpus says; choose it for results. `DIRICHLET` deals the clips of those
    people to simulated clients of a chosen inequality: choose it to measure how much inequality a method tolerates.
    """

    IDENTITY = "identity"
    DIRICHLET = "dirichlet"


class Unit(StrEnum):
    """What is dealt whole. `PERSON` keeps each person with one client, so that protecting a client protects a person;
    `VIDEO` may divide a person between clients (for few people with many clips), which loses that protection."""

    PERSON = "person"
    VIDEO = "video"


class CutSettings(Settings):
    """How clips are cut from HDTF's source videos."""

    size: int = Field(default=512, ge=64, le=2048, multiple_of=2)
    """Width and height of a cut clip, pixels; the data set's authors publish 512."""
    crf: int = Field(default=14, ge=0, le=51)
    """H.264 quality of a cut clip, lower is better; it is high because crops are encoded once more later."""
    shortfall_seconds: float = Field(default=1.0, ge=0)
    """How much earlier than annotated a video may end, seconds; a shorter one is another video or a broken download."""


class MediaSettings(Settings):
    """How much one file may hold before it is refused; a small file can describe hours of pictures that nobody filmed.

    The defaults admit three hours of 1080p at 25 frames/s, an hour of it at 60, or an hour of 4K at 25.
    """

    longest_gap_seconds: float = Field(default=5.0, gt=0)
    """Longest gap between two timestamps, seconds; a longer one is taken for a broken index, not a still picture."""
    slowest_fps: float = Field(default=5.0, gt=0, le=25)
    """Smallest average number of pictures a second: with fewer, most frames at 25 a second would be repeats."""
    frames: int = Field(default=270_000, ge=1)
    """Most frames of a file, its own or at 25 a second; sound may last as long (270,000 / 25 s, three hours)."""
    pixels_a_frame: int = Field(default=2**25, ge=1)
    """Largest frame, pixels; 8K has 33 million."""
    pixels: int = Field(default=10**12, ge=1)
    """Most pixels of all frames of a file together, which bounds its reading time."""
    lost_share: float = Field(default=0.1, ge=0, le=1)
    """Largest share of a file's frames that may be damaged; each is replaced by the frame before it."""
    pixels_a_picture: int = Field(default=2**26, ge=1, le=89_478_485)
    """Largest reference picture, pixels; Pillow itself refuses more than 89 million."""

    @property
    def longest_seconds(self) -> float:
        return self.frames / 25


class CorpusPart(Settings):
    """One of the corpora that a mix is made of."""

    kind: CorpusKind = Field(description="how its folder is laid out; no mix")
    root: Path = Field(description="where its clips lie, or its source videos")
    tables: Path | None = Field(None, description="HDTF's tables, where the clips are to be cut from source videos")

    @model_validator(mode="after")
    def _readable(self) -> CorpusPart:
        if self.kind is CorpusKind.MIX:
            raise ValueError("a mix cannot be part of a mix: name its parts instead")
        if self.tables is not None and self.kind is not CorpusKind.HDTF:
            raise ValueError(f"tables are HDTF's: a corpus of kind {self.kind} has none")
        return self


class CorpusSettings(Settings):
    subsets: tuple[str, ...] = ("pretrain", "trainval", "test", "volunteers")
    """Which LRS3 subsets are read; the studio has the same ones. LRS3 itself has no `volunteers`: that is a folder of
    your own beside the others, with people on whom a federation's rounds are compared."""
    lists: tuple[Path, ...] = ()
    """Files that name LRS3 clips (see `preparation.corpora.lists`): only these clips are read; without a list, all."""
    extensions: tuple[str, ...] = ()
    """Endings of the files that are read (`.mp4`, `.webm`); none: every file that is no known companion of clips, see
    `preparation.corpora.walking`. Choose some where a folder holds much else: files with other endings get no row."""
    speaker_rule: SpeakerRule = SpeakerRule.AUTO
    """Who speaks in a clip of a plain folder. auto: named by the folder path, or by the file at the root. parent: by
    the parent folder. top: by the first folder below the root. stem: by the file's name."""
    hdtf_speaker: HdtfSpeaker = HdtfSpeaker.PERSON
    """Who is a speaker of HDTF. person: one politician in all videos. video: each video, as most papers do."""
    cuts: CutSettings = CutSettings()
    media: MediaSettings = MediaSettings()
    forget_absent: bool = False
    """Whether crops, shards and people's folders of clips that are no longer in the corpus are removed. Set it when
    somebody withdraws consent; without it, nothing is lost when a disk is missing for a day."""


class FaceSettings(Settings):
    tracker: Literal["auto", "mediapipe", "face_alignment", "truth"] = "auto"
    """Which face tracker is used. `auto` takes MediaPipe where its model file is present, else a rendered corpus's true
    landmarks. `face_alignment` (BlazeFace and 2DFAN-4) gives points annotated as in 300-W; choose it on a GPU."""
    every: int = Field(default=2, ge=1)
    """Detect the face in every n-th frame and interpolate between. On the rendered corpus MediaPipe's lip aperture
    correlates with the true opening by 0.945, 0.925 and 0.86 for n = 1, 2 and 3, and the time falls with n. Choose 1
    where you measure with landmarks, 2 where they mainly align crops (which all three do equally well)."""
    max_faces: int = Field(default=3, ge=1)
    """Most faces that are detected in a frame; the one that continues the track best is kept."""
    minimum_confidence: float = Field(default=0.4, ge=0, le=1, description="lowest confidence of a detected face, 0-1")
    longest_bridged_gap: int = Field(default=10, ge=0)
    """Longest gap without a face, in frames, that is bridged by interpolation; a longer gap cuts the clip."""
    smoothing: float = Field(default=0.5, ge=0)
    """Gaussian sigma, in frames, against a tracker's jitter; lips move at up to 8 Hz, so more would blunt them."""


class CropSettings(Settings):
    size: int = Field(default=128, ge=32, le=1024, multiple_of=2, description="width and height of a crop, pixels")
    eye_height: float = Field(default=0.40, gt=0, lt=1)
    """Height of the eye centres as a fraction of the crop."""
    eye_distance: float = Field(default=0.32, gt=0, lt=1)
    """Distance between the eye centres as a fraction of the crop."""
    smoothing_position: float = Field(default=2.0, ge=0)
    """Gaussian sigma, in frames, of the crop's position and roll in time."""
    smoothing_scale: float = Field(default=6.0, ge=0)
    """Gaussian sigma, in frames, of the crop's scale, which hardly changes in a clip while its estimate jitters."""
    crf: int = Field(default=16, ge=0, le=51, description="H.264 quality of a crop; lower is better and larger")


class QualitySettings(Settings):
    minimum_frames: int = Field(default=25, ge=1, description="fewest frames of a clip, at 25 a second")
    minimum_face_pixels: float = Field(default=40, ge=0)
    """Smallest median distance from brows to chin, source pixels."""
    minimum_sharpness: float = Field(default=8.0, ge=0)
    """Smallest median variance of the Laplacian of the grey crop, resized to 128 pixels."""
    maximum_roll_degrees: float = Field(default=30, ge=0, description="largest median tilt of the head to a shoulder")
    minimum_face_rate: float = Field(default=0.5, ge=0, le=1)
    """Smallest share of the frames that were looked at in which a face was found."""
    minimum_loudness: float = Field(default=0.001, ge=0)
    """Smallest root mean square of the sound, full scale being 1; less is silence."""
    minimum_sound_share: float = Field(default=0.5, ge=0, le=1)
    """Smallest share of the clip between its first and last sound: a track that ends early is padded with silence, and
    lips that move to silence teach the wrong thing. Raise it to 0.9 for a corpus whose sound is known to be whole."""
    require_audio: bool = Field(True, description="whether a clip without sound is refused")


class SceneSettings(Settings):
    """Cuts between shots. With these values 21 real clips of one shot each (3061 frames) are never cut, and 410 of all
    420 joins of two of them are found; the other 10 join two recordings in front of one wall, framed alike."""

    detect: bool = False
    """Whether to detect hard cuts. Where recordings are cut (`samples.cut`), every shot with a face is kept, else only
    the longest. Choose it for edited footage. Clips with rendered truth are not searched: they have no cuts."""
    adaptive_threshold: float = Field(default=3.0, gt=0)
    """How many times the change at a cut must exceed the mean change around it."""
    minimum_change: float = Field(default=15.0, gt=0)
    """Smallest change of hue, saturation and brightness, 0-255; at 10 the jump of a tracked crop counts as a cut."""
    shortest: int = Field(default=5, ge=1)
    """Fewest frames between two cuts, so that a flash does not count as two cuts."""


class SpeechSettings(Settings):
    """Speech features. Choose `logmel` for small models: it needs no download and depends on no language. A pretrained
    network knows phonemes: choose `whisper` for any language and noisy sound, `wav2vec2` for clear English."""

    features: Literal["logmel", "wav2vec2", "whisper"] = "logmel"
    """The speech features: log-mel spectra, or the hidden states of a pretrained network."""
    model: str | None = None
    """The network's folder, or that folder's name among the weights (`whisper-tiny.en`, for English), or its hub id
    (`openai/whisper-tiny`, `facebook/wav2vec2-base-960h`, else `owner/name@revision`); logmel has none."""
    tokens: int = Field(default=10, ge=1, le=50)
    """How many tokens of 20 ms a frame has, for networks: 10 span +-100 ms, a phoneme and its neighbours. More give a
    backbone more context, and make shards larger in proportion."""
    layers: Literal["last", "mean"] = "mean"
    """Which hidden states are used: the mean of all layers keeps what the last one, trained for text, has lost; choose
    `last` to compare."""
    padding: Literal["full", "second"] = "full"
    """How far whisper's sound is padded with silence. full: to 30 s, as in its training and as published talking-head
    backbones hear it. second: to the next whole second, for corpora of short clips: 1.2 s then take 0.04 s of a core
    instead of 1.3."""


class ClientSettings(Settings):
    public_speaker_fraction: float = Field(default=0.3, ge=0, le=1)
    """Share of speakers that become public in a corpus that does not name public speakers (LRS3 and the studio do)."""
    public_validation_fraction: float = Field(default=0.1, ge=0, lt=1)
    """Share of public speakers held out whole for validation, so that a backbone is chosen on people it never saw."""
    volunteers: tuple[str, ...] = Field(default=(), json_schema_extra={HIDDEN: "people"})
    """Speakers like the clients who gave their clips away: a federation's rounds are compared on them. Name some where
    the public speakers look or sound unlike the clients. A volunteer is neither client nor public."""
    validation_fraction: float = Field(default=0.25, ge=0, lt=1)
    """Share of a client's videos for its score; of fewer than three recordings that are cut, share of their time."""
    test_fraction: float = Field(default=0.25, ge=0, lt=1)
    """Share of a client's videos held out for tests; of fewer than three recordings that are cut, share of their time.
    """
    sources: SourceRule = SourceRule.AUTO
    """How to know which video a clip was cut from; clips of one video are always in one split."""
    unseen_client_fraction: float = Field(default=0.0, ge=0, lt=1)
    """Share of clients held out whole as unseen people, in addition to those that the corpus names."""
    sizes: SizeRule = SizeRule.NATURAL
    """How many clips clients keep. All but natural leave clips out: the client drawn largest keeps all, others less."""
    size_skew: float = Field(default=1.0, gt=0)
    """Sigma of the lognormal or exponent of Zipf's law: at 0.5 sizes differ mildly, at 1.5 a few clients hold most."""
    seed: int = Field(0, description="seed of roles and splits")


class PartitionSettings(Settings):
    """How clips are dealt to simulated clients, see `preparation.clients.partition`; unused where `by` is identity."""

    by: PartitionRule = PartitionRule.IDENTITY
    """Who the clients are. identity: each person is a client, as the corpus says. dirichlet: clients are simulated, and
    people's clips are dealt to them."""
    clients: int = Field(default=10, ge=1, description="how many clients are simulated")
    alpha: float = Field(default=0.5, gt=0)
    """Concentration of the Dirichlet distribution: at 0.1 a client holds about one cluster, at 100 all are alike."""
    clusters: int = Field(default=8, ge=1)
    """Number of groups of clips alike in appearance and pose, in whose shares simulated clients differ."""
    unit: Unit = Field(Unit.PERSON, description="what is dealt whole: a person, or a video of one")
    sizes: SizeRule = SizeRule.NATURAL
    """Relative sizes of simulated clients. natural: all equally large. lognormal, zipf: sizes and content are both
    skewed, with a large alpha sizes alone."""
    size_skew: float = Field(default=1.0, gt=0, description="skew of the sizes, as in `preparation.clients.size_skew`")
    seed: int = Field(0, description="seed of the dealing")


class MixSettings(Settings):
    """How the people of a mix's further parts, the guests, join the training clients of its first part."""

    guest_share: float = Field(default=1.0, ge=0, le=1)
    """Share of the guests who take part; below 1 for a small subset, as in the paper. The others are left out."""
    client_share: float = Field(default=1.0, ge=0, le=1)
    """Share of the clients whom guests may join; the others train as without a mix."""
    unit: Unit = Unit.PERSON
    """What is dealt whole to one client: with `PERSON` all videos of a person, with `VIDEO` all cuts of a video."""


class ShardSettings(Settings):
    max_bytes: int = Field(default=64 * 1024 * 1024, ge=1024)
    """Largest shard, bytes; a single larger sample is a shard of its own."""
    encode_batch: int = Field(default=64, ge=1)
    """Frames that the VAE encodes at once; fewer for crops larger than 128 pixels, so that memory stays the same."""
    longest_seconds: float = Field(default=60.0, ge=1)
    """Longest sample, seconds. A longer clip becomes several samples of nearly equal length in the same split, because
    readers hold a whole sample: with 8 latent channels 60 s at 512 pixels are 98 MB of latents, ten minutes a gigabyte.
    Choose 10 for corpora of whole talks, as most papers cut them; less than a training window makes samples useless."""
    cepstra: bool = False
    """Whether samples hold the cepstra that the active-speaker network hears, 104 bytes a frame: needed only by
    `training.objective.sync.network=light_asd`."""


class ConsentSettings(Settings):
    """The rule for clients without a record, see `preparation.clients.consent`; its settings are `training.consent`."""

    required: bool = Field(
        True,
        description="whether clients without a consent record are left out. false only where something else covers all "
        "of them, e.g. a corpus's research licence; revoked and expired records forbid use all the same",
    )


class PreparationSettings(Settings):
    corpus: CorpusSettings = CorpusSettings()
    scenes: SceneSettings = SceneSettings()
    samples: SampleSettings = SampleSettings()
    faces: FaceSettings = FaceSettings()
    crops: CropSettings = CropSettings()
    quality: QualitySettings = QualitySettings()
    sync: SyncSettings = SyncSettings()
    identity: IdentitySettings = IdentitySettings()
    speech: SpeechSettings = SpeechSettings()
    clients: ClientSettings = ClientSettings()
    mix: MixSettings = MixSettings()
    partition: PartitionSettings = PartitionSettings()
    shards: ShardSettings = ShardSettings()

    def crop_fingerprint(self) -> str:
        """A hash of the settings that a crop depends on, and of no others: other changes keep the crops."""
        parts = self.faces.fingerprint() + self.crops.fingerprint() + self.quality.fingerprint()
        if self.scenes.detect:
            parts += self.scenes.fingerprint()
        if self.sync.check:
            parts += self.sync.fingerprint()
        return hashlib.sha256(parts.encode()).hexdigest()[:16]
