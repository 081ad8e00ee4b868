"""Which clips were cut from one video: they share room, light and clothes, so they must be in the same split.

A video's key is derived from names alone, because no corpus states it:

LRS3     `trainval/<youtube_id>/<00001>.mp4`: the folder is one video, so the speaker is the key.
HDTF     `RD_Radio11_0.mp4`, `RD_Radio11_1.mp4`: the trailing number counts the cuts; what precedes it is the key.
others   each clip counts as a recording of its own (the studio renders each anew; GRID's are single takes).

The pieces of a recording that was cut here have the recording's key.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable

from preparation.corpora.clip import Clip, recording_of
from preparation.corpora.twins import recordings_of
from preparation.settings import SourceRule

_CUT_NUMBER = re.compile(r"[_-]\d+$")


_BY_CORPUS = {"lrs3": SourceRule.SPEAKER, "hdtf": SourceRule.NUMBERED}


def source_of(clip: Clip, rule: SourceRule = SourceRule.AUTO) -> str:
    """The key of the video that a clip was cut from; unequal speakers never share one."""
    return source_key(clip.clip_id, clip.speaker, clip.corpus, rule)


def source_key(clip_id: str, speaker: str, corpus: str, rule: SourceRule = SourceRule.AUTO) -> str:
    """As `source_of`, from what a crop's description says about its clip."""
    if rule is SourceRule.AUTO:
        rule = _BY_CORPUS.get(corpus, SourceRule.CLIP)
    if rule is SourceRule.SPEAKER:
        return speaker
    whole = recording_of(clip_id)
    if rule is SourceRule.NUMBERED:
        return f"{speaker}/{_CUT_NUMBER.sub('', whole.rpartition('/')[2])}"
    return whole


def source_keys(clips: Iterable[Clip], rule: SourceRule = SourceRule.AUTO) -> dict[str, str]:
    """The key of each clip's video, by clip id. Videos of one speaker that share a recording count as one and have the
    first one's key: a copy on the other side of a split would leak training data into the test."""
    ordered = sorted(clips, key=lambda clip: clip.clip_id)
    keys = {clip.clip_id: source_of(clip, rule) for clip in ordered}
    speakers = {clip.clip_id: clip.speaker for clip in ordered}
    joined: dict[str, str] = {}

    def first(key: str) -> str:
        while key in joined:
            key = joined[key]
        return key

    anchors: dict[tuple[str, str], str] = {}
    for clip_id, recording in recordings_of(ordered).items():
        anchor = anchors.setdefault((speakers[clip_id], recording), clip_id)
        one, other = sorted((first(keys[clip_id]), first(keys[anchor])))
        if one != other:
            joined[other] = one
    return {clip_id: first(key) for clip_id, key in keys.items()}


def by_source(clips: Iterable[Clip], rule: SourceRule = SourceRule.AUTO) -> dict[str, list[str]]:
    """Clip ids of each video, both sorted."""
    groups: dict[str, list[str]] = defaultdict(list)
    for clip_id, key in source_keys(clips, rule).items():
        groups[key].append(clip_id)
    return dict(sorted(groups.items()))


def by_recording(clips: Collection[Clip]) -> dict[str, list[str]]:
    """Clip ids of each recording, copies and pieces together, both sorted; a clip without copies is a recording of its
    own."""
    groups: dict[str, list[str]] = defaultdict(list)
    ids = sorted(clip.clip_id for clip in clips)
    recordings = recordings_of(clips)
    for clip_id in ids:
        groups[recording_of(recordings.get(clip_id, clip_id))].append(clip_id)
    return dict(sorted(groups.items()))
