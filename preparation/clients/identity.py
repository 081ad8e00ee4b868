"""Check by faces what a corpus's folders claim: does a client's folder show one person, and are two clients the same?

Meant for people who gather a corpus, before its folders become clients that share nothing. Embeddings are in memory
only during the check; the report holds names and cosines, which say only who resembles whom.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.sparse.csgraph import connected_components

from common.errors import CorruptFileError, MissingWeightError
from common.files import write_text
from common.folders import RunFolder
from common.progress import track
from preparation.clients.roles import load_people
from preparation.crops.crop import Crop, has_crop, load_crop
from preparation.faces.embedder import WEIGHT, Embedding, FaceEmbedder, align_five_points, frontal_frames, unit
from preparation.settings.checks import IdentitySettings

BLOCK = 1024
"""How many clients are compared with all others at once: memory grows with the number of clients, not its square."""


@dataclass(frozen=True)
class Mismatch:
    """A clip whose face is not its client's. `cosine` is its largest with the client's own clips; `resembles` names
    the other client whose face it shows, if any."""

    client: str
    clip: str
    cosine: float
    resembles: str | None


@dataclass(frozen=True)
class SamePerson:
    """Two clients with one face. Where their roles differ, a client's face also trains the public backbone, or a
    person held out as unseen is also seen in training."""

    first: str
    second: str
    roles: tuple[str, str]
    cosine: float


@dataclass(frozen=True)
class IdentityReport:
    """The result of the check; `skipped` is the reason where nothing was checked.

    `nearest_others` is the largest cosine of two clients that are not reported: how close it came to the threshold.
    """

    embedder: str | None
    skipped: str | None
    clients: int
    clips: int
    mismatches: tuple[Mismatch, ...]
    same_person: tuple[SamePerson, ...]
    nearest_others: float | None
    settings: str = ""
    """Fingerprint of the settings of the check: other thresholds make another report."""

    def summary(self) -> str:
        """One line for people."""
        if self.skipped is not None:
            return f"identities were not checked: {self.skipped}"
        return (
            f"{self.clips} clips of {self.clients} clients: {len(self.mismatches)} show another face than their "
            f"client's, {len(self.same_person)} pairs of clients are one person"
        )


def check_identities(run: RunFolder, settings: IdentitySettings | None = None) -> IdentityReport:
    """Compare the faces of all prepared clips of a run and write `identities.json`.

    Without the embedder's file nothing is compared and the report says so; a damaged file is an error.
    """
    settings = settings or IdentitySettings()
    try:
        embedder = FaceEmbedder()
    except MissingWeightError as error:
        report = IdentityReport(None, f"{error.reason}; {error.remedy}", 0, 0, (), (), None)
        save_report(report, run.identities)
        return report
    table = load_people(run)
    embeddings: dict[str, dict[str, Embedding]] = {}
    for client in track(sorted(table), "identities", unit="clients"):
        folder = run.crops(client)
        names = sorted(clip_id.rpartition("/")[2] for clip_id in table[client].clips())
        crops = (load_crop(folder, name) for name in names if has_crop(folder, name))
        embedded = {crop.name: embed_crop(embedder, crop, settings.frames) for crop in crops}
        if embedded:
            embeddings[client] = embedded
    report = compare(embeddings, {client: table[client].role for client in embeddings}, settings)
    save_report(report, run.identities)
    return report


def compare(
    embeddings: dict[str, dict[str, Embedding]], roles: dict[str, str], settings: IdentitySettings
) -> IdentityReport:
    """The report from embeddings [128] by client and clip."""
    names = sorted(embeddings)
    own = {client: own_face(list(embeddings[client].values()), settings.same_clip) for client in names}
    faces = np.stack([own[client][0] for client in names]) if names else np.zeros((0, 128), dtype=np.float32)
    pairs, nearest = _same_people(names, faces, roles, settings.same_client)
    return IdentityReport(
        embedder=WEIGHT,
        skipped=None,
        clients=len(names),
        clips=sum(len(clips) for clips in embeddings.values()),
        mismatches=tuple(
            mismatch
            for place, client in enumerate(names)
            for mismatch in _mismatches(place, embeddings[client], own[client][1], names, faces, settings.same_client)
        ),
        same_person=tuple(pairs),
        nearest_others=nearest,
        settings=settings.fingerprint(),
    )


def own_face(clips: list[Embedding], same_clip: float) -> tuple[Embedding, list[int]]:
    """A client's face [128] and the clips that show it: the largest group linked by cosines of `same_clip` or more.

    Links, not distances to a mean, because half a folder of someone else would pull the mean between the two. Of
    equally large groups the first in the clips' order stands for the client.
    """
    stacked = np.stack(clips)
    _, group = connected_components(stacked @ stacked.T >= same_clip, directed=False)
    largest = int(np.argmax(np.bincount(group)))
    members = [int(clip) for clip in np.flatnonzero(group == largest)]
    return unit(stacked[members].mean(0)), members


def embed_crop(embedder: FaceEmbedder, crop: Crop, frames: int) -> Embedding:
    """One embedding [128] of a prepared clip, from its most frontal frames."""
    chosen = set(frontal_frames(crop.landmarks, frames))
    faces = [
        align_five_points(frame, crop.landmarks[index]) for index, frame in enumerate(crop.frames()) if index in chosen
    ]
    if len(faces) != len(chosen):
        raise CorruptFileError(
            f"{crop.video} has fewer frames than its {len(crop.landmarks)} landmarks",
            remedy="delete its .json and run the crops step again",
        )
    return embedder.embed_person(faces)


def save_report(report: IdentityReport, path: Path) -> None:
    write_text(path, json.dumps(asdict(report), indent=1, ensure_ascii=False))


def load_report(path: Path) -> IdentityReport:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        stored["mismatches"] = tuple(Mismatch(**entry) for entry in stored["mismatches"])
        pairs = [entry | {"roles": tuple(entry["roles"])} for entry in stored["same_person"]]
        stored["same_person"] = tuple(SamePerson(**entry) for entry in pairs)
        return IdentityReport(**stored)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CorruptFileError(f"{path} is not an identity report: {error}", remedy="delete it") from error


def _same_people(
    names: list[str], faces: Embedding, roles: dict[str, str], threshold: float
) -> tuple[list[SamePerson], float | None]:
    """Pairs of clients at or above the threshold, and the largest cosine below it."""
    pairs: list[SamePerson] = []
    nearest = -1.0
    for start in range(0, len(names), BLOCK):
        cosines = faces[start : start + BLOCK] @ faces.T
        # Each pair once: only the part right of the diagonal.
        cosines[np.arange(len(names)) <= np.arange(start, start + len(cosines))[:, None]] = -1.0
        for row, column in np.argwhere(cosines >= threshold):
            first, second = names[start + row], names[column]
            cosine = round(float(cosines[row, column]), 4)
            pairs.append(SamePerson(first, second, (roles[first], roles[second]), cosine))
        nearest = max(nearest, float(cosines[cosines < threshold].max(initial=-1.0)))
    return pairs, round(nearest, 4) if nearest > -1.0 else None


def _mismatches(
    place: int, clips: dict[str, Embedding], members: list[int], names: list[str], faces: Embedding, threshold: float
) -> list[Mismatch]:
    found: list[Mismatch] = []
    order = list(clips)
    shown = np.stack([clips[order[member]] for member in members])
    for index, clip in enumerate(order):
        if index in members:
            continue
        cosines = faces @ clips[clip]
        cosines[place] = -1.0
        best = int(np.argmax(cosines))
        resembles = names[best] if cosines[best] >= threshold else None
        found.append(Mismatch(names[place], clip, round(float((shown @ clips[clip]).max()), 4), resembles))
    return found
