"""Small tables, pictures and clips for the metadata of a materialisation."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np
import numpy.typing as npt

from common.errors import CorruptFileError
from common.text.foreign import markdown_cell, printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from preparation.settings import MediaSettings

LARGEST_TABLE = 200
"""In rows; more would swell the event log, which holds every materialisation ever made."""


def table(rows: Sequence[dict[str, Any]]) -> dg.TableMetadataValue:
    """Rows as a table; values that Dagster's tables cannot hold are written as text."""
    plain = [dg.TableRecord({key: _cell(value) for key, value in row.items()}) for row in rows[:LARGEST_TABLE]]
    columns = list(rows[0]) if rows else []
    return dg.MetadataValue.table(
        plain, schema=dg.TableSchema([dg.TableColumn(name, _column_type(rows, name)) for name in columns])
    )


def pictures(frames: Sequence[npt.NDArray[np.uint8]], height: int = 96) -> dg.MarkdownMetadataValue:
    """Frames uint8 [H, W, 3], side by side in one inline JPEG of a few kilobytes."""
    import cv2

    from preparation.media.previews import fitted

    if not frames:
        return dg.MetadataValue.md("no pictures")
    strip = cv2.cvtColor(np.hstack([fitted(frame, height) for frame in frames]), cv2.COLOR_RGB2BGR)
    encoded = cv2.imencode(".jpg", strip, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()
    return dg.MetadataValue.md(f"![frames](data:image/jpeg;base64,{base64.b64encode(encoded).decode()})")


def playing(
    path: Path, seconds: float = 2.0, height: int = 128, limits: MediaSettings | None = None
) -> dg.MarkdownMetadataValue:
    """The beginning of a clip as an inline WebP that plays by itself, 12.5 frames/s, over its sound's waveform.

    It is silent, because Dagster's pages drop <video> and <audio> from Markdown and keep pictures only. A mark runs
    along the waveform, so that the lips can be compared with the sound; callers show the path of the file with sound
    beside it. A file that cannot be read gives a grey picture.
    """
    from preparation.media.container import DEFAULT_LIMITS
    from preparation.media.previews import for_show, grey_cell

    with for_show(path.name):
        content = base64.b64encode(_animated(path, seconds, height, limits or DEFAULT_LIMITS)).decode()
        return dg.MetadataValue.md(f"![{markdown_cell(path.stem)}](data:image/webp;base64,{content})")
    return pictures([grey_cell(height, height)], height)


def _animated(path: Path, seconds: float, height: int, limits: MediaSettings) -> bytes:
    """The bytes of `playing`'s WebP. Only one full-size frame of the clip is in memory at a time."""
    import cv2
    from PIL import Image

    from preparation.media.previews import fitted, for_show
    from preparation.media.rates import FPS
    from preparation.media.sound import open_sound
    from preparation.media.video import open_video

    frames: list[npt.NDArray[np.uint8]] = []
    count = 0
    for count, whole in enumerate(islice(open_video(path, limits).pictures(), round(seconds * FPS)), start=1):
        if count % 2:
            frame = fitted(np.asarray(whole), height)
            # A clip may change its size; an animation may not.
            frames.append(cv2.resize(frame, frames[0].shape[1::-1]) if frames else frame)
    if not frames:
        raise CorruptFileError(f"{path.name} holds no picture", "play it to see whether it is whole")
    sound = np.zeros(0, np.int16)
    with for_show(f"the sound of {path.name}"):
        sound = open_sound(path, limits).span(0.0, count / FPS)
    shown = []
    for number, frame in enumerate(frames):
        wave = _waveform(sound, frame.shape[1], (2 * number + 0.5) / count)
        shown.append(Image.fromarray(np.vstack([frame, wave])))
    buffer = io.BytesIO()
    shown[0].save(buffer, "WEBP", save_all=True, append_images=shown[1:], duration=2000 // FPS, loop=0, quality=60)
    return buffer.getvalue()


def picture(path: Path) -> dg.MarkdownMetadataValue:
    """A small PNG file, inline; a sentence instead if it cannot be read."""
    from preparation.media.previews import for_show

    with for_show(path.name):
        content = base64.b64encode(path.read_bytes()).decode()
        return dg.MetadataValue.md(f"![{markdown_cell(path.stem)}](data:image/png;base64,{content})")
    return dg.MetadataValue.md(f"{markdown_cell(path.name)} cannot be read")


def drawing(figure: Figure) -> dg.MarkdownMetadataValue:
    """A chart as an inline PNG on white, readable on any page."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor="white", dpi=80)
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return dg.MetadataValue.md(f"![chart](data:image/png;base64,{encoded})")


def _waveform(sound: npt.NDArray[np.int16], width: int, mark: float) -> npt.NDArray[np.uint8]:
    """The sound's amplitude over time, uint8 [24, width, 3], with a line at the fraction `mark` of the width."""
    wave = np.full((24, width, 3), 24, np.uint8)
    for column, part in enumerate(np.array_split(np.abs(sound.astype(np.int32)), width)):
        reach = min(12, round(12 * (part.max() / 32768) ** 0.5)) if len(part) else 0
        wave[12 - reach : 12 + reach + 1, column] = (110, 180, 235)
    wave[:, min(width - 1, round(mark * width))] = 255
    return wave


def _cell(value: Any) -> str | int | float | bool | None:
    if isinstance(value, str):
        return printable(value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float | np.floating):
        return round(float(value), 4)
    return int(value) if isinstance(value, np.integer) else printable(str(value))


def _column_type(rows: Sequence[dict[str, Any]], name: str) -> str:
    kinds = {type(_cell(row.get(name))) for row in rows} - {type(None)}
    if kinds <= {int, bool}:
        return "int"
    return "float" if kinds <= {int, float} else "string"
