"""Settings of the checks of a clip by a pretrained network: its sound and lips, and whose face it shows."""

from __future__ import annotations

from pydantic import Field

from common.settings import Settings


class SyncSettings(Settings):
    """Whether the sound belongs to the lips, by an active-speaker network (Light-ASD).

    Measured on crops of 128 pixels of 20 real clips whose sound is known to be their own (3 to 12 s): the mean speaking
    logit is -0.90 to 1.69, and with a frozen face -3.61 to -2.61. Rotating the sound in time lowers it by 0.35 to 1.28
    (`contrast`). With another clip's sound (380 pairs) the logit is -1.55 to 1.74, which tells nothing by itself, and
    the contrast -0.61 to 1.44: a minimum of 0.2 keeps all 20 clips and refuses 42 % of these pairs, 0.3 keeps all 20
    and refuses 51 %. So it reliably finds still faces, and foreign sound about every other time; the rest is unproven.
    """

    check: bool = False
    """Whether clips pass this filter; it takes about 18 ms of one core a frame. For real faces only: the network was
    not trained on rendered ones."""
    minimum_score: float = -1.5
    """Smallest mean speaking logit; below it nobody seen is speaking."""
    minimum_contrast: float = 0.2
    """Smallest mean fall of the speaking logit when the sound is moved by one, two and three quarters of its length; of
    clips of 3 s and more, because shorter ones show too little."""
    seconds: float = Field(default=12.0, ge=1)
    """How many seconds are measured, from the middle of the clip."""
    scan_frames: int = Field(default=0, ge=0, le=50)
    """Also move the sound by up to this many frames either way (15 is usual) and record the best shift as `offset` with
    the crop; 0: do not. Clips shorter than twice this and a second have no offset."""
    maximum_offset: int | None = Field(default=None, ge=0)
    """Largest |offset| that is not refused, frames. Best left out: on the same 20 clips the best shift is within 2
    frames of zero in only 14, and up to 11 off in a sentence of 3 s. It follows a known shift (77 of 80 within 2 frames
    of the clip's own best one), but is not exact enough to correct the sound by, so sound is never moved."""


class IdentitySettings(Settings):
    """Whether faces agree with what the folders claim; thresholds are cosines between clips' embeddings.

    Measured with MobileFaceNet on 21 real clips: the two pairs of one person have 0.97 and 0.95, the other 208 pairs
    a mean of 0.03 and at most 0.31. The network's authors separate people best at 70.4 degrees (0.34) on LFW.
    """

    check: bool = False
    """Whether identities are checked; only for real people, as the embedder did not learn to tell rendered faces apart.
    """
    frames: int = Field(default=6, ge=1)
    """How many frames of a clip are embedded; 6 take about 0.15 s."""
    same_clip: float = Field(default=0.35, gt=-1, lt=1)
    """Smallest cosine at which clips of one client show one face; less is another person by all evidence. Lenient, as
    the folder says so already, and other light or years separate one person's clips further than the measured ones."""
    same_client: float = Field(default=0.5, gt=-1, lt=1)
    """Smallest cosine at which two clients are reported as one person. Stricter, because a thousand clients are half a
    million pairs, and the largest cosine by chance grows with their number."""
