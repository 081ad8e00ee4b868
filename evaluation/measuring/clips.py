"""The clips that every method is measured on, read from a run's crops and shards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np

from common.errors import PrivFedTalkError
from common.folders import SHARD_INDEX, RunFolder
from evaluation.metrics.clip import EvaluationClip, MeasuredRole, Swapped
from evaluation.metrics.lipsync import lip_correlation
from evaluation.settings import EvaluationSettings
from preparation.clients.roles import load_clients, of_role
from preparation.media.rates import SAMPLES_PER_FRAME
from preparation.shards.gate import Gate
from preparation.shards.store import Sample


def read_evaluation_clips(
    run: RunFolder,
    settings: EvaluationSettings | None = None,
    roles: Sequence[MeasuredRole] = ("client", "unseen"),
    required: bool = True,
) -> list[EvaluationClip]:
    """Held-out clips of clients, and clips of people who never trained; the same list for every method.

    People who may not be generated are left out and named on standard error; `required` is
    `training.consent.required`. Raises PrivFedTalkError where nobody has agreed, or nobody has a test clip.
    """
    settings = settings or EvaluationSettings()
    table, gate = load_clients(run.clients_table), Gate(run, "generation", required)
    clips = [
        read_clip(gate, sample, role)
        for role in roles
        for client in gate.admit(of_role(table, role), "the evaluation")
        if (run.shards(client) / SHARD_INDEX).exists()
        for sample in islice(gate.samples(client, "test"), settings.clips_per_client)
    ]
    refused = gate.refused(name for role in roles for name in of_role(table, role))
    if not clips and refused:
        name, reason = next(iter(refused.items()))
        raise PrivFedTalkError(
            f"nobody of {run.root} is left to be measured: {name} has not agreed to generation ({reason})"
            + (f", nor have {len(refused) - 1} others" if len(refused) > 1 else ""),
            "record what they agreed to: privfedtalk prepare --consent FILE, or privfedtalk consent grant; where "
            "something else covers the corpus, --set training.consent.required=false",
        )
    if not clips:
        raise PrivFedTalkError(
            f"{run.root} holds no test clip of {' or '.join(roles)} people",
            remedy="prepare a corpus with at least two clips for each client",
        )
    return swap_speech(clips)


def read_clip(gate: Gate, sample: Sample, role: MeasuredRole) -> EvaluationClip:
    """The evaluation clip of a prepared sample: frames and sound from its crop, everything else from its shard."""
    crop = gate.crop(sample.client, sample.clip_id)
    start, stop = sample.first_frame, sample.first_frame + len(sample.latents)
    return EvaluationClip(
        # A part of a long clip is named by its first frame, so that rows and videos of parts have names of their own;
        # `preparation.corpora.clip.recording_of` takes such names, too.
        clip_id=sample.clip_id + (f"@{start}" if "part" in sample.metadata else ""),
        client=sample.client,
        role=role,
        frames=np.stack(list(islice(crop.frames(), start, stop))),
        landmarks=sample.landmarks,
        opening=sample.mouth_opening,
        audio=crop.audio[start * SAMPLES_PER_FRAME : stop * SAMPLES_PER_FRAME],
        speech=sample.speech.astype(np.float32),
        reference=sample.reference,
        sample=sample,
    )


def swap_speech(clips: Sequence[EvaluationClip]) -> list[EvaluationClip]:
    """Give each clip the speech of another person's clip, the donor, cut to the clip's length.

    Two sentences of the same length, each with silence around it, are alike by chance (true openings correlate at 0.3
    and more), and lips that follow the one then seem to follow the other. So the donor is the clip whose true opening
    is least like this one's: only then does `swapped_old` distinguish a habit from following the sound. The choice
    depends on true openings alone, or, where a corpus does not know them, on those of the true clips' landmarks, so it
    is the same for every method. The swap is left out where no other clip is long enough.
    """
    swapped = []
    for index, clip in enumerate(clips):
        after = [*clips[index + 1 :], *clips[:index]]
        donors = [other for other in after if _may_speak_for(other, clip)]
        swapped.append(
            replace(clip, swapped=_speech_of(min(donors, key=_likeness(clip)), len(clip.frames))) if donors else clip
        )
    return swapped


def _likeness(clip: EvaluationClip) -> Callable[[EvaluationClip], float]:
    """A function of another clip: how much its true opening resembles this one's, the size of their correlation."""

    def likeness(other: EvaluationClip) -> float:
        opening = clip.best_opening
        likeness = lip_correlation(other.best_opening[: len(opening)], opening)
        return 0.0 if np.isnan(likeness) else abs(likeness)

    return likeness


def _may_speak_for(donor: EvaluationClip, clip: EvaluationClip) -> bool:
    return donor.client != clip.client and len(donor.frames) >= len(clip.frames)


def _speech_of(donor: EvaluationClip, frames: int) -> Swapped:
    return Swapped(
        speech=donor.speech[:frames],
        opening=None if donor.opening is None else donor.opening[:frames],
        seen_opening=donor.seen_opening[:frames],
        audio=donor.audio[: frames * SAMPLES_PER_FRAME],
    )
