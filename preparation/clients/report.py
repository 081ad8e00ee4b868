"""How much clients differ in size, appearance and head pose, as distances to all clients together.

Only counts and distances are written: no colour, no landmark, nothing from which a face could be drawn.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.errors import CorruptFileError, PrivFedTalkError
from common.files import write_text
from common.folders import RunFolder
from common.seeding import generator
from preparation.clients.features import ClipFeatures, measure_clips
from preparation.clients.partition import cluster
from preparation.clients.roles import Client, ClientTable, load_clients
from preparation.clients.timeline import sample_clips
from preparation.corpora.clip import Clip
from preparation.corpora.manifest import load_manifest

CLUSTERS = 8
POSE_BINS = 8
"""Bins of equal mass for yaw and for pitch each."""
REDEALS = 20
"""How often the clips are dealt at random, to estimate how far apart clients of these sizes are without any skew."""


@dataclass(frozen=True)
class ClientRow:
    """One client compared with all clients together, itself included.

    A total variation, 0-1, is half the summed absolute differences of two histograms: of clips over clusters of
    appearance and pose (`cluster_tv`), or of frames over yaw and over pitch, averaged (`pose_tv`).
    `appearance_distance` is between the mean appearances, in standard deviations over clips, per feature. None where
    the client has no crop.
    """

    client: str
    clips: int
    train: int
    validation: int
    test: int
    seconds: float
    people: int
    one_video: bool
    with_crops: int
    cluster_tv: float | None
    pose_tv: float | None
    appearance_distance: float | None


@dataclass(frozen=True)
class ClientReport:
    """The rows and their summary. `*_if_alike` is the mean total variation after random dealings to the same sizes,
    which small clients show without any skew: compare the measured value with it, not with zero."""

    clients: list[ClientRow]
    clips: int
    gini: float
    largest_to_median: float
    cluster_tv: float
    cluster_tv_if_alike: float
    pose_tv: float
    pose_tv_if_alike: float
    appearance_distance: float

    def summary(self) -> dict[str, str]:
        """The figures over all clients, for people to read."""
        return {
            "sizes": f"{self.clips} clips, Gini {self.gini:.2f}, largest to median {self.largest_to_median:.1f}",
            "looks and pose, total variation": f"{self.cluster_tv:.2f} (by chance {self.cluster_tv_if_alike:.2f})",
            "pose alone, total variation": f"{self.pose_tv:.2f} (by chance {self.pose_tv_if_alike:.2f})",
            "looks, distance to the mean": f"{self.appearance_distance:.2f} standard deviations",
        }


def report_clients(run: RunFolder, seed: int = 0) -> ClientReport:
    """Measure every client of a run whose crops are made (role client; public and unseen people train nothing)."""
    table = load_clients(run.clients_table)
    members = [(name, entry) for name, entry in sorted(table.items()) if entry.role == "client"]
    clips = sample_clips(run, load_manifest(run.manifest)).clips
    return compare_clients(dict(members), clips, measure_clips(run, members), seed)


def compare_clients(
    table: ClientTable, clips: list[Clip], features: dict[str, ClipFeatures], seed: int = 0
) -> ClientReport:
    """The report on all entries of `table`; `features` by clip id, missing where a clip has no crop."""
    measured = sorted(clip for entry in table.values() for clip in entry.clips() if clip in features)
    if not measured:
        raise PrivFedTalkError("no client has a crop to compare", remedy="make them first: privfedtalk prepare")
    labels = cluster(np.stack([features[clip].vector() for clip in measured]), CLUSTERS, seed)
    looks = np.stack([features[clip].appearance for clip in measured])
    looks = (looks - looks.mean(0)) / np.maximum(looks.std(0), 1e-9)
    kinds = np.eye(int(labels.max()) + 1)[labels]
    poses = _pose_histograms([features[clip].pose for clip in measured])
    place = {clip: index for index, clip in enumerate(measured)}
    owned = {name: np.array([place[c] for c in entry.clips() if c in place], int) for name, entry in table.items()}
    owned = {name: own for name, own in owned.items() if len(own)}
    seconds = {clip.clip_id: clip.seconds for clip in clips}

    rows = []
    for name, entry in sorted(table.items()):
        distances = None
        if name in owned:
            own = owned[name]
            distances = (
                _variation(kinds, own),
                _pose_variation(poses, own),
                float(np.sqrt((looks[own].mean(0) ** 2).mean())),
            )
        rows.append(_row(name, entry, seconds, len(owned.get(name, ())), distances))
    alike = [_redealt(owned, len(measured), generator(seed, "alike", str(turn))) for turn in range(REDEALS)]
    counts = np.sort([row.clips for row in rows])
    return ClientReport(
        clients=rows,
        clips=int(counts.sum()),
        gini=gini(counts),
        largest_to_median=float(counts.max() / max(float(np.median(counts)), 1.0)),
        cluster_tv=_mean(row.cluster_tv for row in rows),
        cluster_tv_if_alike=_mean(_variation(kinds, own) for deal in alike for own in deal),
        pose_tv=_mean(row.pose_tv for row in rows),
        pose_tv_if_alike=_mean(_pose_variation(poses, own) for deal in alike for own in deal),
        appearance_distance=_mean(row.appearance_distance for row in rows),
    )


def gini(counts: NDArray[np.int64]) -> float:
    """Inequality of sizes: 0 when all are equal, near 1 when one client holds everything."""
    ordered = np.sort(counts).astype(np.float64)
    ranks = np.arange(1, len(ordered) + 1)
    return float(((2 * ranks - len(ordered) - 1) * ordered).sum() / max(len(ordered) * ordered.sum(), 1e-9))


def save_client_report(report: ClientReport, path: Path) -> None:
    write_text(path, json.dumps(asdict(report), indent=1, ensure_ascii=False))


def load_client_report(path: Path) -> ClientReport:
    if not path.exists():
        raise PrivFedTalkError(f"there is no client report at {path}", remedy="run the client report first")
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return ClientReport(**{**stored, "clients": [ClientRow(**row) for row in stored["clients"]]})
    except (ValueError, TypeError, KeyError) as error:
        raise CorruptFileError(
            f"{path} is not a client report: {error}", remedy="delete it and report again"
        ) from error


def _row(
    name: str, entry: Client, seconds: dict[str, float], with_crops: int, distances: tuple[float, float, float] | None
) -> ClientRow:
    own = entry.clips()
    cluster_tv, pose_tv, appearance = distances or (None, None, None)
    return ClientRow(
        client=name,
        clips=len(own),
        train=len(entry.splits["train"]),
        validation=len(entry.splits["validation"]),
        test=len(entry.splits["test"]),
        seconds=round(sum(seconds.get(clip, 0.0) for clip in own), 3),
        people=len({entry.person_of(clip) for clip in own}),
        one_video=entry.one_video,
        with_crops=with_crops,
        cluster_tv=cluster_tv,
        pose_tv=pose_tv,
        appearance_distance=appearance,
    )


def _pose_histograms(poses: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Frames of each clip in bins of equal pooled mass: [clips, 2 axes, POSE_BINS]."""
    pooled = np.concatenate(poses)
    inner = [np.quantile(pooled[:, axis], np.linspace(0, 1, POSE_BINS + 1)[1:-1]) for axis in (0, 1)]
    binned = [[np.searchsorted(inner[axis], pose[:, axis]) for axis in (0, 1)] for pose in poses]
    return np.array([[np.bincount(axis, minlength=POSE_BINS) for axis in clip] for clip in binned], dtype=np.float64)


def _variation(histograms: NDArray[np.float64], own: NDArray[np.int64]) -> float:
    """Total variation between the summed histograms [clips, bins] of some clips and of all."""
    some, every = histograms[own].sum(0), histograms.sum(0)
    return float(np.abs(some / some.sum() - every / every.sum()).sum() / 2)


def _pose_variation(poses: NDArray[np.float64], own: NDArray[np.int64]) -> float:
    return (_variation(poses[:, 0], own) + _variation(poses[:, 1], own)) / 2


def _redealt(owned: dict[str, NDArray[np.int64]], count: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """All clips in random order, cut to the clients' sizes."""
    return np.split(rng.permutation(count), np.cumsum([len(own) for own in owned.values()])[:-1])


def _mean(values: Iterable[float | None]) -> float:
    return float(np.mean([value for value in values if value is not None]))
