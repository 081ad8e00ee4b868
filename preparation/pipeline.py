"""The steps of preparation in order: corpus, manifest, people, crops, clients, shards; each can be called alone."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.util import Finalize
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from common.errors import PrivFedTalkError
from common.files import sweep
from common.folders import RunFolder
from common.progress import track
from common.text.names import own_spelling
from common.weights import registry as weights
from common.workers import map_processes, map_threads
from preparation.clients.dealing import deal_run
from preparation.clients.mix import assign_people
from preparation.clients.removal import settle_absent
from preparation.clients.roles import ClientTable, load_clients, load_people, save_clients
from preparation.clients.timeline import plan_cuts
from preparation.corpora.clip import Clip, recording_of
from preparation.corpora.manifest import load_manifest, save_manifest, scan
from preparation.corpora.walking import check_apart
from preparation.crops.crop import CropResult, from_before, prepare_clip
from preparation.crops.cutting import CutPlan
from preparation.crops.footage import give_back_memory
from preparation.faces.track import FaceTracker
from preparation.faces.trackers import make_tracker, tracker_name, tracker_weights
from preparation.quarantine import PIECES, TWINS, QuarantineRow, load_quarantine, replace_rows
from preparation.settings import CorpusKind, PreparationSettings
from preparation.shards.samples import ClientShards, Encoder, build_shards
from preparation.speech.networks import note_speech_network

if TYPE_CHECKING:
    from preparation.crops.active_speaker import ActiveSpeaker

CROP_STEPS = ("crops", "quality", PIECES)


@dataclass(frozen=True)
class CropCounts:
    """Counts of the crops step: clips whose crops were made now, kept from before, clips refused whole; frames of all
    crops; the tracker; and the number of crops, of which a recording that was cut has several."""

    made: int
    kept: int
    quarantined: int
    frames: int
    tracker: str
    crops: int

    @property
    def usable(self) -> int:
        """Clips that have a crop now."""
        return self.made + self.kept


@dataclass(frozen=True)
class ShardCounts:
    """Counts of the shards step, over all clients."""

    clients: int
    samples: int
    frames: int
    bytes: int
    kept_clients: int
    splits: dict[str, int]


@dataclass(frozen=True)
class PreparationReport:
    """Counts of all steps; every clip of the corpus is a sample or has a row in `quarantine`."""

    clips: int
    crops: CropCounts
    shards: ShardCounts
    quarantine: list[QuarantineRow]


def register_corpus(
    kind: CorpusKind | str, root: Path, run: RunFolder, settings: PreparationSettings
) -> tuple[list[Clip], ClientTable]:
    """Scan a corpus and write the manifest and the table of people; until clips are dealt, the people are the clients.

    What an earlier run made of clips that are gone is kept or removed, see `preparation.clients.removal`.
    """
    check_apart(root, run)
    found = scan(kind, root, settings.corpus)
    if not found.clips:
        reason = found.quarantine[0].reason if found.quarantine else "no file that may be one"
        raise PrivFedTalkError(f"{root} holds no readable clip ({reason})", remedy="check --root and --corpus")
    table, unplaced = assign_people(kind, root, found.clips, settings)
    save_manifest(found.clips, run.manifest)
    save_clients(table, run.people_table)
    replace_rows(run.quarantine, ("manifest", "clients", TWINS), [*found.quarantine, *unplaced])
    settle_absent(run, settings.corpus.forget_absent)  # first: the old table says who had the clips that are gone
    save_clients(table, run.clients_table)
    return found.clips, table


def prepare_clients(
    run: RunFolder,
    corpus_root: Path,
    settings: PreparationSettings | None = None,
    workers: int = 1,
    only: Collection[str] | None = None,
) -> CropCounts:
    """Make the crop of every clip that the table of people names, in `workers` processes; crops and refusals that are
    still valid are kept, and their clips are not read.

    `only` names the people to work on; then the counts are only theirs, and the others' quarantine rows stay.
    """
    settings = settings or PreparationSettings()
    table = _chosen(load_people(run), only)
    clips, files = _clips(run, table, only)
    plans = plan_cuts(clips, table, settings)
    for speaker in {clip.speaker for clip in clips}:
        for folder in (run.crops(speaker), *run.crops(speaker).glob("*/")):  # records lie in folders of their own
            sweep(folder)
    tracker = tracker_name(settings.faces)
    earlier = {
        clip.clip_id: from_before(clip, run.crops(clip.speaker), settings, tracker, plans.get(clip.clip_id))
        for clip in clips
    }
    due = [clip for clip in clips if earlier[clip.clip_id] is None]
    if due:  # A missing weight stops the step here, before a clip is read or a worker started.
        weights.find_all([*tracker_weights(settings.faces), *["light_asd"] * settings.sync.check])
    workers = min(workers, len(due))
    job = CropJob(run, corpus_root, settings, plans)
    results = _parallel(due, job, workers) if workers > 1 else _serial(due, job)
    made: list[CropResult] = []
    rows = [result for result in earlier.values() if isinstance(result, QuarantineRow)]
    for result in track(results, "crops", total=len(due), unit="clips"):
        if isinstance(result, CropResult):
            made.append(result)
        else:
            rows.append(result)
    kept = [result for result in earlier.values() if isinstance(result, CropResult)]
    done = [*made, *kept]
    replace_rows(run.quarantine, CROP_STEPS, [*rows, *(row for result in done for row in result.rows)], files)
    frames, crops = sum(result.frames for result in done), sum(result.crops for result in done)
    return CropCounts(len(made), len(kept), len(rows), frames, tracker, crops)


def nothing_usable(run: RunFolder) -> PrivFedTalkError:
    """The error for a corpus whose every clip was refused: the reason that most rows give, and its remedy."""
    rows = [row for row in load_quarantine(run.quarantine) if row.step in CROP_STEPS]
    (reason, remedy), count = Counter((row.reason, row.remedy) for row in rows).most_common(1)[0]
    return PrivFedTalkError(f"no clip is usable: {count} of {len(rows)} were refused because {reason}", remedy)


def build_all_shards(
    run: RunFolder,
    encode: Encoder,
    settings: PreparationSettings | None = None,
    encoder_id: str = "",
    only: Collection[str] | None = None,
    workers: int = 1,
) -> ShardCounts:
    """Write the shards of every client in the table, or of those that `only` names; see `prepare_clients`.

    `workers` threads take a client each and share the encoder, which several threads must be able to call at once (a
    network in inference can be); the bytes written do not depend on the number of threads.
    """
    settings = settings or PreparationSettings()
    note_speech_network(run.speech_network, settings.speech)
    table = _chosen(load_clients(run.clients_table), only)
    splits: Counter[str] = Counter()
    rows: list[QuarantineRow] = []
    clients = samples = frames = size = kept = 0

    def build(client: str) -> ClientShards:
        return build_shards(run, client, encode, settings, encoder_id, entry=table[client])

    largest_first = sorted(table, key=lambda client: (-len(table[client].clips()), client))
    for built in track(map_threads(build, largest_first, workers), "shards", total=len(table), unit="clients"):
        rows.extend(built.quarantine)
        splits.update(built.index.splits)
        clients += built.index.samples > 0
        samples += built.index.samples
        frames += built.index.frames
        size += sum(shard.bytes for shard in built.index.shards)
        kept += built.kept
    replace_rows(run.quarantine, ("shards",), rows, _clips(run, table, only)[1])
    return ShardCounts(clients, samples, frames, size, kept, dict(splits))


def prepare_folder(
    corpus_kind: CorpusKind | str,
    root: Path,
    out_run: Path | RunFolder,
    settings: PreparationSettings | None,
    workers: int,
    encode: Encoder,
    encoder_id: str = "",
) -> PreparationReport:
    """From any corpus to shards: every clip ends as a sample or as a row of the quarantine table."""
    run = out_run if isinstance(out_run, RunFolder) else RunFolder(out_run)
    settings = settings or PreparationSettings()
    clips, _ = register_corpus(corpus_kind, root, run, settings)
    crops = prepare_clients(run, root, settings, workers)
    deal_run(run, settings)
    shards = build_all_shards(run, encode, settings, encoder_id, workers=workers)
    return PreparationReport(len(clips), crops, shards, load_quarantine(run.quarantine))


def _chosen(table: ClientTable, only: Collection[str] | None) -> ClientTable:
    if only is None:
        return table
    own = {name: own_spelling(name, table) for name in only}
    unknown = sorted(name for name, spelled in own.items() if spelled is None)
    if unknown:
        raise PrivFedTalkError(
            f"the run knows no client {', '.join(unknown[:5])}",
            remedy="name clients of its table (`privfedtalk clients`), or run the clients step again",
        )
    wanted = set(own.values())
    return {client: entry for client, entry in table.items() if client in wanted}


def _clips(run: RunFolder, table: ClientTable, only: Collection[str] | None) -> tuple[list[Clip], set[str] | None]:
    """The recordings of the clips that the table names, and with `only` the names by which quarantine rows call them,
    else None."""
    placed = {clip for client in table.values() for clip in client.clips()}
    recordings = {recording_of(clip) for clip in placed}
    clips = [clip for clip in load_manifest(run.manifest) if clip.clip_id in recordings]
    if only is None:
        return clips, None
    return clips, placed | {name for clip in clips for name in (clip.path, clip.clip_id)}


def longest_first(clips: list[Clip]) -> list[Clip]:
    """The clips by falling work, so that no worker is left alone with a long clip at the end."""
    # Finding the face costs the same at any size, about as much as the other steps at 1.5 megapixels.
    return sorted(clips, key=lambda clip: (-clip.seconds * (1.5e6 + clip.width * clip.height), clip.clip_id))


@dataclass(frozen=True)
class CropJob:
    """What the making of every crop needs; `plans` are those of clips that are cut, by clip id."""

    run: RunFolder
    corpus_root: Path
    settings: PreparationSettings
    plans: dict[str, CutPlan]

    def prepare(self, clip: Clip, tracker: FaceTracker, speaker: ActiveSpeaker | None) -> CropResult | QuarantineRow:
        folder, plan = self.run.crops(clip.speaker), self.plans.get(clip.clip_id)
        result = prepare_clip(clip, self.corpus_root, folder, self.settings, tracker, speaker, plan)
        give_back_memory()
        return result


def _serial(clips: list[Clip], job: CropJob) -> Iterator[CropResult | QuarantineRow]:
    if not clips:
        return
    with closing(make_tracker(job.settings.faces)) as tracker:
        speaker = _active_speaker(job.settings)
        for clip in clips:
            yield job.prepare(clip, tracker, speaker)


def _parallel(clips: list[Clip], job: CropJob, workers: int) -> Iterator[CropResult | QuarantineRow]:
    for done in map_processes(_work, longest_first(clips), workers, _start_worker, (job,)):
        if done.result is not None:
            yield done.result
        else:
            reason = "the process that prepared it died (killed for memory, or a decoder crashed)"
            yield QuarantineRow(done.item.path, "crops", reason, "use fewer workers, or re-encode the clip")


class _Worker:
    """What a worker process loads once, because a tracker takes longer to load than a clip to prepare."""

    job: CropJob
    tracker: FaceTracker
    speaker: ActiveSpeaker | None


def _start_worker(job: CropJob) -> None:
    cv2.setNumThreads(1)
    _Worker.job = job
    _Worker.tracker = make_tracker(job.settings.faces)
    _Worker.speaker = _active_speaker(job.settings)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)
    # Closed before the interpreter ends its threads, which MediaPipe needs to close; `atexit` would be too late.
    Finalize(None, _Worker.tracker.close, exitpriority=1)


def _work(clip: Clip) -> CropResult | QuarantineRow:
    return _Worker.job.prepare(clip, _Worker.tracker, _Worker.speaker)


def _active_speaker(settings: PreparationSettings) -> ActiveSpeaker | None:
    """The network of the sync filter, or None where the filter is off; torch is imported only where it is on."""
    if not settings.sync.check:
        return None
    from preparation.crops.active_speaker import ActiveSpeaker

    return ActiveSpeaker.load()
