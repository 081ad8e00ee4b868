"""Clients with fewer than three recordings are split by time: each split is one block of the recordings' time line.

Before crops are made, `plan_cuts` says where the recordings are to be cut, with gaps where one split ends and the next
begins. Afterwards, `split_by_time` takes the blocks from the pieces that there are. Samples of one recording in two
splits are at least `preparation.samples.gap_seconds` apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from common.folders import RunFolder
from preparation.clients.roles import SPLITS, ClientTable, split_sources
from preparation.corpora.clip import Clip, recording_of
from preparation.corpora.sources import by_recording, by_source, source_keys
from preparation.crops.cutting import CutPlan
from preparation.crops.pieces import has_pieces, read_pieces, times
from preparation.media.rates import FPS
from preparation.quarantine import QuarantineRow
from preparation.settings import ClientSettings, PreparationSettings, SourceRule

ENOUGH_RECORDINGS = 3
"""Clients with at least this many recordings have one for each split, and are not split by time."""
SHORTEST_FRAMES = 25
"""Shortest sample of a client of few seconds: one second."""
SPARE_FRAMES = 2
"""Frames by which a block is planned larger, where there is room: a file may hold a little less than it says."""
FARTHEST_SHIFT = 75
"""How far a gap may move from its place to find a pause, at most: three seconds."""
LOSS_WEIGHT = 2
"""Weight of a lost frame when borders are planned; a frame that a block has too many or too few weighs 1."""
NEAREST_BORDERS = 64
"""How many places for a border are compared: those nearest to where its share of the time ends."""


def few_recordings(clips: Sequence[Clip], rule: SourceRule) -> bool:
    """Whether a client with these clips has too few recordings to have one in each split; cuts of one video count as
    one where there are several videos, copies of a recording always."""
    videos = by_source(clips, rule)
    return len(videos if len(videos) > 1 else by_recording(clips)) < ENOUGH_RECORDINGS


def plan_cuts(clips: Iterable[Clip], table: ClientTable, settings: PreparationSettings) -> dict[str, CutPlan]:
    """How the recordings of the table's people are cut, by clip id; clips of corpora that are not cut have no plan."""
    rows = {clip.clip_id: clip for clip in clips}
    samples = settings.samples
    usual = CutPlan(frames_of(samples.shortest_seconds), frames_of(samples.longest_seconds))
    plans = {name: usual for name, clip in rows.items() if samples.cuts(clip.corpus)}
    for entry in table.values() if plans else ():
        ids = sorted({recording_of(clip) for clip in entry.clips()})
        own = [rows[clip] for clip in ids if clip in rows]
        is_cut = entry.role == "client" and any(clip.clip_id in plans for clip in own)
        if is_cut and few_recordings(own, settings.clients.sources):
            plans |= {name: plan for name, plan in _plans_by_time(own, usual, settings).items() if name in plans}
    return plans


def frames_of(seconds: float) -> int:
    return round(seconds * FPS)


def _plans_by_time(clips: list[Clip], usual: CutPlan, settings: PreparationSettings) -> dict[str, CutPlan]:
    """Plans with borders for the recordings of one client; none where they are too short for three blocks."""
    firsts = {copies[0] for copies in by_recording(clips).values()}
    recordings = [clip for clip in clips if clip.clip_id in firsts]
    lengths = [frames_of(clip.seconds) for clip in recordings]
    gap, least = frames_of(settings.samples.gap_seconds), max(SHORTEST_FRAMES, settings.quality.minimum_frames)
    found = _borders(lengths, gap, least, settings.clients)
    if found is None:
        return {}
    borders, blocks = found
    shift = max(0, min(FARTHEST_SHIFT, (min(blocks) - usual.shortest) // 2))
    # Two training samples, where there is room: each lends the other its reference frame.
    half = (blocks[0] - shift - 1) // 2
    shortest = max(least, min(usual.shortest, half, *blocks))
    longest = max(2 * shortest, min(usual.longest, blocks[0] - shift - 1))
    plans: dict[str, CutPlan] = {}
    start = 0
    for clip, length in zip(recordings, lengths, strict=True):
        inside = tuple(round((border - start) / length, 6) for border in borders if start < border < start + length)
        plans[clip.clip_id] = CutPlan(shortest, longest, gap, shift, inside) if inside else CutPlan(shortest, longest)
        start += length
    return plans


def _borders(
    lengths: list[int], gap: int, least: int, settings: ClientSettings
) -> tuple[tuple[int, int], list[int]] | None:
    """Where train and validation end on the recordings' common time line, and the frames of the three blocks.

    None where a block would have fewer than `least` frames.

    A border inside a recording is the middle of a gap. The end of a recording needs no gap, and is chosen where that
    brings the blocks nearer to the wanted ones.
    """
    total = sum(lengths)
    ends = [sum(lengths[: place + 1]) for place in range(len(lengths))]
    usable = total - 2 * gap
    smallest = least + SPARE_FRAMES if usable >= 3 * (least + SPARE_FRAMES) else least
    validation, test = (
        max(smallest, round(share * usable)) for share in (settings.validation_fraction, settings.test_fraction)
    )
    if usable - validation - test < smallest:
        validation = test = smallest
    wanted = (usable - validation - test, validation, test)

    def blocks(first: int, second: int) -> list[int]:
        """Frames of the blocks, without gaps and without remainders of recordings that are too short for a sample."""
        edges = [0, *ends]
        free = [(border - gap // 2, border - gap // 2 + gap) for border in (first, second) if border not in ends]
        found = []
        for start, stop in pairwise((0, first, second, total)):
            parts = []
            for from_, to in pairwise(edges):
                low, high = max(start, from_), min(stop, to)
                low = max([low, *(after for _, after in free if after - gap <= low < after)])
                high = min([high, *(before for before, _ in free if before < high <= before + gap)])
                parts.append(high - low)
            found.append(sum(part for part in parts if part >= least))
        return found

    def near(wanted: int) -> list[int]:
        return sorted(ends, key=lambda end: (abs(end - wanted), end))[:NEAREST_BORDERS]

    second_wanted = wanted[0] + gap + wanted[1] + gap // 2
    best: tuple[float, tuple[int, int], list[int]] | None = None
    for first in {wanted[0] + gap // 2, *near(wanted[0] + gap // 2)}:
        rest = total - first - gap * (first not in ends) // 2
        in_rest = total - rest + round((rest - gap) * validation / (validation + test)) + gap // 2
        for second in {second_wanted, in_rest, *near(second_wanted)}:
            if 0 < first < second < total and min(found := blocks(first, second)) >= least:
                off = sum(abs(frames - share) for frames, share in zip(found, wanted, strict=True))
                cost = float(off + LOSS_WEIGHT * (total - sum(found)))
                best = min(best or (float("inf"), (0, 0), []), (cost, (first, second), found))
    return None if best is None else best[1:]


@dataclass(frozen=True)
class Timed:
    """A sample on the time line of its video: frames `start` to `stop`."""

    clip_id: str
    video: str
    start: int
    stop: int

    @property
    def frames(self) -> int:
        return self.stop - self.start


def time_blocks(samples: Sequence[Timed], settings: ClientSettings, gap: int) -> dict[str, list[str]] | None:
    """Contiguous blocks of samples for train, validation and test.

    They are at least `gap` frames apart where they meet within one video. `samples` are in order of time. Of the
    `NEAREST_BORDERS` places nearest to where each share ends, those are taken at which the blocks' frames differ least
    from the settings' shares and the fewest frames are left out. None where there is no place for three blocks.
    """
    count = len(samples)
    sums = [0]
    for sample in samples:
        sums.append(sums[-1] + sample.frames)
    total = sums[-1]
    validation, test = settings.validation_fraction * total, settings.test_fraction * total
    train = max(0.0, total - validation - test)

    def after(stop: int) -> int:
        """The first sample that is far enough from sample `stop` - 1."""
        last, place = samples[stop - 1], stop
        while place < count and samples[place].video == last.video and samples[place].start - last.stop < gap:
            place += 1
        return place

    def near(wanted: float) -> list[int]:
        return sorted(range(1, count), key=lambda stop: (abs(sums[stop] - wanted), stop))[:NEAREST_BORDERS]

    best: tuple[float, int, int] | None = None
    later = near(train + validation)
    for first in near(train):
        start = after(first)
        for second in later:
            last = after(second)
            if not (start < second and last < count):
                continue
            parts = (sums[first], sums[second] - sums[start], total - sums[last])
            off = sum(abs(part - wanted) for part, wanted in zip(parts, (train, validation, test), strict=True))
            best = min(best or (float("inf"), 0, 0), (off + total - sum(parts), first, second))
    if best is None:
        return None
    _, first, second = best
    start, last = after(first), after(second)
    names = [sample.clip_id for sample in samples]
    return dict(zip(SPLITS, (names[:first], names[start:second], names[last:]), strict=True))


@dataclass(frozen=True)
class SampleClips:
    """A manifest's rows with pieces in place of the recordings that were cut, and the frames of each piece."""

    clips: list[Clip]
    places: dict[str, slice]


def sample_clips(run: RunFolder, clips: Iterable[Clip]) -> SampleClips:
    """The rows of samples: what became pieces is replaced by them, everything else stays."""
    rows: list[Clip] = []
    places: dict[str, slice] = {}
    cut: dict[str, bool] = {}
    for clip in clips:
        folder = run.crops(clip.speaker)
        if clip.speaker not in cut:
            cut[clip.speaker] = has_pieces(folder)
        record = read_pieces(folder, clip.name) if cut[clip.speaker] else None
        if record is None:
            rows.append(clip)
            continue
        for piece in record.pieces:
            clip_id = f"{clip.speaker}/{piece.name}"
            rows.append(replace(clip, clip_id=clip_id, frames=piece.frames, seconds=piece.frames / FPS))
            places[clip_id] = slice(piece.first_frame, piece.stop)
    return SampleClips(rows, places)


def split_samples(
    client: str, clips: list[Clip], places: Mapping[str, slice], settings: ClientSettings, gap: int
) -> tuple[dict[str, list[str]], bool]:
    """Split one client's samples: by time where it has pieces of fewer than three recordings, else by recordings.

    The second value says whether one video is in several splits. `gap` counts frames; `places` are those of pieces.
    """
    if any(clip.clip_id in places for clip in clips) and few_recordings(clips, settings.sources):
        by_time = split_by_time(clips, places, settings, gap)
        if by_time is not None:
            return by_time
    return split_sources(client, clips, settings)


def split_by_time(
    clips: list[Clip], places: Mapping[str, slice], settings: ClientSettings, gap: int
) -> tuple[dict[str, list[str]], bool] | None:
    """Blocks of one client's samples by recording and time, and whether one video is in several blocks; None where
    there is no place for three.

    Of copies of one recording only the first is used: the same second must not be on two sides.
    """
    keys = source_keys(clips, settings.sources)
    firsts = {recording_of(copies[0]) for copies in by_recording(clips).values()}
    line: list[Timed] = []
    offset, recording, end = 0, "", 0
    ordered = sorted(
        (keys[clip.clip_id], recording_of(clip.clip_id), _place(clip, places).start, clip.clip_id)
        for clip in clips
        if recording_of(clip.clip_id) in firsts
    )
    by_id = {clip.clip_id: clip for clip in clips}
    for video, whole, _, name in ordered:
        if whole != recording:  # cuts of one video are taken to follow each other
            recording, offset = whole, end
        place = _place(by_id[name], places)
        end = offset + place.stop
        line.append(Timed(name, video, offset + place.start, end))
    blocks = time_blocks(line, settings, gap)
    if blocks is None:
        return None
    videos = [{keys[name] for name in ids} for ids in blocks.values()]
    return {split: sorted(ids) for split, ids in blocks.items()}, sum(map(len, videos)) > len(set().union(*videos))


def left_out_rows(samples: SampleClips, wanted: Iterable[str], table: ClientTable, gap: int) -> list[QuarantineRow]:
    """A row for each of the samples `wanted` that has no place in the table: it is too close to another split, or its
    whole recording is a copy."""
    placed = {clip for entry in table.values() for clip in entry.clips()}
    recordings = {recording_of(clip) for clip in placed}
    by_id = {clip.clip_id: clip for clip in samples.clips}
    rows: list[QuarantineRow] = []
    for name in sorted({*wanted} & {*by_id} - placed):
        clip, place = by_id[name], _place(by_id[name], samples.places)
        if recording_of(name) in recordings:
            reason = f"closer than {gap / FPS:g} s to a sample of another split"
            remedy = "lower preparation.samples.longest_seconds or gap_seconds to lose less"
        else:
            reason = "a copy of a recording that is split by time, and only one copy is used"
            remedy = "remove the copy from the corpus"
        rows.append(QuarantineRow(clip.path, "dealing", f"{times(place.start, place.stop)}: {reason}", remedy))
    return rows


def close_neighbours(table: ClientTable, places: Mapping[str, slice], gap: int) -> list[str]:
    """Pairs of samples of one recording that are in different splits or with different clients, and less than `gap`
    frames apart; `places` are the frames of pieces in their recordings."""
    sides: dict[str, list[tuple[int, int, str, str]]] = {}
    for name, entry in table.items():
        for split, ids in entry.splits.items():
            for clip in ids:
                if clip in places:
                    place = (places[clip].start, places[clip].stop, clip, f"{name}/{split}")
                    sides.setdefault(recording_of(clip), []).append(place)
    return [
        f"{one[2]} ({one[3]}) and {other[2]} ({other[3]})"
        for _, pieces in sorted(sides.items())
        for one, other in pairwise(sorted(pieces))
        if one[3] != other[3] and other[0] - one[1] < gap
    ]


def _place(clip: Clip, places: Mapping[str, slice]) -> slice:
    """The frames of its recording that a sample shows: those of a piece, or of a whole clip."""
    return places.get(clip.clip_id, slice(0, frames_of(clip.seconds)))
