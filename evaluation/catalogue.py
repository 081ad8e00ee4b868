"""The one list of metrics, methods, references and gates, which tables, figures, pages, cards and commands read.

A new metric is a file in `evaluation/metrics` and a line of `METRICS`. A new method is a file in
`training/federation/methods` and a line of `METHODS` there; its entry here is derived from that line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from common.errors import PrivFedTalkError
from evaluation.metrics import fidelity, identity, lipsync, motion
from evaluation.metrics.instruments import FLOW, I3D, INCEPTION, LIGHT_ASD, LPIPS_ALEX, LPIPS_VGG, SYNCNET
from evaluation.metrics.interface import Instrument
from training.federation.methods import METHODS
from training.federation.methods.base import Method

PIXELS = Instrument("pixels", fidelity.measure)
IDENTITY_RULER = Instrument("identity ruler", identity.measure)
MOTION = Instrument("frame differences", motion.measure)
OPENING_RULER = Instrument("opening ruler", lipsync.measure)
FACE_TRACKER = Instrument("face tracker")
FACE_EMBEDDER = Instrument("face embedder")
SWAP = Instrument("another clip's speech")
DENOISER = Instrument("the method's own denoiser")

MEASURED_FIRST = (PIXELS, IDENTITY_RULER, MOTION, OPENING_RULER)
"""Instruments whose rows come first for each clip in `metrics.parquet`; the others follow in the order of `METRICS`."""

Better = Literal["higher", "lower", "neither"]

Table = Literal["headline", "further", "paper", "document", "unseen", "summary", "card"]
"""headline  the page's first table, the paper's tables, docs/results.md
further   the page's second table and the paper's tables: metrics that some runs cannot measure
paper     the paper's tables only
document  docs/results/demo.md, which also shows headline
unseen    the page's table of people who never trained
summary   the table that a command prints at its end, and Dagster's results
card      the model card of an adapter"""

Gate = Literal["noise", "still", "still, by sound", "conceded to the still"]
"""noise                  every model must beat noise on this metric
still                  every model must beat a still picture on it
still, by sound        the same, used where the true mouth opening is unknown
conceded to the still  a sharp still picture may be better on it; the findings then say so"""


@dataclass(frozen=True)
class Metric:
    """A metric: what it is called, how it is printed, what measures it, and where it is shown.

    `compared`: methods are tested against each other on it. `together`: it is one figure of all clips, which cannot be
    tested. `beside` is the key of the metric that it only accompanies, as the true clips' value, a count or a
    deviation. `instead_of` is the key of a metric for rendered people, in whose place tables of real people show this.
    A metric that is not `recorded` stays in `metrics.parquet` and is no part of results.json.
    """

    key: str
    label: str
    unit: str
    digits: int
    better: Better
    instrument: Instrument
    tables: tuple[Table, ...] = ()
    explanation: str = ""
    gates: tuple[Gate, ...] = ()
    compared: bool = False
    together: bool = False
    beside: str = ""
    instead_of: str = ""
    recorded: bool = True

    @property
    def heading(self) -> str:
        """The label above a column, with an arrow to the better side."""
        return self.label + self.arrow

    @property
    def arrow(self) -> str:
        """A space and an arrow to the better side, or nothing."""
        return {"higher": " ↑", "lower": " ↓", "neither": ""}[self.better]

    @property
    def in_sentence(self) -> str:
        """The label inside a sentence, in lower case; published names of further metrics keep their capitals."""
        first, _, rest = self.label.partition(" ")
        if "further" in self.tables or not first[1:].islower():
            return self.label
        return " ".join(filter(None, (first.lower(), rest)))

    @property
    def axis(self) -> str:
        """The label with its unit, for an axis or the heading of a column."""
        return ", ".join(filter(None, (self.in_sentence, self.unit)))

    @property
    def sign(self) -> int:
        """1 where higher is better, -1 where lower is, 0 where neither is."""
        return {"higher": 1, "lower": -1, "neither": 0}[self.better]


EYES = "inter-ocular distances"

METRICS: tuple[Metric, ...] = (
    Metric("lip_correlation", "Lip correlation", "", 3, "higher", OPENING_RULER,
           ("headline", "unseen", "summary", "card"),
           "Pearson correlation of the measured mouth opening with the true one", ("noise", "still"), compared=True),
    Metric("opening_error", "Opening error", EYES, 3, "lower", OPENING_RULER,
           ("headline", "unseen", "summary", "card"),
           "mean distance of measured from true mouth opening, in inter-ocular distances",
           ("noise", "still"), compared=True),
    Metric("tracked_correlation", "Tracked lips", "", 3, "higher", FACE_TRACKER,
           ("headline", "unseen", "summary", "card"),
           "Pearson correlation of the mouth opening with the true clip's, both read off landmarks by the face tracker",
           ("noise", "still, by sound"), compared=True, instead_of="lip_correlation"),
    Metric("tracked_opening_error", "Tracked opening error", EYES, 3, "lower", FACE_TRACKER,
           ("headline", "unseen", "summary", "card"),
           "mean distance of these two openings, in inter-ocular distances",
           ("noise", "still, by sound"), compared=True, instead_of="opening_error"),
    Metric("mouth_psnr", "Mouth PSNR", "dB", 2, "higher", PIXELS, ("headline", "unseen", "summary", "card"),
           "dB, on the box around the true mouth", ("noise", "conceded to the still"), compared=True),
    Metric("mouth_ssim", "Mouth SSIM", "", 3, "higher", PIXELS, ("headline", "unseen"),
           "structural similarity on the same box", ("noise", "conceded to the still"), compared=True),
    Metric("psnr", "PSNR", "dB", 2, "higher", PIXELS, ("headline", "summary", "card"),
           "dB, whole frame: mostly says how well the head pose was guessed", ("noise",), compared=True),
    Metric("ssim", "SSIM", "", 3, "higher", PIXELS, ("headline", "card"),
           "structural similarity, whole frame", ("noise",)),
    Metric("identity", "Identity", "", 3, "higher", IDENTITY_RULER, ("headline", "unseen", "summary", "card"),
           "cosine to the reference frame, by the identity ruler (trained on public split)",
           ("noise",), compared=True),
    Metric("validation_loss", "Validation loss", "", 4, "lower", DENOISER, ("headline", "summary"),
           "denoising loss on held-out clips, same noise and timesteps for every method", ("noise",), compared=True),
    Metric("mean_frame_delta", "Frame delta", "", 4, "neither", MOTION, ("headline",),
           "mean change between frames; read beside the true clips' value, a still has none"),
    Metric("swapped_new", "Swap: new", "", 3, "higher", SWAP, ("headline", "unseen"),
           "driven by another clip's speech: lips with that clip"),
    Metric("swapped_old", "Swap: old", "", 3, "neither", SWAP, ("headline", "unseen"),
           "the same: lips with the clip not spoken; should be 0"),
    Metric("tracked_swapped_new", "Tracked swap: new", "", 3, "higher", FACE_TRACKER, ("headline", "unseen"),
           "driven by another clip's speech: tracked lips with that clip", instead_of="swapped_new"),
    Metric("tracked_swapped_old", "Tracked swap: old", "", 3, "neither", FACE_TRACKER, ("headline", "unseen"),
           "the same: tracked lips with the clip not spoken; should be 0", instead_of="swapped_old"),
    Metric("landmarker_rate", "Face found", "", 3, "higher", FACE_TRACKER, ("headline",),
           "share of generated frames with a tracked face"),
    Metric("landmarker_rate_truth", "Face found, real", "", 3, "neither", FACE_TRACKER, beside="landmarker_rate",
           recorded=False),
    Metric("mean_frame_delta_truth", "Frame delta, real", "", 4, "neither", MOTION,
           ("paper", "document"), "the true clips' own", beside="mean_frame_delta"),
    Metric("face_identity", "Face identity", "", 3, "higher", FACE_EMBEDDER,
           ("headline", "unseen", "summary", "card", "further"),
           "cosine to the reference face, aligned faces, MobileFaceNet (ArcFace)",
           ("noise",), compared=True, instead_of="identity"),
    Metric("face_identity_drift", "Face drift", "", 3, "neither", FACE_EMBEDDER, ("further",),
           "the same, last quarter of the clip minus first: below zero the face drifts away", beside="face_identity"),
    Metric("arcface_identity", "Face identity (InsightFace)", "", 3, "higher", FACE_EMBEDDER, ("further",),
           "the same by InsightFace's ArcFace ResNet-50 (buffalo_l)", ("noise",), compared=True),
    Metric("arcface_identity_drift", "Face drift (InsightFace)", "", 3, "neither", FACE_EMBEDDER,
           beside="arcface_identity"),
    Metric("flicker_ratio", "Flicker", "", 2, "neither", MOTION, ("further",),
           "mean |Δ²| / mean |Δ|: real clips 1.2-1.4, noise 1.7"),
    Metric("flicker_ratio_truth", "Flicker, real", "", 2, "neither", MOTION, beside="flicker_ratio"),
    Metric("landmark_jitter_ratio", "Jitter ratio", "", 2, "neither", FACE_TRACKER, ("further",),
           "acceleration of the landmarks as a multiple of the true clip's"),
    Metric("lip_landmark_distance", "LMD", EYES, 3, "lower", FACE_TRACKER, ("further",),
           "mouth landmarks to the true ones, inter-ocular distances", ("noise", "conceded to the still")),
    Metric("tof", "tOF", "pixels per frame", 3, "lower", FLOW, ("further",),
           "difference of optical flow to the true clip's, pixels per frame", ("noise",), compared=True),
    Metric("light_asd_score", "Light-ASD score", "", 2, "higher", LIGHT_ASD, ("unseen",),
           "the speaking logit: how surely lips and sound are one person speaking"),
    Metric("light_asd_score_truth", "Light-ASD score, real", "", 2, "neither", LIGHT_ASD, ("unseen",),
           "the true clips' own", beside="light_asd_score"),
    Metric("light_asd_contrast", "Light-ASD contrast", "", 2, "higher", LIGHT_ASD, ("further",),
           "fall of the speaking logit when the sound is moved: lips that belong to their sound",
           ("noise", "still, by sound"), compared=True),
    Metric("light_asd_contrast_truth", "Light-ASD contrast, real", "", 2, "neither", LIGHT_ASD,
           beside="light_asd_contrast"),
    Metric("lse_d", "LSE-D", "", 3, "lower", SYNCNET, ("further",), "SyncNet distance, as published",
           ("noise",), compared=True),
    Metric("lse_c", "LSE-C", "", 3, "higher", SYNCNET, ("further",), "SyncNet confidence, as published",
           ("noise", "still, by sound"), compared=True),
    Metric("lse_c_gap", "ΔLSE-C", "", 3, "lower", SYNCNET, ("further",),
           "distance of LSE-C to the true clip's: some methods beat reality", beside="lse_c"),
    Metric("av_offset", "AV offset", "frames", 1, "neither", SYNCNET),
    Metric("lse_d_truth", "LSE-D, real", "", 3, "neither", SYNCNET, beside="lse_d"),
    Metric("lse_c_truth", "LSE-C, real", "", 3, "neither", SYNCNET, beside="lse_c"),
    Metric("lpips_alex", "LPIPS (alex)", "", 4, "lower", LPIPS_ALEX, ("further",),
           "all frames, version 0.1, AlexNet", ("noise",), compared=True),
    Metric("lpips_vgg", "LPIPS (vgg)", "", 4, "lower", LPIPS_VGG, ("further",),
           "all frames, version 0.1, VGG-16", ("noise",), compared=True),
    Metric("kid", "KID", "", 4, "lower", INCEPTION, ("further",),
           "torch-fidelity's Inception and protocol; no test: one figure for all clips", ("noise",), together=True),
    Metric("kid_deviation", "KID, deviation", "", 4, "neither", INCEPTION, together=True, beside="kid"),
    Metric("fid", "FID", "", 2, "lower", INCEPTION, ("further",),
           "the same features; biased and unstable below 2,048 frames", ("noise",), together=True),
    Metric("fid_frames", "Frames", "", 0, "neither", INCEPTION, ("further",), "n of KID and FID", together=True,
           beside="fid"),
    Metric("fvd", "FVD", "", 1, "lower", I3D, ("further",), "I3D (Kinetics-400), one window of 16 frames a clip",
           ("noise",), together=True),
    Metric("fvd_clips", "Windows", "", 0, "neither", I3D, ("further",), "n of FVD", together=True, beside="fvd"),
    Metric("psnr_centre_frame", "PSNR, centre frame", "dB", 2, "higher", PIXELS, ("paper",),
           "the paper's protocol", beside="psnr"),
    Metric("ssim_centre_frame", "SSIM, centre frame", "", 3, "higher", PIXELS, ("paper",),
           "the paper's protocol", beside="ssim"),
    Metric("lpips_alex_centre_frame", "LPIPS (alex), centre frame", "", 4, "lower", LPIPS_ALEX, ("paper",),
           "the paper's protocol", beside="lpips_alex"),
    Metric("lpips_vgg_centre_frame", "LPIPS (vgg), centre frame", "", 4, "lower", LPIPS_VGG, beside="lpips_vgg"),
    Metric("kid_centre_frame", "KID, centre frame", "", 4, "lower", INCEPTION, ("paper",),
           "the paper's protocol", together=True, beside="kid"),
    Metric("kid_centre_frame_deviation", "KID, centre frame, deviation", "", 4, "neither", INCEPTION, together=True,
           beside="kid"),
    Metric("fid_centre_frame", "FID, centre frame", "", 2, "lower", INCEPTION, ("paper",),
           "the paper's protocol", together=True, beside="fid"),
    Metric("fid_centre_frame_frames", "Frames, centre frame", "", 0, "neither", INCEPTION, together=True,
           beside="fid"),
    Metric("identity_drift", "Identity drift", "", 3, "neither", IDENTITY_RULER, beside="identity"),
)  # fmt: skip
"""All metrics, in the order in which tables show them."""

COMPARED_FIRST = ("validation_loss", "mouth_psnr", "mouth_ssim", "opening_error", "lip_correlation", "psnr", "identity")
"""Metrics that come first in results.json's comparisons and in the sentences about them; the others follow in the order
of `METRICS`."""

BASIC = ("psnr", "ssim", "mouth_psnr", "lip_correlation", "identity")
"""Metrics on which any model that generates at all beats noise; higher is better for all of them. They come first in
the comparisons with noise, then further metrics where higher is better, then those where lower is."""


def metric(key: str) -> Metric:
    """The metric with this key; raises PrivFedTalkError where there is none."""
    found = {one.key: one for one in METRICS}.get(key)
    if found is None:
        raise PrivFedTalkError(
            f"{key!r} is no metric of this version", "measure again: privfedtalk evaluate, or use the version that did"
        )
    return found


def shown_in(*tables: Table) -> tuple[Metric, ...]:
    """The metrics that at least one of these tables shows."""
    return tuple(one for one in METRICS if set(one.tables) & set(tables))


def of_real_people(methods: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether these methods' figures are of real people: a true opening is known of rendered ones alone."""
    return all(figures.get("lip_correlation") is None for figures in methods.values())


def columns_for(methods: Mapping[str, Mapping[str, Any]], *tables: Table) -> tuple[Metric, ...]:
    """The metrics that a table of these methods' figures shows: of a metric and its substitute only one, besides
    tables that have only the substitute."""
    known = {key for figures in methods.values() for key, value in figures.items() if value is not None}
    replaced = {one.instead_of for one in METRICS if of_real_people(methods) and one.key in known} - {""}

    def tables_of(one: Metric) -> set[Table]:
        own = set(one.tables)
        return own if one.instead_of in {"", *replaced} else own - set(metric(one.instead_of).tables)

    return tuple(one for one in METRICS if one.key not in replaced and tables_of(one) & set(tables))


def of_clips() -> tuple[str, ...]:
    """Keys of the metrics that have a value for each clip or client; results.json gives them with an interval."""
    return tuple(one.key for one in METRICS if one.recorded and not one.together)


def of_sets() -> tuple[str, ...]:
    """Keys in results.json of the figures of all clips together, and of the jackknife intervals of FID, KID and FVD
    (see `evaluation.metrics.sets.set_level`)."""
    together = [one for one in METRICS if one.together]
    ends = [f"{one.key}_{end}" for one in together if one.sign for end in ("se", "low", "high")]
    return (*(one.key for one in together), *ends)


def compared() -> tuple[str, ...]:
    """Keys of the metrics on which methods are tested against each other."""
    return tuple(one.key for one in _first(COMPARED_FIRST, (one for one in METRICS if one.compared)))


def gated(gate: Gate) -> tuple[Metric, ...]:
    """The metrics that belong to a gate, in the order of its comparisons."""
    found = _first(BASIC if gate == "noise" else (), (one for one in METRICS if gate in one.gates))
    return tuple(sorted(found, key=lambda one: -one.sign)) if gate == "noise" else found


def measured_by(instrument: Instrument) -> tuple[Metric, ...]:
    """The metrics of an instrument, without those that only accompany another metric."""
    return tuple(one for one in METRICS if one.instrument == instrument and not one.beside)


def instruments() -> tuple[Instrument, ...]:
    """Every instrument, in the order in which they measure."""
    return tuple(dict.fromkeys((*MEASURED_FIRST, *(one.instrument for one in METRICS))))


def _first(keys: tuple[str, ...], metrics: Iterable[Metric]) -> tuple[Metric, ...]:
    """The metrics, those named in `keys` first and in that order."""
    return tuple(sorted(metrics, key=lambda one: keys.index(one.key) if one.key in keys else len(keys)))


Role = Literal["federated", "pooled", "local", "backbone", "gate", "picture"]
"""federated  clients send updates to a server
pooled     all clips in one place
local      each client alone; there is no shared adapter
backbone   the frozen backbone, with which methods are compared
gate       a bound for methods: what they must beat, or what they cannot beat
picture    shown beside methods in pictures, never measured"""


@dataclass(frozen=True)
class Entry:
    """A method, a reference, a gate or a panel of pictures: its name, its role, and one line on what it is."""

    key: str
    label: str
    role: Role
    description: str = ""


BACKBONE = "backbone"

REFERENCES = (
    Entry(BACKBONE, "Frozen backbone", "backbone", "trained on public speakers only, never on a client"),
    Entry("copy_reference", "Still picture", "gate",
          "the reference frame repeated: what a method must beat on the lips"),
    Entry("vae_ceiling", "Real video, coded", "gate",
          "the true clip through the autoencoder: what no method can beat"),
    Entry("noise", "Noise", "gate", "what an untrained model gives"),
)  # fmt: skip
PICTURES = (Entry("truth", "Truth", "picture"), Entry("reference", "Reference", "picture"))

GATES = tuple(one.key for one in REFERENCES if one.role == "gate")

PERSONAL = "_personal"
"""Suffix of the name under which a method is measured with each client's own adapter."""


def entries() -> dict[str, Entry]:
    """By key: methods, then references, then the other panels of pictures."""
    methods = [Entry(key, one.label, _role(one), one.description) for key, one in METHODS.items()]
    return {one.key: one for one in (*methods, *REFERENCES, *PICTURES)}


def federated() -> tuple[str, ...]:
    """The methods whose clients send updates."""
    return tuple(key for key, one in entries().items() if one.role == "federated")


def has_shared_adapter(method: str) -> bool:
    """Whether one adapter serves everybody, so that outsiders can use it and follow its loss."""
    return method not in METHODS or METHODS[method].sends


def models_in(table: Literal["main", "ablations"]) -> tuple[str, ...]:
    """The rows of the paper's table 1 ("main") or 2: its methods, the backbone, the gates."""
    return (*(key for key, one in METHODS.items() if table in one.tables), BACKBONE, *GATES)


def personal_of(method: str) -> str:
    """The name of a method's second row, measured after every client fitted the shared adapter to its own clips
    (`personalisation_steps`)."""
    return method + PERSONAL


def name_of(key: str) -> str:
    """The label of a method, reference or gate; for an unknown key, the key with spaces."""
    if key.endswith(PERSONAL):
        return f"{name_of(key.removesuffix(PERSONAL))}, personal"
    found = entries().get(key)
    return found.label if found else key.replace("_", " ")


def description_of(key: str) -> str:
    """One line on what a method, reference or gate is; empty for an unknown key."""
    if key.endswith(PERSONAL):
        return f"each client's own adapter: {name_of(key.removesuffix(PERSONAL))}'s, fitted to its own clips"
    found = entries().get(key)
    return found.description if found else ""


def _role(method: Method) -> Role:
    if method.pooled:
        return "pooled"
    return "federated" if method.sends else "local"
