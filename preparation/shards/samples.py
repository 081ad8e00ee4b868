"""From a client's crops to its shards: latents, speech features and a reference for each clip.

A clip longer than `preparation.shards.longest_seconds` becomes several samples, so that neither writers nor readers
hold more than one such part in memory, however long the clip.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice, pairwise

import numpy as np
from numpy.typing import NDArray

from common.errors import CorruptFileError, PrivFedTalkError
from common.files import sweep
from common.folders import RunFolder
from common.provenance import code_version
from common.workers import stop_if_asked
from preparation.clients.roles import Client, load_clients
from preparation.corpora.candidate import safe_name
from preparation.corpora.sources import source_key
from preparation.crops.crop import Crop, forget_crop, has_crop, load_crop
from preparation.faces.motion import motion_descriptor
from preparation.media.rates import FPS, SAMPLES_PER_FRAME
from preparation.media.track.frames import Frame
from preparation.quarantine import QuarantineRow
from preparation.settings import PreparationSettings
from preparation.shards.references import Place, Reference, choose_reference, look_of
from preparation.shards.store import Sample, ShardIndex, load_index, write_shards
from preparation.speech.features import SpeechFeatures, features_of_part, open_speech
from preparation.speech.networks import model_version

DECIDES_NOTHING = (
    "common",
    "preparation.clients",
    "preparation.corpora",
    "preparation.crops",
    "preparation.quarantine",
    "preparation.settings",
)
"""Modules that this module imports and that change no shard, given a crop: the version of the code that made the crop
is in the crop's description. The settings that decide a shard count by their values."""

FROM_CROP = ("corpus", "source_sha256", "settings", "tracker", "size", "mouth_box")
"""Keys that a sample's metadata copies from its crop's."""

Encoder = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""The VAE's encoder: uint8 [T, H, W, 3] frames to float32 [T, 4, h, w] latents of about unit scale."""


@dataclass(frozen=True)
class ClientShards:
    """A client's shards, whether they were kept from an earlier run, and rows for the clips that gave no sample."""

    index: ShardIndex
    kept: bool
    quarantine: list[QuarantineRow]


def build_shards(
    run: RunFolder,
    client: str,
    encode: Encoder,
    settings: PreparationSettings | None = None,
    encoder_id: str = "",
    entry: Client | None = None,
) -> ClientShards:
    """Write a client's shards from its crops; unchanged ones are kept.

    `encoder_id` names the VAE's weights (a hash of them), so that a retrained VAE redoes the latents. `entry` saves
    reading the client table again when many clients are built.
    """
    settings = settings or PreparationSettings()
    sweep(run.client(client))
    entry = entry or load_clients(run.clients_table)[client]
    names = {clip: clip.rpartition("/")[2] for clip in sorted(entry.clips())}
    crops: dict[str, Crop] = {}
    quarantine: list[QuarantineRow] = []
    for clip, name in names.items():
        folder = run.crops_of(clip)
        if has_crop(folder, name):
            try:
                crops[clip] = load_crop(folder, name)
            except CorruptFileError as error:
                quarantine.append(QuarantineRow(clip, "shards", error.reason, error.remedy))
    looks = {clip: look_of(crop.landmarks) for clip, crop in crops.items()}
    places = {clip: _place(clip, crop, settings) for clip, crop in crops.items()}
    chosen: dict[str, Reference] = {}
    for clip, crop in crops.items():
        same = settings.samples.same_recording(str(crop.metadata["corpus"]))
        reference = choose_reference(clip, entry, looks, places, same)
        if reference is None:
            reason = "the speaker's only clip is too short to lend a reference frame"
            source = str(crop.metadata["source"])
            quarantine.append(QuarantineRow(source, "shards", reason, "give a second clip or a longer one"))
        else:
            chosen[clip] = reference
    fingerprint = _fingerprint(entry, {clip: crops[clip] for clip in chosen}, settings, encoder_id)
    kept = _kept(run, client, fingerprint)
    if kept is not None:
        return ClientShards(kept, True, quarantine)
    samples = _samples(client, entry, crops, chosen, encode, settings)
    try:
        index = write_shards(run.client(client), samples, settings.shards.max_bytes, fingerprint)
    except _DamagedCropError as damaged:
        # The crop is removed, so that the crops step makes it again; the client's other clips go on without it.
        forget_crop(run.crops_of(damaged.clip), names[damaged.clip])
        row = QuarantineRow(damaged.clip, "shards", damaged.reason, "run the crops and shards steps again")
        rest = build_shards(run, client, encode, settings, encoder_id, entry)
        return ClientShards(rest.index, rest.kept, [row, *rest.quarantine])
    return ClientShards(index, False, quarantine)


def sample_key(clip_id: str, part: int | None = None) -> str:
    """A tar member's name for a clip or its part, without slashes and dots: webdataset cuts names at the first dot."""
    joined = clip_id.replace("/", "--")
    # `a--b/c` and `a/b--c`, or `a-/b` and `a/-b`, would have one joined name: there the id itself is added.
    unique = joined if joined.count("--") == 1 and "---" not in joined else f"{joined}:{clip_id}"
    # `safe_name` replaces the colon and adds a hash. No clip's name holds a colon, so no other clip has the same key.
    return safe_name(unique + ("" if part is None else f":{part:03d}"))


def parts_of(frames: int, longest: int) -> list[slice]:
    """Cut `frames` frames into the fewest stretches of at most `longest` frames, of nearly equal length."""
    count = max(1, -(-frames // longest))
    edges = [frames * number // count for number in range(count + 1)]
    return [slice(start, stop) for start, stop in pairwise(edges)]


def batch_of(batch: int, size: int) -> int:
    """How many frames of `size` pixels are encoded at once: above 128, at most as many pixels as `batch` frames of 128
    have, because a VAE's memory grows with the pixels; a batch of 64 at 512 pixels would take several gigabytes."""
    return max(1, min(batch, batch * 128 * 128 // (size * size)))


def encode_frames(frames: Iterator[Frame], encode: Encoder, count: int, batch: int) -> NDArray[np.float16]:
    """Latents float16 [T, 4, h, w] of a stream of `count` frames or fewer, `batch` of them at a time.

    Batches are written in half precision and in place: ten minutes at 512 pixels are 0.5 GB, and would otherwise take
    five times that meanwhile.
    """
    latents: NDArray[np.float16] | None = None
    done = 0
    while held := list(islice(frames, min(batch, count - done))):
        stop_if_asked()
        part = np.asarray(encode(np.stack(held)), dtype=np.float32)
        if latents is None:
            latents = np.empty((count, *part.shape[1:]), dtype=np.float16)
        latents[done : done + len(part)] = part
        done += len(part)
    return np.zeros((0, 0, 0, 0), dtype=np.float16) if latents is None else latents[:done]


def _samples(
    client: str,
    entry: Client,
    crops: dict[str, Crop],
    chosen: dict[str, Reference],
    encode: Encoder,
    settings: PreparationSettings,
) -> Iterator[Sample]:
    pictures: dict[tuple[str, int], Frame] = {}
    speech_features = open_speech(settings.speech)
    for clip, reference in chosen.items():
        crop = crops[clip]
        frames = reference.usable_frames
        place = (reference.clip_id, reference.frame)
        if place not in pictures:  # one person's clips mostly share their reference
            with _damage_of(reference.clip_id):
                pictures[place] = _frame(crops[reference.clip_id], reference.frame)
        picture = pictures[place]
        reference_latent = np.asarray(encode(picture[None]))[0].astype(np.float16)
        motion = _motion(crop)[:frames] - _motion(crops[reference.clip_id])[reference.frame]
        pictured = crop.frames()
        batch = batch_of(settings.shards.encode_batch, len(picture))
        parts = parts_of(frames, round(settings.shards.longest_seconds * FPS))
        for number, part in enumerate(parts):
            # Before the latents are in memory, because its intermediate results are as large as they.
            speech = _speech(crop, part, frames, speech_features)
            count = part.stop - part.start
            with _damage_of(clip):
                latents = encode_frames(pictured, encode, count, batch)
                if len(latents) != count:
                    raise CorruptFileError(
                        f"{crop.video} holds {part.start + len(latents)} frames, {frames} are described",
                        remedy="run the crops step again",
                    )
            metadata = {
                "role": entry.role,
                "reference_clip": reference.clip_id,
                "reference_frame": reference.frame,
                "frames": count,
                **{name: crop.metadata[name] for name in FROM_CROP},
            }
            if "recording" in crop.metadata:
                start = int(crop.metadata["first_frame"]) + part.start
                metadata |= {"recording": crop.metadata["recording"], "recording_frame": start}
            if len(parts) > 1:
                metadata |= {"first_frame": part.start, "part": number, "parts": len(parts)}
            yield Sample(
                key=sample_key(clip, number if len(parts) > 1 else None),
                client=client,
                clip_id=clip,
                split=entry.split_of(clip),
                latents=latents,
                speech=speech,
                reference_latent=reference_latent,
                reference=picture,
                landmarks=crop.landmarks[part],
                mouth_opening=None if crop.mouth_opening is None else crop.mouth_opening[part],
                motion=motion[part],
                cepstra=_cepstra(crop, part) if settings.shards.cepstra else None,
                metadata=metadata,
            )
            del latents, speech


def _speech(crop: Crop, part: slice, frames: int, features: SpeechFeatures) -> NDArray[np.float16]:
    """Speech features of a part of the crop's first `frames` frames, equal to those of the whole."""
    return features_of_part(features, crop.audio, part.start, part.stop, frames).astype(np.float16)


def _cepstra(crop: Crop, part: slice) -> NDArray[np.float16]:
    """Cepstra [T, 4, 13] of a part of the crop, equal to those of the whole: windows reach 15 ms past their steps."""
    from preparation.crops.active_speaker import CEPSTRA, STEPS_PER_FRAME, mfcc  # imports torch, only where needed

    before = min(1, part.start)
    sound = crop.audio[(part.start - before) * SAMPLES_PER_FRAME :]
    steps = mfcc(sound, (part.stop - part.start + before) * STEPS_PER_FRAME)
    return steps.reshape(-1, STEPS_PER_FRAME, CEPSTRA)[before:].astype(np.float16)


class _DamagedCropError(CorruptFileError):
    """A crop whose description promises more than its video holds; `clip` is its clip id."""

    clip: str


@contextmanager
def _damage_of(clip: str) -> Iterator[None]:
    try:
        yield
    except CorruptFileError as error:
        damaged = _DamagedCropError(error.reason, error.remedy)
        damaged.clip = clip
        raise damaged from error


def _place(clip: str, crop: Crop, settings: PreparationSettings) -> Place:
    about = crop.metadata
    key = source_key(clip, str(about["speaker"]), str(about["corpus"]), settings.clients.sources)
    return Place(key, int(about["first_frame"]))


def _motion(crop: Crop) -> NDArray[np.float32]:
    return motion_descriptor(crop.landmarks, crop.transforms)


def _frame(crop: Crop, index: int) -> Frame:
    frame = next(islice(crop.frames(), index, None), None)
    if frame is None:
        raise CorruptFileError(f"{crop.video} ends before frame {index}", remedy="run the crops step again")
    return frame


def _fingerprint(entry: Client, crops: dict[str, Crop], settings: PreparationSettings, encoder_id: str) -> str:
    depends = {
        "splits": entry.splits,
        "crops": {clip: crop.metadata for clip, crop in crops.items()},
        "speech": [settings.speech.fingerprint(), model_version(settings.speech)],
        "shards": settings.shards.fingerprint(),
        "references": [settings.samples.reference, settings.clients.sources],
        "encoder": encoder_id,
        "code": code_version(__name__, without=DECIDES_NOTHING),
    }
    if entry.people:
        depends["people"] = entry.people
    return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()[:16]


def _kept(run: RunFolder, client: str, fingerprint: str) -> ShardIndex | None:
    try:
        index = load_index(run.client(client))
    except PrivFedTalkError:
        return None
    whole = all((run.shards(client) / shard.file).exists() for shard in index.shards)
    return index if whole and index.fingerprint == fingerprint else None
