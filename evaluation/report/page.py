"""Writes the report page: one HTML file that loads nothing else, readable on a phone, in light and dark mode."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image

from common.files import write_text
from common.folders import PAGE
from evaluation.catalogue import columns_for, description_of, name_of
from evaluation.figures.charts import colour_of, svg
from evaluation.metrics.arrays import Frames
from evaluation.report import words
from evaluation.report.counts import by_role, headcount, roles_of
from evaluation.results.gates import failures
from evaluation.tables.columns import measured, table_rows
from preparation.media.previews import for_show
from preparation.media.rates import FPS
from preparation.media.video import open_video

PAGE_BYTES = 8_000_000
POSTER_SECONDS = 0.6
"""Time in a clip, where people already speak, of the frame that a player shows before it plays."""


@dataclass(frozen=True)
class VideoCard:
    """A clip to play, best a `charts.labelled_grid` of truth and methods, with its sound."""

    title: str
    caption: str
    path: Path


@dataclass(frozen=True)
class Sheet:
    """A contact sheet, from `charts.contact_sheet`."""

    title: str
    caption: str
    picture: Frames  # [H, W, 3]


@dataclass(frozen=True)
class Chart:
    """A chart, from `charts.curves` or `charts.client_gains` among others."""

    title: str
    caption: str
    figure: Figure


@dataclass(frozen=True)
class ReportData:
    """All that the page shows; it does not read the run's folder itself."""

    results: Mapping[str, Any]  # results.json
    videos: Sequence[VideoCard] = ()
    sheets: Sequence[Sheet] = ()
    charts: Sequence[Chart] = ()
    clients: Sequence[Mapping[str, Any]] = ()  # role, train, validation, test, seconds; no names
    quarantine: Sequence[Mapping[str, Any]] = ()  # step, reason, remedy, files
    configuration: Mapping[str, Any] = field(default_factory=dict)
    title: str = "PrivFedTalk"
    seeded_noise: bool = False


def write_report(folder: Path, data: ReportData) -> Path:
    """Write `folder/index.html`, everything inlined, and return its path."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"size": words.size, "duration": words.duration, "name": name_of, "people": headcount}
    template = environment.from_string(_resource("template.html"))
    return write_text(folder / PAGE, template.render(_context(data)))


def _context(data: ReportData) -> dict[str, Any]:
    results = data.results
    sheets = [(sheet, _jpeg(sheet.picture)) for sheet in data.sheets]
    videos, left_out = _videos_that_fit(data.videos, PAGE_BYTES - 1_000_000 - sum(len(uri) for _, uri in sheets))
    criteria = results.get("bars", [])
    return {
        "title": data.title,
        "style": Markup(_resource("style.css")),
        "results": results,
        "columns": (headline := columns_for(results["methods"], "headline")),
        "rows": table_rows(results["methods"], results.get("comparisons", ()), headline),
        "further_columns": (further := measured(columns_for(results["methods"], "further"), results["methods"])),
        "further_rows": table_rows(results["methods"], results.get("comparisons", ()), further),
        "missing": results.get("missing", ()),
        "unseen_columns": (unseen := columns_for(results["methods_unseen"], "unseen")),
        "unseen_rows": table_rows(results.get("methods_unseen", {}), (), unseen),
        "findings": words.findings(results.get("comparisons", ())),
        "description_of": description_of,
        "colour_of": colour_of,
        "privacy_sentences": words.privacy_sentences(results["privacy"]),
        "seeded_noise": data.seeded_noise,
        "videos": videos,
        "videos_left_out": left_out,
        "sheets": sheets,
        "charts": [(chart, Markup(svg(chart.figure))) for chart in data.charts],
        "people": by_role(data.clients),
        "roles": roles_of(data.clients),
        "quarantine": data.quarantine,
        "configuration": yaml.safe_dump(dict(data.configuration), sort_keys=False, allow_unicode=True),
        "gates": results.get("gates", ()),
        "gates_lost": failures(results.get("gates", [])),
        "criteria": criteria,
        "criteria_met": sum(one["pass"] is True for one in criteria),
        "criteria_measured": sum(one["pass"] is not None for one in criteria),
        "seconds": {stage: value for stage, value in results["seconds"].items() if stage != "total"},
        "total_seconds": results["seconds"].get("total", sum(results["seconds"].values())),
    }


@dataclass(frozen=True)
class Player:
    """A video and its poster, the picture that is shown before it plays, as data URLs; both are `width` x `height`."""

    video: str
    poster: str
    width: int
    height: int


def _videos_that_fit(videos: Sequence[VideoCard], budget: int) -> tuple[list[tuple[VideoCard, Player]], int]:
    """Videos with their posters, in order, as many as fit into `budget` bytes; and how many do not fit.

    Videos that cannot be read are skipped and not counted.
    """
    kept: list[tuple[VideoCard, Player]] = []
    unreadable = 0
    for video in videos:
        player = None
        with for_show(video.path.name):
            player = _player(video.path)
        if player is None:
            unreadable += 1
            continue
        budget -= len(player.video) + len(player.poster)
        if budget < 0:
            break
        kept.append((video, player))
    return kept, len(videos) - len(kept) - unreadable


def _player(path: Path) -> Player:
    until = round(POSTER_SECONDS * FPS)
    *_, frame = islice(open_video(path).frames(), until + 1)  # the last one of a shorter clip
    height, width = frame.shape[:2]
    return Player(_data_uri(path.read_bytes(), "video/mp4"), _jpeg(frame), width, height)


def _jpeg(picture: Frames) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=86)
    return _data_uri(buffer.getvalue(), "image/jpeg")


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _resource(name: str) -> str:
    return files("evaluation.report").joinpath(name).read_text(encoding="utf-8")
