"""The privacy page's part on gradient inversion, from the files that the attack wrote to the run."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from common.folders import INVERSION, INVERSION_FACES
from preparation.media.picture import open_picture
from preparation.media.previews import for_show, grey_cell
from preparation.shards.gate import Gate


@dataclass(frozen=True)
class FaceRow:
    """One row of faces as a picture; `gain` says how much an attack's row shows beyond the mean face."""

    title: str
    picture: str  # a data URL
    gain: str  # empty for rows that are not an attack's


@dataclass(frozen=True)
class InversionCard:
    """What the page shows of the attack: faces, figures, and the verdicts in words."""

    knowledge: str
    rows: list[FaceRow]
    networks: list[str]
    table: list[list[str]]
    sentences: list[str]


def inversion_card(folder: Path, gate: Gate | None = None) -> InversionCard | None:
    """The card of the attack whose files are in `folder`.

    None where no attack was run, where clients were not asked for it, or where `gate` says that one of the faces may no
    longer be shown.
    """
    path = folder / INVERSION
    if not path.exists():
        return None
    attack = json.loads(path.read_text(encoding="utf-8"))
    if "stalled" not in attack["baseline"]:
        return None  # written before stalled searches were counted: its verdicts do not hold
    if "asked" not in attack or (gate is not None and gate.refused(attack["clients"])):
        return None
    leaks = {leak["row"]: leak for leak in attack["leaks"]}
    networks = list(attack["baseline"]["identity"])
    strips = face_strips(folder / INVERSION_FACES, len(attack["rows"]))
    rows = [
        FaceRow(_title(name, leaks.get(name)), strip, _gain(leaks.get(name)))
        for name, strip in zip(attack["rows"], strips, strict=True)
    ]
    return InversionCard(
        knowledge=_knowledge(attack),
        rows=rows,
        networks=networks,
        table=[_line(leak, networks, len(attack["clients"])) for leak in (attack["baseline"], *attack["leaks"])],
        sentences=attack["sentences"],
    )


def _knowledge(attack: Mapping[str, Any]) -> str:
    return (
        f"Gradient inversion on {len(attack['clients'])} clients of a cohort of {attack['cohort']}, from the released "
        "adapter. Every attacker knows the backbone, the adapter, all settings and the public split. With draws known "
        "it also has each window's noise, timestep, speech, motion and feature boxes, everything but the pictures: the "
        "worst case. With draws guessed it uses public speakers' windows instead and searches for one face. An "
        "attacker who knows nothing can show only the public mean face, so only what goes beyond it has leaked. "
        "Brackets are 95 % intervals over clients; named counts the faces that the run's identity ruler finds most "
        "like their own client's, of those shown."
    )


def _title(name: str, leak: Mapping[str, Any] | None) -> str:
    return f"{leak['update']}, {leak['knows']}: {leak['sees']}" if leak else name


def _gain(leak: Mapping[str, Any] | None) -> str:
    if leak is None:
        return ""
    stalled = f"; {leak['stalled']} of {leak['searches']} searches stalled" if leak["stalled"] else ""
    return f"{interval(leak['gain'], '+.1f')} dB over the mean face{stalled}"


def _line(leak: Mapping[str, Any], networks: list[str], clients: int) -> list[str]:
    return [
        leak["update"],
        leak["knows"],
        leak["sees"],
        interval(leak["psnr"], ".1f"),
        interval(leak["gain"], "+.1f"),
        *(interval(leak["identity"][name], ".2f") for name in networks),
        f"{leak['recognised']} of {clients}",
    ]


def interval(value: Mapping[str, float], form: str) -> str:
    """A mean with its interval."""
    return f"{value['mean']:{form}} [{value['low']:{form}}, {value['high']:{form}}]"


def face_strips(path: Path, rows: int) -> list[str]:
    """The rows of faces as data URLs; grey where the picture cannot be read."""
    with for_show(path.name):
        faces = Image.fromarray(open_picture(path))
        height = faces.height // rows
        return [_strip(faces, number * height, height) for number in range(rows)]
    return [_strip(Image.fromarray(grey_cell(96, 384)), 0, 96)] * rows


def _strip(faces: Image.Image, top: int, height: int) -> str:
    buffer = io.BytesIO()
    faces.crop((0, top, faces.width, top + height)).convert("RGB").save(buffer, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
