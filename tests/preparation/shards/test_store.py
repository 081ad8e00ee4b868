from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import webdataset as wds

from common.errors import CorruptFileError, PrivFedTalkError
from preparation.shards.store import Sample, load_index, read_shards, write_shards


def sample(number: int, split: str = "train", truth: bool = True, frames: int = 6) -> Sample:
    rng = np.random.default_rng(number)
    return Sample(
        key=f"c0000--{number:05d}",
        client="c0000",
        clip_id=f"c0000/{number:05d}",
        split=split,
        latents=rng.normal(size=(frames, 4, 16, 16)).astype(np.float16),
        speech=rng.normal(size=(frames, 20, 80)).astype(np.float16),
        reference_latent=rng.normal(size=(4, 16, 16)).astype(np.float16),
        reference=rng.integers(0, 255, (128, 128, 3), dtype=np.uint8),
        landmarks=rng.normal(size=(frames, 68, 2)).astype(np.float32),
        mouth_opening=rng.uniform(size=frames).astype(np.float32) if truth else None,
        motion=rng.normal(size=(frames, 12)).astype(np.float32) if truth else None,
        cepstra=rng.normal(size=(frames, 4, 13)).astype(np.float16) if truth else None,
        metadata={"reference_clip": "c0000/00099", "reference_frame": 7},
    )


def assert_same(one: Sample, other: Sample) -> None:
    for name in (
        "latents",
        "speech",
        "reference_latent",
        "reference",
        "landmarks",
        "mouth_opening",
        "motion",
        "cepstra",
    ):
        ours, theirs = getattr(one, name), getattr(other, name)
        assert (ours is None) == (theirs is None), name
        if ours is not None:
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs, err_msg=name)
    assert (one.key, one.client, one.clip_id, one.split) == (other.key, other.client, other.clip_id, other.split)
    assert one.metadata.items() <= other.metadata.items()


@pytest.fixture
def client(tmp_path: Path) -> Path:
    folder = tmp_path / "clients" / "c0000"
    samples = [sample(number, "test" if number % 3 == 0 else "train", truth=number != 4) for number in range(7)]
    write_shards(folder, samples, max_bytes=200_000, fingerprint="abc")
    return folder


def test_round_trip(client: Path) -> None:
    read = list(read_shards(client))
    assert len(read) == 7
    for number, found in enumerate(read):
        assert_same(sample(number, "test" if number % 3 == 0 else "train", truth=number != 4), found)


def test_index_vouches_for_the_shards(client: Path) -> None:
    index = load_index(client)
    assert (index.client, index.samples, index.frames, index.fingerprint) == ("c0000", 7, 42, "abc")
    assert index.splits == {"test": 3, "train": 4}
    assert len(index.shards) > 1 and sum(shard.samples for shard in index.shards) == 7
    assert all((client / "shards" / shard.file).stat().st_size == shard.bytes for shard in index.shards)
    assert all(shard.bytes <= 200_000 for shard in index.shards)


def test_one_split_only(client: Path) -> None:
    assert [found.clip_id for found in read_shards(client, split="test")] == [
        "c0000/00000",
        "c0000/00003",
        "c0000/00006",
    ]


def test_shuffling_is_seeded_and_complete(client: Path) -> None:
    orders = [[found.key for found in read_shards(client, shuffle_seed=seed)] for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2]) == [sample(number).key for number in range(7)]


def test_plain_webdataset_reads_them(client: Path) -> None:
    paths = [str(path) for path in sorted((client / "shards").glob("*.tar"))]
    found = list(wds.WebDataset(paths, shardshuffle=False).decode("rgb8"))
    assert [item["__key__"] for item in found] == [sample(number).key for number in range(7)]
    np.testing.assert_array_equal(found[2]["latents.npy"], sample(2).latents)
    np.testing.assert_array_equal(found[2]["reference.png"], sample(2).reference)
    assert found[2]["json"]["clip_id"] == "c0000/00002"


def test_same_samples_same_bytes(client: Path, tmp_path: Path) -> None:
    first = load_index(client).shards
    samples = [sample(number, "test" if number % 3 == 0 else "train", truth=number != 4) for number in range(7)]
    assert write_shards(tmp_path / "again" / "c0000", samples, max_bytes=200_000).shards == first


def test_rewriting_replaces_everything(client: Path) -> None:
    write_shards(client, [sample(9)])
    assert [found.key for found in read_shards(client)] == [sample(9).key]
    assert [entry.name for entry in client.iterdir()] == ["shards"]


def test_a_failed_run_leaves_the_old_shards(client: Path) -> None:
    def broken() -> Iterator[Sample]:
        yield sample(8)
        raise RuntimeError("the encoder failed")

    with pytest.raises(RuntimeError):
        write_shards(client, broken())
    assert len(list(read_shards(client))) == 7
    assert [entry.name for entry in client.iterdir()] == ["shards"]


def test_half_a_run_is_not_taken_for_whole(tmp_path: Path) -> None:
    """What a killed process leaves behind: a partial folder, which nobody reads."""
    partial = tmp_path / "c0000" / ".shards.123.partial"
    partial.mkdir(parents=True)
    (partial / "shard-000000.tar").write_bytes(b"half")
    with pytest.raises(PrivFedTalkError, match="no finished shards"):
        list(read_shards(tmp_path / "c0000"))


@pytest.mark.parametrize("damage", ["truncated", "altered", "gone"])
def test_damaged_shards_are_refused_by_name(client: Path, damage: str) -> None:
    path = client / "shards" / "shard-000001.tar"
    content = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(content[:-5000])
    else:
        content[5000] ^= 1
        path.write_bytes(content)
    with pytest.raises(CorruptFileError, match=r"shard-000001\.tar") as caught:
        list(read_shards(client))
    assert "shards step" in caught.value.remedy


def test_unverified_reading_still_notices_truncation(client: Path) -> None:
    path = client / "shards" / "shard-000000.tar"
    path.write_bytes(path.read_bytes()[:30_000])
    with pytest.raises(CorruptFileError, match=r"shard-000000\.tar"):
        list(read_shards(client, verify=False))


def test_pickled_arrays_are_never_loaded(client: Path) -> None:
    path = client / "shards" / "shard-000000.tar"
    # As an attacker would write it: an array of objects, whose content is a pickle (here of None).
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|O", "fortran_order": False, "shape": (1,)})
    buffer.write(b"N.")
    with tarfile.open(path) as archive:
        members = [(member, file.read()) for member in archive if (file := archive.extractfile(member)) is not None]
    with tarfile.open(path, "w") as archive:
        for member, content in members:
            content = buffer.getvalue() if member.name.endswith("landmarks.npy") else content
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    with pytest.raises(CorruptFileError, match="allow_pickle=False"):
        list(read_shards(client, verify=False))


def test_members_are_what_numpy_would_save(client: Path) -> None:
    """Arrays are written without a copy of their own; the bytes are those of `np.save`."""
    with tarfile.open(client / "shards" / "shard-000000.tar") as archive:
        for kind in ("latents", "landmarks", "opening"):
            member = archive.extractfile(f"{sample(0).key}.{kind}.npy")
            assert member is not None
            content = member.read()
            buffer = io.BytesIO()
            np.save(buffer, np.load(io.BytesIO(content)))
            assert content == buffer.getvalue()


def test_broken_index_is_refused(client: Path) -> None:
    path = client / "shards" / "index.json"
    path.write_text(json.dumps({"client": "c0000"}))
    with pytest.raises(CorruptFileError, match=r"index\.json"):
        load_index(client)


@pytest.mark.parametrize("name", ["latents", "speech", "reference_latent", "cepstra", "motion"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_never_written(tmp_path: Path, name: str, value: float) -> None:
    spoilt = getattr(sample(1), name).copy()
    spoilt[..., -1] = value
    folder = tmp_path / "c0000"
    with pytest.raises(PrivFedTalkError, match=f"c0000/00001: {name} holds values that are no numbers"):
        write_shards(folder, [sample(0), replace(sample(1), **{name: spoilt})])
    assert [path for path in folder.rglob("*") if path.is_file()] == []
