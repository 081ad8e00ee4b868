"""The parameters of the preparation floor, one group per step."""

from __future__ import annotations

import hashlib
from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from common.settings import HIDDEN, Settings


class CorpusKind(StrEnum):
    """Which reader understands a corpus folder."""

    STUDIO = "studio"
    LRS3 = "lrs3"
    HDTF = "hdtf"
    MIX = "mix"
    FOLDER = "folder"


EmbedderName = Literal["mobilefacenet", "arcface_r50"]
"""Pretrained networks that know faces, see `preparation.faces.embedder`."""


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
    """How the video that a clip was cut from is known; clips of one video never stand on two sides of a split.

    `AUTO` goes by the corpus, see `preparation.corpora.sources`. For a plain folder choose `NUMBERED` when names end in
    the cut's number (`talk_000`, `talk_001`: ready HDTF clips), `SPEAKER` when a speaker's clips are from one
    recording.
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

    `IDENTITY`: each person is one, as the corpus says; choose it for results. `DIRICHLET` deals the clips of those
    people to simulated clients, as unequal as is asked for: choose it to learn how much inequality a method bears.
    """

    IDENTITY = "identity"
    DIRICHLET = "dirichlet"


class Unit(StrEnum):
    """What is dealt whole. `PERSON` keeps each person with one client, so that protecting a client protects a person;
    `VIDEO` divides people between clients (few people, many clips) and gives that up."""

    PERSON = "person"
    VIDEO = "video"


class CutSettings(Settings):
    """How clips are cut from HDTF's source videos."""

    size: int = Field(default=512, ge=64, le=2048, multiple_of=2)
    """Width and height of a clip; 512 as the data set's authors publish theirs."""
    crf: int = Field(default=14, ge=0, le=51)
    """H.264 quality; the crops made later are encoded once more, so this one loses little."""
    shortfall_seconds: float = Field(default=1.0, ge=0)
    """How much earlier than annotated a video may end; more, and it is another video or a broken download."""


class MediaSettings(Settings):
    """How much one file may hold before it is refused; a small file can describe hours of pictures that nobody filmed.

    The defaults let pass three hours of 1080p at 25 frames/s, an hour of it at 60, or an hour of 4K at 25.
    """

    longest_gap_seconds: float = Field(default=5.0, gt=0)
    """A longer jump between two timestamps is taken for a broken index, not for a still picture."""
    slowest_fps: float = Field(default=5.0, gt=0, le=25)
    """Smallest number of pictures a second on average: at less, most frames at 25 a second would be repeats."""
    frames: int = Field(default=270_000, ge=1)
    """Most frames of a file, its own or at 25 a second; sound may last as long (270,000 / 25 s, three hours)."""
    pixels_a_frame: int = Field(default=2**25, ge=1)
    """Largest frame, pixels; 8K has 33 million."""
    pixels: int = Field(default=10**12, ge=1)
    """Most pixels of all frames together, which bounds the time that a file takes."""
    lost_share: float = Field(default=0.1, ge=0, le=1)
    """Largest share of a file's frames that may be damaged: the frame before each of them is held."""
    pixels_a_picture: int = Field(default=2**26, ge=1, le=89_478_485)
    """Largest reference picture, pixels; Pillow refuses more than 89 million by itself."""

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
    """Which LRS3 subsets are read (also of the studio, which has the same layout). LRS3 has no `volunteers`: a folder
    of one's own beside the others, of people on whom a federation's rounds are compared."""
    lists: tuple[Path, ...] = ()
    """Files that name LRS3 clips (see `preparation.corpora.lists`): only these are read; none: all are."""
    extensions: tuple[str, ...] = ()
    """Endings of the files that are read (`.mp4`, `.webm`); none: every file that is no known companion of clips, see
    `preparation.corpora.walking`. Choose some where a folder holds much else: what ends otherwise gets no row."""
    speaker_rule: SpeakerRule = SpeakerRule.AUTO
    """Who speaks in a clip of a plain folder: a person named by the folder and the file (auto), by the parent folder,
    by the top folder, or by the file (stem)."""
    hdtf_speaker: HdtfSpeaker = HdtfSpeaker.PERSON
    """Who is a speaker of HDTF. person: one politician in all videos. video: each video, as most papers do."""
    cuts: CutSettings = CutSettings()
    media: MediaSettings = MediaSettings()
    forget_absent: bool = False
    """Whether what was made of clips that are no longer in the corpus is removed: crops, shards, people's folders. Set
    it when somebody withdraws consent; without it a disk that is missing for a day costs nothing."""


class FaceSettings(Settings):
    tracker: Literal["auto", "mediapipe", "face_alignment", "truth"] = "auto"
    """`auto` takes MediaPipe when its model file is present, else the landmarks the corpus brings along.
    `face_alignment` (BlazeFace and 2DFAN-4) gives points annotated as in 300-W; choose it on a GPU."""
    every: int = Field(default=2, ge=1)
    """Look for the face in every n-th frame and interpolate between. On the rendered corpus MediaPipe's lip aperture
    correlates with the true opening by 0.945, 0.925 and 0.86 for n = 1, 2 and 3, and the time falls with n. Choose 1
    when landmarks are what you measure with, 2 when they mainly align crops (which all three do equally well)."""
    max_faces: int = Field(default=3, ge=1)
    """How many faces a frame may hold; the one that continues the track best is kept."""
    minimum_confidence: float = Field(default=0.4, ge=0, le=1, description="with which the tracker believes in a face")
    longest_bridged_gap: int = Field(default=10, ge=0)
    """Frames without a face that are bridged by interpolation; a longer gap cuts the clip."""
    smoothing: float = Field(default=0.5, ge=0)
    """Gaussian sigma, in frames, against a tracker's tremble; lips move at up to 8 Hz, so more would blunt
    them."""


class CropSettings(Settings):
    size: int = Field(default=128, ge=32, le=1024, multiple_of=2, description="width and height of a crop, pixels")
    eye_height: float = Field(default=0.40, gt=0, lt=1)
    """Height of the eye centres as a fraction of the crop."""
    eye_distance: float = Field(default=0.32, gt=0, lt=1)
    """Distance between the eye centres as a fraction of the crop."""
    smoothing_position: float = Field(default=2.0, ge=0)
    """Gaussian sigma, in frames, of the crop's position and roll in time."""
    smoothing_scale: float = Field(default=6.0, ge=0)
    """Gaussian sigma, in frames, of the crop's scale, which hardly changes in a clip while its estimate trembles."""
    crf: int = Field(default=16, ge=0, le=51, description="H.264 quality of a crop; less is better and larger")


class QualitySettings(Settings):
    minimum_frames: int = Field(default=25, ge=1, description="fewest frames of a clip, at 25 a second")
    minimum_face_pixels: float = Field(default=40, ge=0)
    """Smallest median distance from brows to chin, source pixels."""
    minimum_sharpness: float = Field(default=8.0, ge=0)
    """Smallest median variance of the Laplacian of the grey crop, resized to 128 pixels."""
    maximum_roll_degrees: float = Field(default=30, ge=0, description="largest median tilt of the head to a shoulder")
    minimum_face_rate: float = Field(default=0.5, ge=0, le=1)
    """Smallest share of looked-at frames in which a face was found."""
    minimum_loudness: float = Field(default=0.001, ge=0)
    """Smallest root mean square of the sound, full scale being 1; less is silence."""
    minimum_sound_share: float = Field(default=0.5, ge=0, le=1)
    """Smallest share of the clip between its first and last sound: a track that breaks off is filled up with silence,
    and lips that move to silence teach the wrong thing. Raise it to 0.9 for a corpus known to be whole."""
    require_audio: bool = Field(True, description="whether a clip without sound is refused")


class SceneSettings(Settings):
    """Cuts between shots. With these values the 21 real clips of one shot (3061 frames) are never cut, and of all 420
    ways to join two of them 410 joints are found; the others join two recordings before one wall, framed alike."""

    detect: bool = False
    """Look for hard cuts and keep one scene. Choose it for footage nobody has cut to shots yet; clips with rendered
    truth are never looked at, for they have no cuts."""
    adaptive_threshold: float = Field(default=3.0, gt=0)
    """How many times the change at a cut exceeds the mean change around it."""
    minimum_change: float = Field(default=15.0, gt=0)
    """Smallest change of hue, saturation and brightness, 0-255; at 10 the jump of a tracked crop counts as a cut."""
    shortest: int = Field(default=5, ge=1)
    """Frames between two cuts, so that a flash is not two scenes."""


class SyncSettings(Settings):
    """Whether the sound belongs to the lips, by an active-speaker network (Light-ASD).

    Measured on crops of 128 pixels of the 20 real clips whose sound is known to be theirs (3 to 12 s): the mean
    speaking logit is -0.90 to 1.69, with a frozen face -3.61 to -2.61. Moving the sound round lowers it by 0.35 to
    1.28 (`contrast`). With another clip's sound (380 pairs) the logit is -1.55 to 1.74, no use by itself, and the
    contrast -0.61 to 1.44: at 0.2 all 20 are kept and 42 % of the exchanged are refused, at 0.3 still all 20 and 51 %.
    So the filter finds still faces surely and foreign sound about every other time; what it keeps is not proven.
    """

    check: bool = False
    """Costs about 18 ms of one core for each frame looked at. For real faces; the network never saw rendered ones."""
    minimum_score: float = -1.5
    """Smallest mean speaking logit; below it nobody seen is speaking."""
    minimum_contrast: float = 0.2
    """Smallest fall of the speaking logit when the sound is moved by one, two and three quarters of the stretch."""
    seconds: float = Field(default=12.0, ge=1)
    """How much is looked at, from the middle of the clip."""
    scan_frames: int = Field(default=0, ge=0, le=50)
    """Also move the sound by up to so many frames either way (15 is usual) and keep the best place as `offset` with
    the crop; 0: do not. Clips shorter than this either way and a second more have none."""
    maximum_offset: int | None = Field(default=None, ge=0)
    """Refuse a larger |offset|. Best left out: on the same 20 clips the best place lies within 2 frames of zero in 14
    only, up to 11 off in a sentence of 3 s. It follows a known shift (77 of 80 within 2 frames of the clip's own
    place), but that place is not exact enough to move the sound by: sound is never moved."""


class IdentitySettings(Settings):
    """Whether the faces bear out what the folders claim; thresholds are cosines between clips' embeddings.

    Measured with MobileFaceNet on 21 real clips: the two pairs of one person have 0.97 and 0.95, the other 208 pairs
    a mean of 0.03 and at most 0.31. The network's authors part people best at 70.4 degrees (0.34) on LFW.
    """

    check: bool = False
    """For corpora of real people; rendered faces are none the embedder ever learned to tell apart."""
    frames: int = Field(default=6, ge=1)
    """How many frames of a clip are looked at; 6 cost about 0.15 s."""
    same_clip: float = Field(default=0.35, gt=-1, lt=1)
    """Clips of one client are one face from here on. Lenient, because the folder says so already and other light or
    years part one person's clips further than those measured: less would be another person by all evidence."""
    same_client: float = Field(default=0.5, gt=-1, lt=1)
    """Two clients are reported as one person from here on. Stricter, because a thousand clients are half a million
    pairs, and the chance maximum grows with them."""


class SpeechSettings(Settings):
    """How sound is described. Choose `logmel` for small models: it needs no download and no language. A pretrained
    network knows phonemes: choose `whisper` for any language and noisy sound, `wav2vec2` for clear English."""

    features: Literal["logmel", "wav2vec2", "whisper"] = "logmel"
    """What describes the sound: log-mel spectra, or the hidden states of a pretrained network."""
    model: str | None = None
    """The network's folder, or its hub id (`openai/whisper-tiny`, `facebook/wav2vec2-base-960h`, else
    `owner/name@revision`); logmel has none."""
    tokens: int = Field(default=10, ge=1, le=50)
    """Tokens of 20 ms a frame for networks: 10 see +-100 ms, the reach of a phoneme and its neighbours. More let a
    backbone hear further, at the cost of shards that much larger."""
    layers: Literal["last", "mean"] = "mean"
    """The mean of all layers keeps what the last one, made for text, has thrown away; choose `last` to compare."""


class ClientSettings(Settings):
    public_speaker_fraction: float = Field(default=0.3, ge=0, le=1)
    """Share of speakers that become public in a corpus that does not say who is (LRS3 and the studio do)."""
    public_validation_fraction: float = Field(default=0.1, ge=0, lt=1)
    """Share of public speakers held out whole, so that a backbone is chosen on people it never saw."""
    volunteers: tuple[str, ...] = Field(default=(), json_schema_extra={HIDDEN: "people"})
    """Speakers like the clients who gave their clips away: a federation's rounds are compared on them. Choose some
    where the public speakers look or sound unlike the clients. Whoever is named is neither client nor public."""
    validation_fraction: float = Field(default=0.25, ge=0, lt=1, description="share of a client's clips, for its score")
    test_fraction: float = Field(default=0.25, ge=0, lt=1, description="share of a client's clips, held out")
    sources: SourceRule = SourceRule.AUTO
    """How the video that a clip was cut from is known; clips of one video stand on one side of a split."""
    unseen_client_fraction: float = Field(default=0.0, ge=0, lt=1)
    """Share of clients that are held out whole, beside those that the corpus names: people the federation never saw."""
    sizes: SizeRule = SizeRule.NATURAL
    """Anything but natural leaves clips out: the client drawn largest keeps all its clips, the others fewer."""
    size_skew: float = Field(default=1.0, gt=0)
    """Sigma of the lognormal, exponent of the Zipf law; at 0.5 sizes differ mildly, at 1.5 a few clients hold most."""
    seed: int = Field(0, description="of roles and splits")


class PartitionSettings(Settings):
    """How clips are dealt to simulated clients, see `preparation.clients.partition`; unread where `by` is identity."""

    by: PartitionRule = PartitionRule.IDENTITY
    """Who the clients are. identity: each person is one, as the corpus says. dirichlet: simulated clients, to whom
    people's clips are dealt."""
    clients: int = Field(default=10, ge=1, description="how many clients are simulated")
    alpha: float = Field(default=0.5, gt=0)
    """Concentration: at 0.1 a client holds about one cluster, at 100 all are alike."""
    clusters: int = Field(default=8, ge=1)
    """Groups of clips alike in appearance and pose, in whose shares simulated clients differ."""
    unit: Unit = Field(Unit.PERSON, description="what is dealt whole: a person, or a video of one")
    sizes: SizeRule = SizeRule.NATURAL
    """Natural: all simulated clients are equally large. With lognormal or Zipf quantity and content are both skewed;
    a large alpha skews quantity alone."""
    size_skew: float = Field(default=1.0, gt=0, description="as `preparation.clients.size_skew`")
    seed: int = Field(0, description="of the dealing")


class MixSettings(Settings):
    """How the people of a mix's further parts, the guests, join the training clients of its first part."""

    guest_share: float = Field(default=1.0, ge=0, le=1)
    """Share of the guests who take part; less than 1 for a small subset, as in the paper. The others are left out."""
    client_share: float = Field(default=1.0, ge=0, le=1)
    """Share of the clients whom guests may join; the others train as without a mix."""
    unit: Unit = Unit.PERSON
    """What is dealt whole to one client; a person's videos are never parted by `PERSON`, nor a video's cuts by either.
    """


class ShardSettings(Settings):
    max_bytes: int = Field(default=64 * 1024 * 1024, ge=1024, description="of a shard, unless one sample is larger")
    encode_batch: int = Field(default=64, ge=1)
    """Frames that the VAE encodes at once; of crops larger than 128 pixels so many fewer that memory stays the same."""
    longest_seconds: float = Field(default=60.0, ge=1)
    """A longer clip becomes several samples of nearly equal length, all on its side of the split, for whoever reads a
    sample holds it whole: with 8 latent channels 60 s at 512 pixels are 98 MB of latents, ten minutes a gigabyte.
    Choose 10 for corpora of whole talks, as most papers cut them; less than a training window makes samples useless."""
    cepstra: bool = False
    """Whether samples bring along the sound as the active-speaker network hears it, 104 bytes a frame: needed by
    `training.objective.sync.network=light_asd`, and by nothing else."""


class ConsentSettings(Settings):
    """What happens with clients of whom `preparation.clients.consent` has no record; it is `training.consent`."""

    required: bool = Field(
        True,
        description="clients without a record sit out. false only where something else covers all of them, e.g. a "
        "corpus's research licence; revoked and expired records forbid all the same",
    )


class PreparationSettings(Settings):
    corpus: CorpusSettings = CorpusSettings()
    scenes: SceneSettings = SceneSettings()
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
        """Changes with what a crop depends on, and with nothing else: other changes keep the crops."""
        parts = self.faces.fingerprint() + self.crops.fingerprint() + self.quality.fingerprint()
        if self.scenes.detect:
            parts += self.scenes.fingerprint()
        if self.sync.check:
            parts += self.sync.fingerprint()
        return hashlib.sha256(parts.encode()).hexdigest()[:16]
