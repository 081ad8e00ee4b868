"""A client's samples as tar shards that plain `webdataset` reads, with an index of their sizes and hashes.

clients/<client>/shards/shard-000000.tar ...    <key>.latents.npy, <key>.speech.npy, ..., <key>.json
clients/<client>/shards/index.json              counts, bytes and sha256 per shard, written last
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import DTypeLike, NDArray

from common.errors import CorruptFileError, PrivFedTalkError
from common.files import partial_of, writing
from common.folders import SHARD_INDEX
from common.provenance import code_version
from common.seeding import generator

MAX_BYTES = 64 * 1024 * 1024
_REMEDY = "delete the client's shards folder and run the shards step again"


@dataclass(frozen=True)
class Sample:
    """One clip, or a part of a long clip, ready for training. T frames at 25 fps; latents of an f8 VAE, so h = H / 8.

    latents [T, 4, h, w], speech [T, tokens, dim] and reference_latent [4, h, w] are float16 (stored and
    read); reference is uint8 [H, W, 3] RGB, a frame that is never among the sample's own; landmarks float32
    [T, 68, 2] in crop pixels; mouth_opening float32 [T], where the corpus knows the truth; motion float32
    [T, 12], see `preparation.faces.motion`; cepstra float16 [T, 4, 13], where `shards.cepstra` asked for the sound as
    `preparation.crops.active_speaker` hears it. The metadata name the reference's clip and frame, the tracker
    and the source; where recordings are cut, also the recording and the sample's first frame in it.
    """

    key: str
    client: str
    clip_id: str
    split: str
    latents: NDArray[np.float16]
    speech: NDArray[np.float16]
    reference_latent: NDArray[np.float16]
    reference: NDArray[np.uint8]
    landmarks: NDArray[np.float32]
    mouth_opening: NDArray[np.float32] | None = None
    motion: NDArray[np.float32] | None = None
    cepstra: NDArray[np.float16] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def first_frame(self) -> int:
        """The frame of the clip's crop at which the sample begins: 0 except for later parts of a long clip."""
        return int(self.metadata.get("first_frame", 0))


@dataclass(frozen=True)
class ShardEntry:
    file: str
    samples: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class ShardIndex:
    """The contents of a shards folder; `fingerprint` changes with everything that the samples depend on.

    `splits` counts samples by split, `clips` the clips that they are from; a long clip gives several samples.
    """

    client: str
    shards: list[ShardEntry]
    samples: int
    frames: int
    splits: dict[str, int]
    code_version: str
    fingerprint: str
    clips: dict[str, int] = field(default_factory=dict)


def write_shards(
    client_folder: Path, samples: Iterable[Sample], max_bytes: int = MAX_BYTES, fingerprint: str = ""
) -> ShardIndex:
    """Write a client's samples, whole or not at all: `client_folder` is `RunFolder.client(name)`.

    Everything is written into a neighbouring folder that takes the old one's place at the end, so a killed
    run leaves the old shards or none, never half of the new. One sample at a time is held in memory.
    Raises UnwritableError where the disk refuses.
    """
    target = client_folder / "shards"
    partial = partial_of(target)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with writing(client_folder):
            partial.mkdir(parents=True)
            index = _write_all(partial, client_folder.name, samples, max_bytes, fingerprint)
            (partial / SHARD_INDEX).write_text(json.dumps(asdict(index), indent=1), encoding="utf-8")
            if target.exists():
                old = partial_of(target, "old")
                shutil.rmtree(old, ignore_errors=True)
                target.replace(old)
                partial.replace(target)
                shutil.rmtree(old, ignore_errors=True)
            else:
                partial.replace(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return index


def load_index(client_folder: Path) -> ShardIndex:
    path = client_folder / "shards" / SHARD_INDEX
    if not path.exists():
        raise PrivFedTalkError(
            f"{client_folder} holds no finished shards",
            remedy="make them first: privfedtalk prepare",
        )
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return ShardIndex(**{**stored, "shards": [ShardEntry(**entry) for entry in stored["shards"]]})
    except (ValueError, TypeError, KeyError) as error:
        raise CorruptFileError(f"{path} is not a shard index: {error}", remedy=_REMEDY) from error


def check_files(client_folder: Path, index: ShardIndex) -> None:
    """Raise CorruptFileError where a file of the index is missing or has another size; quick, as no file is read."""
    for entry in index.shards:
        _verify_size(client_folder / "shards" / entry.file, entry)


def read_shards(
    client_folder: Path, split: str | None = None, verify: bool = True, shuffle_seed: int | None = None
) -> Iterator[Sample]:
    """Stream a client's samples, of one split or all; CorruptFileError for a shard that does not match its sha256.

    With `shuffle_seed` the shards come in a seeded order, and the samples inside each too; their bytes are
    read one sample at a time, so memory holds one sample, not one client.
    """
    index = load_index(client_folder)
    order = np.arange(len(index.shards))
    if shuffle_seed is not None:
        order = generator(shuffle_seed, "shards", index.client).permutation(len(order))
    for number in order:
        entry = index.shards[number]
        path = client_folder / "shards" / entry.file
        if verify:
            _verify(path, entry)
        yield from _read_one(path, split, shuffle_seed)


def _write_all(folder: Path, client: str, samples: Iterable[Sample], max_bytes: int, fingerprint: str) -> ShardIndex:
    entries: list[ShardEntry] = []
    splits: dict[str, int] = {}
    clips: dict[str, set[str]] = {}
    frames = 0
    waiting = iter(samples)
    sample = next(waiting, None)
    while sample is not None:
        path = folder / f"shard-{len(entries):06d}.tar"
        inside = 0
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
            while sample is not None:
                members = _members(sample)
                size = sum(content.size + 1024 for _, content in members)
                if inside and archive.offset + size > max_bytes:
                    break
                for name, content in members:
                    # TarInfo's fixed time and owner stay: the same samples give the same bytes.
                    info = tarfile.TarInfo(f"{sample.key}.{name}")
                    info.size = content.size
                    archive.addfile(info, content)
                inside += 1
                frames += len(sample.latents)
                splits[sample.split] = splits.get(sample.split, 0) + 1
                clips.setdefault(sample.split, set()).add(sample.clip_id)
                del members, content  # else a long sample's latents were held while those of the next are made
                sample = None
                sample = next(waiting, None)
        entries.append(ShardEntry(path.name, inside, path.stat().st_size, _sha256(path)))
    count = sum(entry.samples for entry in entries)
    counted = {split: len(ids) for split, ids in clips.items()}
    return ShardIndex(client, entries, count, frames, splits, code_version(__name__), fingerprint, counted)


class _Content(io.RawIOBase):
    """A file that reads buffers one after the other, so that a tar member's arrays are not copied."""

    def __init__(self, *buffers: bytes | memoryview) -> None:
        self._views = [memoryview(buffer).cast("B") for buffer in buffers if memoryview(buffer).nbytes]
        self.size = sum(view.nbytes for view in self._views)

    def read(self, size: int = -1) -> bytes:
        parts: list[bytes] = []
        left = self.size if size < 0 else size
        while self._views and left:
            head = self._views.pop(0)
            parts.append(bytes(head[:left]))
            if head.nbytes > left:
                self._views.insert(0, head[left:])
            left -= len(parts[-1])
        return b"".join(parts)


def _check_finite(sample: Sample) -> None:
    """Raise PrivFedTalkError where an array of a sample holds NaN or infinity: nothing must be trained on it."""
    made = {
        "latents": (sample.latents, "the autoencoder"),
        "reference_latent": (sample.reference_latent, "the autoencoder"),
        "speech": (sample.speech, "the speech features"),
        "cepstra": (sample.cepstra, "the sound"),
        "motion": (sample.motion, "the landmarks"),
    }
    for name, (values, maker) in made.items():
        # Row by row: the mask of a whole long clip would take half as much memory as its latents.
        if values is not None and not all(np.isfinite(row).all() for row in values):
            raise PrivFedTalkError(
                f"{sample.clip_id}: {name} holds values that are no numbers, or too large for half precision",
                f"{maker} gave them: check training.vae and preparation.speech, or take the clip out of the corpus",
            )


def _members(sample: Sample) -> list[tuple[str, _Content]]:
    _check_finite(sample)
    assert "." not in sample.key and "/" not in sample.key, "webdataset cuts a key at its first dot"
    picture = cv2.imencode(".png", cv2.cvtColor(sample.reference, cv2.COLOR_RGB2BGR))[1].tobytes()
    described = {
        **sample.metadata,
        "client": sample.client,
        "clip_id": sample.clip_id,
        "split": sample.split,
    }
    members = [
        ("latents.npy", _npy(sample.latents, np.float16)),
        ("speech.npy", _npy(sample.speech, np.float16)),
        ("reference_latent.npy", _npy(sample.reference_latent, np.float16)),
        ("reference.png", _Content(picture)),
        ("landmarks.npy", _npy(sample.landmarks, np.float32)),
    ]
    if sample.mouth_opening is not None:
        members.append(("opening.npy", _npy(sample.mouth_opening, np.float32)))
    if sample.motion is not None:
        members.append(("motion.npy", _npy(sample.motion, np.float32)))
    if sample.cepstra is not None:
        members.append(("cepstra.npy", _npy(sample.cepstra, np.float16)))
    return [*members, ("json", _Content(json.dumps(described, sort_keys=True).encode()))]


def _read_one(path: Path, split: str | None, shuffle_seed: int | None) -> Iterator[Sample]:
    try:
        with path.open("rb") as file:
            groups = _directory(path)
            keys = list(groups)
            if shuffle_seed is not None:
                order = generator(shuffle_seed, "samples", path.name).permutation(len(keys))
                keys = [keys[place] for place in order]
            for key in keys:
                places = groups[key]
                metadata = json.loads(_bytes(file, places["json"]))
                if split is None or metadata["split"] == split:
                    yield _sample(key, metadata, file, places)
    except (tarfile.TarError, EOFError, ValueError, KeyError, OSError) as error:
        raise CorruptFileError(f"the shard {path} cannot be read: {error!r}", remedy=_REMEDY) from error


def _directory(path: Path) -> dict[str, dict[str, tuple[int, int]]]:
    """Offset and size of each sample's members by key and kind, in the order written."""
    groups: dict[str, dict[str, tuple[int, int]]] = {}
    with tarfile.open(path, "r:") as archive:
        for member in archive:
            key, _, kind = member.name.partition(".")
            groups.setdefault(key, {})[kind] = (member.offset_data, member.size)
    return groups


def _sample(key: str, metadata: dict[str, Any], file: BinaryIO, places: dict[str, tuple[int, int]]) -> Sample:
    def array(name: str) -> NDArray[Any]:
        return np.load(io.BytesIO(_bytes(file, places[name])), allow_pickle=False)

    png = np.frombuffer(_bytes(file, places["reference.png"]), dtype=np.uint8)
    return Sample(
        key=key,
        client=metadata["client"],
        clip_id=metadata["clip_id"],
        split=metadata["split"],
        latents=array("latents.npy"),
        speech=array("speech.npy"),
        reference_latent=array("reference_latent.npy"),
        reference=cv2.cvtColor(cv2.imdecode(png, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB),
        landmarks=array("landmarks.npy"),
        mouth_opening=array("opening.npy") if "opening.npy" in places else None,
        motion=array("motion.npy") if "motion.npy" in places else None,
        cepstra=array("cepstra.npy") if "cepstra.npy" in places else None,
        metadata=metadata,
    )


def _bytes(file: BinaryIO, place: tuple[int, int]) -> bytes:
    offset, size = place
    file.seek(offset)
    content = file.read(size)
    if len(content) != size:
        raise EOFError(f"{size} bytes promised at {offset}, {len(content)} there")
    return content


def _npy(array: NDArray[Any], dtype: DTypeLike) -> _Content:
    """The bytes that `np.save` writes, without copying the array's own."""
    whole = np.ascontiguousarray(array, dtype=dtype)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(whole))
    return _Content(header.getvalue(), whole.reshape(-1).data)


def _verify(path: Path, entry: ShardEntry) -> None:
    _verify_size(path, entry)
    if _sha256(path) != entry.sha256:
        raise CorruptFileError(f"{path} was altered: its sha256 is not the index's", remedy=_REMEDY)


def _verify_size(path: Path, entry: ShardEntry) -> None:
    if not path.exists():
        raise CorruptFileError(f"the index names {path}, which is not there", remedy=_REMEDY)
    found = path.stat().st_size
    if found != entry.bytes:
        raise CorruptFileError(f"{path} has {found} bytes, its index says {entry.bytes}", remedy=_REMEDY)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
