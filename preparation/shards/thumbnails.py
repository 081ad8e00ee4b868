"""A contact sheet of prepared faces: the quickest way to see whether preparation went well."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice

import cv2
import numpy as np

from common.folders import RunFolder
from preparation.clients.roles import load_people
from preparation.media.previews import for_show, grey_cell
from preparation.media.track.frames import Frame
from preparation.shards.gate import Gate


def thumbnail_sheet(
    run: RunFolder, rows: int = 8, columns: int = 8, size: int = 96, only: Collection[str] | None = None
) -> Frame:
    """A row of RGB frames for each person, spread over the clips: uint8 [rows * size, columns * size, 3].

    Guests' clips are in their host's row. People are spread evenly over the table, or over those that `only` names;
    people without crops, and those whose record forbids generation, get no row. A crop or a frame that cannot be read
    is a grey cell.
    """
    gate = Gate(run, "generation", required=False)  # the sheet is made before consent is recorded
    table = {name: entry for name, entry in load_people(run).items() if only is None or name in only}
    with_crops = {
        client: clips
        for client in gate.admit(sorted(table), "the sheet of faces")
        if (clips := [clip for clip in table[client].clips() if gate.has_crop(clip)])
    }
    clients = [list(with_crops)[i] for i in _spread(len(with_crops), min(rows, len(with_crops)))]
    sheet = [
        np.concatenate(
            [
                cell
                for share, clip in _shares(with_crops[client], columns)
                for cell in _cells(gate, client, clip, share, size)
            ],
            axis=1,
        )
        for client in clients
    ]
    return np.concatenate(sheet) if sheet else np.zeros((size, columns * size, 3), dtype=np.uint8)


def _shares(clips: list[str], columns: int) -> list[tuple[int, str]]:
    """How many cells each clip gets, so that they add up to `columns`."""
    taken = clips[:columns]
    edges = np.linspace(0, columns, len(taken) + 1).round().astype(int)
    return [(int(stop - start), clip) for start, stop, clip in zip(edges[:-1], edges[1:], taken, strict=True)]


def _cells(gate: Gate, client: str, clip: str, count: int, size: int) -> list[Frame]:
    wanted: list[int] = []
    held: dict[int, Frame] = {}
    with for_show(f"the crop of {clip}"):
        crop = gate.crop(client, clip)
        wanted = _spread(int(crop.metadata["frames"]), count)
        for i, frame in enumerate(islice(crop.frames(), wanted[-1] + 1)):
            if i in wanted:
                held[i] = cv2.resize(frame, (size, size), interpolation=cv2.INTER_AREA)
    missing = grey_cell(size, size)
    return [held.get(i, missing) for i in wanted] or [missing] * count


def _spread(length: int, count: int) -> list[int]:
    """`count` places spread evenly over `length`, repeated where there are fewer."""
    return [int(place) for place in np.linspace(0, length - 1, count)]
