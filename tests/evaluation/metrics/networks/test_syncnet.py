"""SyncNet: its windows and sound with weights drawn here; its published numbers where the real files are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from common.errors import CorruptFileError, MissingWeightError
from common.weights import registry as weights
from evaluation.metrics.arrays import Frame
from evaluation.metrics.networks.sync_scores import sync_score
from evaluation.metrics.networks.syncnet import SyncNet, SyncNetwork, as_published, cepstra_of
from preparation.media.sound import open_sound
from preparation.media.video import open_video


def drawn(length: int, size: int = 224) -> Iterator[Frame]:
    """Smooth frames, each its own: a JPEG keeps them."""
    y, x = np.mgrid[0:size, 0:size] / size
    for t in range(length):
        planes = [np.sin(6 * x + 0.3 * t), np.cos(5 * y - 0.2 * t), np.sin(4 * (x + y) + 0.1 * t)]
        yield (127 + 100 * np.stack(planes, axis=-1)).astype(np.uint8)


def hiss(samples: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 2000, samples).astype(np.int16)


@pytest.fixture
def meter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SyncNet:
    """The network with drawn weights, through the file and the code that read the real ones."""
    torch.manual_seed(0)
    path = tmp_path / weights.REGISTRY["syncnet"].file
    torch.save(SyncNetwork().state_dict(), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setitem(weights.REGISTRY, "syncnet", replace(weights.REGISTRY["syncnet"], sha256=digest))
    monkeypatch.setenv(weights.ENVIRONMENT_VARIABLE, str(tmp_path))
    return SyncNet.load("cpu")


def test_the_published_file_has_these_tensors() -> None:
    """Names and shapes by which the authors' state dict is known; a batch norm's own three follow each."""
    shapes = {name: tuple(tensor.shape) for name, tensor in SyncNetwork().state_dict().items()}
    assert shapes["netcnnaud.0.weight"] == (64, 1, 3, 3) and shapes["netcnnaud.18.weight"] == (512, 256, 5, 4)
    assert shapes["netcnnlip.0.weight"] == (96, 3, 5, 7, 7) and shapes["netcnnlip.18.weight"] == (512, 256, 1, 6, 6)
    assert shapes["netfcaud.3.weight"] == shapes["netfclip.3.weight"] == (1024, 512)
    assert {name.rpartition(".")[0] for name in shapes if name.startswith("netcnnaud")} == {
        f"netcnnaud.{place}" for place in (0, 1, 4, 5, 8, 9, 11, 12, 14, 15, 18, 19)
    }


def test_windows_and_sound_follow_the_published_procedure(meter: SyncNet) -> None:
    """t < min(frames, samples / 640) − 5, frames t … t + 4, cepstra 4t … 4t + 19; nothing of it streamed."""
    audio = hiss(12 * 640 + 100)
    frames = np.stack(list(as_published(drawn(14))))
    cepstra = cepstra_of(audio)
    last = min(14, len(audio) // 640) - 5
    seen, heard = meter.embed(
        np.stack([frames[t : t + 5] for t in range(last)]),
        np.stack([cepstra[4 * t : 4 * t + 20].T for t in range(last)]),
    )
    padded = np.pad(heard, ((15, 15), (0, 0)))
    expected = np.mean(
        [np.linalg.norm(seen[t] - padded[t : t + 31] + np.float32(1e-6), axis=1) for t in range(last)], axis=0
    )
    np.testing.assert_allclose(meter.mean_distances(drawn(14), audio), expected, rtol=1e-4)
    with pytest.raises(ValueError, match="no window"):
        meter.mean_distances(drawn(5), audio)


def test_frames_arrive_as_bgr_of_224_through_a_jpeg() -> None:
    frames = list(drawn(3))
    published = list(as_published(iter(frames)))
    assert len(published) == 3 and published[0].shape == (224, 224, 3)
    difference = np.abs(published[0][..., ::-1].astype(float) - frames[0])
    assert 0 < difference.mean() < 6  # lossy, and the channels are in the other order
    assert next(as_published(drawn(1, 128))).shape == (224, 224, 3)


def test_cepstra_are_those_of_python_speech_features() -> None:
    """Version 0.6 of the package printed these for this sound: its second window and its last, padded one."""
    time = np.arange(1000)
    found = cepstra_of((3000 * np.sin(time**2 / 900)).astype(np.int16))
    theirs = [
        [20.1562, -4.3826, -61.0349, 21.9111, 4.9815, -2.7248, 18.3481, -5.3475, -15.8769, 7.9482, -3.4254, 0.4326,
         6.3494],
        [21.3894, -37.4372, 14.0082, 9.7391, -32.7, 37.028, -28.1362, 13.0522, -4.3289, 0.6895, -6.0633, 7.1155,
         -7.4934],
    ]  # fmt: skip
    np.testing.assert_allclose(found[[1, -1]], theirs, atol=2e-4)
    for samples, count in ((16000, 99), (12345, 76), (500, 2), (400, 1), (399, 1)):
        assert cepstra_of(hiss(samples)).shape == (count, 13)


def test_another_file_is_named(tmp_path: Path, meter: SyncNet, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / weights.REGISTRY["syncnet"].file
    torch.save({"netcnnaud.0.weight": torch.zeros(1)}, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setitem(weights.REGISTRY, "syncnet", replace(weights.REGISTRY["syncnet"], sha256=digest))
    with pytest.raises(CorruptFileError, match="does not hold SyncNet"):
        SyncNet.load("cpu")


@pytest.mark.slow
def test_the_authors_own_clip_gives_the_authors_own_numbers() -> None:
    """Offset 3, distance 5.353, confidence 10.021, as their README prints. The distances are allowed 0.05: their
    frames went through another version of FFmpeg's decoder and JPEG encoder."""
    try:
        network, example = SyncNet.load(), weights.find("syncnet_example")
    except (MissingWeightError, CorruptFileError) as error:
        pytest.skip(f"{error.reason}; remedy: {error.remedy}")
    score = sync_score(network.mean_distances(open_video(example).frames(), open_sound(example).in_step()))
    assert score.offset == 3
    assert score.lse_d == pytest.approx(5.353, abs=0.05)
    assert score.lse_c == pytest.approx(10.021, abs=0.05)
