"""Streaming and the cache; Inception and I3D through the code that loads the real files, with weights of our own."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from common.errors import MissingWeightError
from common.weights import registry as weights
from evaluation.metrics.arrays import Floats, Frame, Frames
from evaluation.metrics.networks.features import FeatureCache, content_key, evenly, evenly_spaced, stream
from evaluation.metrics.networks.i3d import I3dFeatures, middle_window
from evaluation.metrics.networks.inception import InceptionFeatures
from evaluation.metrics.sets.distribution import frechet_distance, kernel_distance


class Means:
    """A network of which everything is known: the three channels' means."""

    fingerprint = "means"

    def __init__(self) -> None:
        self.largest = 0

    def features(self, frames: Frames) -> Floats:
        self.largest = max(self.largest, len(frames))
        return frames.mean(axis=(1, 2)).astype(np.float32)


def video(length: int, size: int = 8) -> Iterator[Frame]:
    for index in range(length):
        yield np.full((size, size, 3), index % 256, np.uint8)


def register(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str) -> None:
    """Take the file that lies in `folder` under the registered file's name for the registered one."""
    weight = weights.REGISTRY[name]
    digest = hashlib.sha256((folder / weight.file).read_bytes()).hexdigest()
    monkeypatch.setitem(weights.REGISTRY, name, replace(weight, sha256=digest))
    monkeypatch.setenv(weights.ENVIRONMENT_VARIABLE, str(folder))


def test_a_stream_is_the_whole_in_parts() -> None:
    network = Means()
    found = stream(network, video(37), batch=10)
    np.testing.assert_array_equal(found, Means().features(np.stack(list(video(37)))))
    assert network.largest == 10
    with pytest.raises(ValueError, match="without frames"):
        stream(network, video(0))


def test_memory_does_not_grow_with_the_video() -> None:
    """Five times the frames, each of 0.2 MB; what grows is three numbers a frame."""

    def peak(length: int) -> int:
        tracemalloc.start()
        stream(Means(), video(length, 256))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(20)
    assert peak(250) < peak(50) + 100_000


def test_a_long_clip_counts_no_more_than_a_short_one() -> None:
    assert [int(frame[0, 0, 0]) for frame in evenly(video(100), 100, 4)] == [12, 37, 62, 87]
    assert len(list(evenly(video(3), 3, 16))) == 3
    assert evenly_spaced(49, 1).tolist() == [24]  # one frame is the centre frame


def test_what_was_computed_once_is_not_computed_again(tmp_path: Path) -> None:
    cache, calls = FeatureCache(tmp_path), []

    def compute() -> Floats:
        calls.append(1)
        return np.arange(4, dtype=np.float32)

    frames = np.stack(list(video(3)))
    for _ in range(2):
        np.testing.assert_array_equal(cache.get("a", [frames], compute), np.arange(4))
    assert len(calls) == 1
    cache.get("b", [frames], compute)
    cache.get("a", [frames[:2]], compute)
    assert len(calls) == 3 and len(list(tmp_path.iterdir())) == 3
    FeatureCache().get("a", [frames], compute)
    assert len(calls) == 4


def test_equal_bytes_of_another_shape_are_another_content() -> None:
    frames = np.stack(list(video(4)))
    assert content_key("a", [frames]) != content_key("a", [frames.reshape(8, 4, 8, 3)])
    assert content_key("a", [frames]) == content_key("a", [frames.copy()])


@pytest.fixture
def random_inception(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch-fidelity's network with weights drawn here, in the file that holds the real ones elsewhere."""
    from torch_fidelity import feature_extractor_inceptionv3 as theirs

    drawn = theirs.FeatureExtractorInceptionV3
    torch.manual_seed(0)
    with monkeypatch.context() as patched:
        patched.setattr(theirs, "load_state_dict_from_url", lambda *_, **__: {})
        patched.setattr(drawn, "load_state_dict", lambda *_, **__: None)
        state = drawn("inception-v3-compat", ["2048"]).state_dict()
    path = tmp_path / weights.REGISTRY["inception"].file
    torch.save(state, path)
    register(monkeypatch, tmp_path, "inception")
    return path


@pytest.mark.slow
def test_a_reviewers_torch_fidelity_prints_the_same(random_inception: Path) -> None:
    """From pictures to numbers: the package's own entry point on the same pictures."""
    from torch_fidelity import calculate_metrics

    class Pictures(torch.utils.data.Dataset[Tensor]):
        def __init__(self, frames: Frames) -> None:
            self.frames = torch.from_numpy(frames).permute(0, 3, 1, 2)

        def __len__(self) -> int:
            return len(self.frames)

        def __getitem__(self, index: int) -> Tensor:
            return self.frames[index]

    rng = np.random.default_rng(0)
    truth = rng.integers(0, 256, (24, 64, 64, 3), dtype=np.uint8)
    generated = (truth * 0.7).astype(np.uint8) + rng.integers(0, 40, truth.shape, dtype=np.uint8)
    theirs = calculate_metrics(
        input1=Pictures(generated), input2=Pictures(truth), fid=True, kid=True, kid_subsets=5, kid_subset_size=10,
        feature_extractor_weights_path=str(random_inception), cuda=False, save_cpu_ram=True, verbose=False,
        batch_size=8, cache=False,
    )  # fmt: skip
    network = InceptionFeatures("cpu")
    x, y = stream(network, generated), stream(network, truth)
    assert x.shape == (24, 2048)
    kid = kernel_distance(x, y, subsets=5, subset_size=10)
    assert kid.mean == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-3, abs=1e-7)
    assert frechet_distance(x, y) == pytest.approx(theirs["frechet_inception_distance"], rel=5e-3)


class ScriptedVideo(nn.Module):
    """Has the call of the published file, and shows what reached it."""

    def forward(self, x: Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False) -> Tensor:
        assert rescale and resize and return_features
        return x.float().mean(dim=(3, 4)).flatten(1)  # [B, 3 T]


def test_windows_reach_the_video_network_as_it_wants_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.jit.script(ScriptedVideo()).save(tmp_path / weights.REGISTRY["i3d"].file)
    register(monkeypatch, tmp_path, "i3d")
    frames = np.stack(list(video(40)))
    window = middle_window(frames)
    assert window is not None and window[:, 0, 0, 0].tolist() == list(range(12, 28))
    network = I3dFeatures("cpu")
    np.testing.assert_allclose(network.features(window)[0].reshape(3, 16), [range(12, 28)] * 3)
    with pytest.raises(ValueError, match="16 frames, not 40"):
        network.features(frames)
    assert middle_window(frames[:15]) is None


def test_a_missing_network_says_what_gets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(weights.ENVIRONMENT_VARIABLE, str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name, opened in (("inception", InceptionFeatures), ("i3d", I3dFeatures)):
        with pytest.raises(MissingWeightError) as caught:
            opened()
        assert f"privfedtalk weights fetch {name}" in caught.value.remedy
