"""Which clips were cut from one video: such neighbours share room, light and clothes, and must not be split apart.

A video's key is found from names alone, because no corpus writes it down:

LRS3     `trainval/<youtube_id>/<00001>.mp4`: the folder is one video, so the speaker is the key.
HDTF     `RD_Radio11_0.mp4`, `RD_Radio11_1.mp4`: the trailing number counts the cuts; what precedes it is the key.
others   each clip is taken for a recording of its own (the studio renders each anew; GRID's are single takes).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

from preparation.manifest import Clip
from preparation.settings import SourceRule

_CUT_NUMBER = re.compile(r"[_-]\d+$")


_BY_CORPUS = {"lrs3": SourceRule.SPEAKER, "hdtf": SourceRule.NUMBERED}


def source_of(clip: Clip, rule: SourceRule = SourceRule.AUTO) -> str:
    """The key of the video that a clip was cut from; unequal speakers never share one."""
    if rule is SourceRule.AUTO:
        rule = _BY_CORPUS.get(clip.corpus, SourceRule.CLIP)
    if rule is SourceRule.SPEAKER:
        return clip.speaker
    if rule is SourceRule.NUMBERED:
        return f"{clip.speaker}/{_CUT_NUMBER.sub('', clip.name)}"
    return clip.clip_id


def by_source(clips: Iterable[Clip], rule: SourceRule = SourceRule.AUTO) -> dict[str, list[str]]:
    """Clip ids of each video, both sorted."""
    groups: dict[str, list[str]] = defaultdict(list)
    for clip in sorted(clips, key=lambda clip: clip.clip_id):
        groups[source_of(clip, rule)].append(clip.clip_id)
    return dict(sorted(groups.items()))
