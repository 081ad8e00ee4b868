"""Instruments that need a pretrained network or much time: each is one small class, opened by name.

A metric whose network is absent is reported as missing, with the command that fetches the network; no other network
replaces it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from common.weights import registry as weights
from evaluation.metrics.arrays import Audio, Floats, Frames, Values
from evaluation.metrics.interface import Figures, Instrument, Meter, Open
from evaluation.metrics.motion import flow_error
from evaluation.metrics.networks.features import FeatureCache, FeatureNetwork, evenly_spaced, stream
from evaluation.metrics.sets.distribution import frechet_distance, kernel_distance
from evaluation.metrics.sets.set_level import Pair, Statistic, joined, set_interval

if TYPE_CHECKING:
    from evaluation.metrics.clip import EvaluationClip
    from evaluation.metrics.networks.perceptual import LpipsDistance
    from evaluation.metrics.networks.sync_scores import SyncScore
    from evaluation.metrics.networks.syncnet import SyncNet
    from preparation.crops.active_speaker import ActiveSpeaker
    from preparation.crops.sync import Sync

SHORTEST_SYNC_FRAMES = 20
"""Clips with fewer frames are not scored: SyncNet would compare little but padding."""


class OpticalFlow:
    """tOF: needs no network, but as much time as generating a clip."""

    def measure(self, clip: EvaluationClip, frames: Frames) -> Figures:
        return {"tof": flow_error(frames, clip.frames)}

    def conclude(self) -> dict[str, Figures]:
        return {}


class Speaking:
    """Light-ASD, a second measure of lips and sound: its mean logit, and how far it falls when the sound is shifted."""

    def __init__(self, speaker: ActiveSpeaker, cache: FeatureCache) -> None:
        self._speaker, self._cache = speaker, cache

    def measure(self, clip: EvaluationClip, frames: Frames) -> Figures:
        def of_truth() -> Floats:
            sync = self._sync(clip.frames, clip.audio)
            return np.array([sync.score, sync.contrast], np.float32)

        found = self._sync(frames, clip.audio)
        score, contrast = self._cache.get(_registered("light_asd"), [clip.frames, clip.audio], of_truth)
        return {
            "light_asd_score": found.score,
            "light_asd_score_truth": float(score),
            "light_asd_contrast": found.contrast,
            "light_asd_contrast_truth": float(contrast),
        }

    def conclude(self) -> dict[str, Figures]:
        return {}

    def _sync(self, frames: Frames, audio: Audio) -> Sync:
        from preparation.crops.active_speaker import view
        from preparation.crops.sync import measure

        return measure(self._speaker, np.stack([view(frame) for frame in frames]), audio)


class LipSync:
    """SyncNet: LSE-D, LSE-C and offset, the true clip's LSE-D and LSE-C, and how far LSE-C is from the true clip's."""

    def __init__(self, network: SyncNet, cache: FeatureCache) -> None:
        self._network, self._cache = network, cache

    def measure(self, clip: EvaluationClip, frames: Frames) -> Figures:
        if len(frames) < SHORTEST_SYNC_FRAMES:
            return {}
        found, truth = self._score(frames, clip.audio), self._truth(clip)
        return {
            "lse_d": found.lse_d,
            "lse_c": found.lse_c,
            "av_offset": float(found.offset),
            "lse_d_truth": truth.lse_d,
            "lse_c_truth": truth.lse_c,
            "lse_c_gap": abs(found.lse_c - truth.lse_c),
        }

    def conclude(self) -> dict[str, Figures]:
        return {}

    def _score(self, frames: Frames, audio: Audio) -> SyncScore:
        from evaluation.metrics.networks.sync_scores import sync_score

        return sync_score(self._network.mean_distances(frames, audio))

    def _truth(self, clip: EvaluationClip) -> SyncScore:
        from evaluation.metrics.networks.sync_scores import sync_score

        def compute() -> Values:
            return self._network.mean_distances(clip.frames, clip.audio)

        return sync_score(self._cache.get(self._network.fingerprint, [clip.frames, clip.audio], compute))


class Perceptual:
    """LPIPS over all frames and of the centre frame; the metrics' keys name the backbone."""

    def __init__(self, distance: LpipsDistance, backbone: str) -> None:
        self._distance, self._name = distance, f"lpips_{backbone}"

    def measure(self, clip: EvaluationClip, frames: Frames) -> Figures:
        found = self._distance(frames, clip.frames)
        return {self._name: float(found.mean()), f"{self._name}_centre_frame": float(found[len(found) // 2])}

    def conclude(self) -> dict[str, Figures]:
        return {}


class Population:
    """KID and FID between generated and true frames: over equally many frames of every clip, and over centre frames
    alone, which is the paper's protocol."""

    def __init__(self, network: FeatureNetwork, cache: FeatureCache, frames_per_clip: int) -> None:
        self._network, self._cache, self._count = network, cache, frames_per_clip
        self._found: dict[str, dict[str, list[Pair]]] = defaultdict(lambda: defaultdict(list))

    def measure(self, clip: EvaluationClip, frames: Frames) -> Figures:
        # The centre frame first, then the others: one pass serves both protocols.
        chosen = [len(frames) // 2, *evenly_spaced(len(frames), self._count)]
        truth = clip.frames[chosen]
        of_truth = self._cache.get(self._network.fingerprint, [truth], partial(stream, self._network, truth))
        self._found[clip.role][clip.client].append((stream(self._network, frames[chosen]), of_truth))
        return {}

    def conclude(self) -> dict[str, Figures]:
        figures = {}
        for role, clients in self._found.items():
            centre = {name: [(x[:1], y[:1]) for x, y in pairs] for name, pairs in clients.items()}
            spread = {name: [(x[1:], y[1:]) for x, y in pairs] for name, pairs in clients.items()}
            figures[role] = _distances(spread, "") | _distances(centre, "_centre_frame")
        return figures


class VideoPopulation:
    """FVD between generated and true clips, one window of each clip."""

    def __init__(self, network: FeatureNetwork, cache: FeatureCache) -> None:
        self._network, self._cache = network, cache
        self._found: dict[str, dict[str, list[Pair]]] = defaultdict(lambda: defaultdict(list))

    def measure(self, clip: EvaluationClip, frames: Frames) -> Figures:
        from evaluation.metrics.networks.i3d import middle_window

        window, truth = middle_window(frames), middle_window(clip.frames)
        if window is not None and truth is not None:
            of_truth = self._cache.get(self._network.fingerprint, [truth], partial(self._network.features, truth))
            self._found[clip.role][clip.client].append((self._network.features(window), of_truth))
        return {}

    def conclude(self) -> dict[str, Figures]:
        figures = {}
        for role, clients in self._found.items():
            pairs = [pair for of_client in clients.values() for pair in of_client]
            if len(pairs) > 1:
                figures[role] = {"fvd": frechet_distance(*joined(pairs)), "fvd_clips": float(len(pairs))}
                figures[role] |= _interval_figures("fvd", clients, frechet_distance)
        return figures


def _light_asd(cache: FeatureCache, _count: int) -> Meter:
    from preparation.crops.active_speaker import ActiveSpeaker
    from training.model.device import choose_device

    return Speaking(ActiveSpeaker.load(choose_device()), cache)


def _syncnet(cache: FeatureCache, _count: int) -> Meter:
    from evaluation.metrics.networks.syncnet import SyncNet

    return LipSync(SyncNet.load(), cache)


def _lpips(backbone: str) -> Open:
    def build(_cache: FeatureCache, _count: int) -> Meter:
        from evaluation.metrics.networks.perceptual import LpipsDistance

        return Perceptual(LpipsDistance(backbone), backbone)

    return build


def _inception(cache: FeatureCache, count: int) -> Meter:
    from evaluation.metrics.networks.inception import InceptionFeatures

    return Population(InceptionFeatures(), cache, count)


def _i3d(cache: FeatureCache, _count: int) -> Meter:
    from evaluation.metrics.networks.i3d import I3dFeatures

    return VideoPopulation(I3dFeatures(), cache)


FLOW = Instrument("flow", open=lambda _cache, _count: OpticalFlow())
LIGHT_ASD = Instrument("light_asd", open=_light_asd, weight="light_asd")
SYNCNET = Instrument("syncnet", open=_syncnet, weight="syncnet")
LPIPS_ALEX = Instrument("lpips_alex", open=_lpips("alex"), weight="lpips_alex")
LPIPS_VGG = Instrument("lpips_vgg", open=_lpips("vgg"), weight="lpips_vgg")
INCEPTION = Instrument("inception", open=_inception, weight="inception")
I3D = Instrument("i3d", open=_i3d, weight="i3d")


def _distances(clients: Mapping[str, Sequence[Pair]], suffix: str) -> Figures:
    found, truth = joined([pair for pairs in clients.values() for pair in pairs])
    if len(found) < 2:
        return {}
    kid = kernel_distance(found, truth)
    return {
        f"kid{suffix}": kid.mean,
        f"kid{suffix}_deviation": kid.deviation,
        f"fid{suffix}": frechet_distance(found, truth),
        f"fid{suffix}_frames": float(len(found)),
        **_interval_figures(f"kid{suffix}", clients, lambda x, y: kernel_distance(x, y).mean),
        **_interval_figures(f"fid{suffix}", clients, frechet_distance),
    }


def _interval_figures(name: str, clients: Mapping[str, Sequence[Pair]], statistic: Statistic) -> Figures:
    """Standard error and interval over clients, where there are enough of them."""
    interval = set_interval(clients, statistic)
    if interval is None:
        return {}
    return {f"{name}_se": interval.standard_error, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _registered(name: str) -> str:
    return f"{name} {weights.REGISTRY[name].sha256}"
