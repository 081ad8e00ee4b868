"""Writes a method's privacy report as Markdown, as JSON and as one small HTML page that loads nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from common.errors import PrivFedTalkError
from common.files import write_text
from common.folders import PRIVACY_TEXT, RunFolder
from common.text.commands import command
from evaluation.catalogue import name_of
from evaluation.figures.charts import curves, svg
from evaluation.report.attack_cards import AttackCard, attack_cards
from evaluation.report.inversion_card import InversionCard, inversion_card
from preparation.shards.gate import Gate
from training.privacy.digits import three_digits

SECTIONS = {
    "violations": "Why this run is not private",
    "server_saw": "What the server saw",
    "assumptions": "What the figures rest on",
    "not_protected": "What is not protected",
}

LIKELY = ", but with half of δ's probability"


def write_privacy_reports(run: RunFolder, methods: Sequence[str], out: Path) -> list[Path]:
    """Write `out/METHOD.md`, `.json` and `.html` for each of `methods`; returns the paths of the HTML pages."""
    pages = []
    for method in methods:
        report = read_privacy(run, method)
        cards = attack_cards(run, method, report)
        markdown = (run.federation(method) / PRIVACY_TEXT).read_text(encoding="utf-8")
        markdown += "".join(card.markdown() for card in cards)
        write_text(
            out / f"{method}.md", markdown.replace("# Privacy report", f"# Privacy report: {name_of(method)}", 1)
        )
        write_text(out / f"{method}.json", json.dumps(report, indent=1, allow_nan=False) + "\n")
        gate = Gate(run, "generation", required=False)  # clients were asked when the attack was made
        shown = page(method, report, cards, inversion_card(run.attack("inversion", method), gate))
        pages.append(write_text(out / f"{method}.html", shown))
    return pages


def read_privacy(run: RunFolder, method: str) -> dict[str, Any]:
    """The privacy report that training wrote; raises PrivFedTalkError, with the command that trains, where none is."""
    path = run.privacy(method)
    if not path.exists():
        raise PrivFedTalkError(
            f"no privacy report at {path}", f"train the method: {command('train', run=run.root, method=method)}"
        )
    return json.loads(path.read_text(encoding="utf-8"))


def page(
    method: str,
    report: Mapping[str, Any],
    attacks: Sequence[AttackCard] = (),
    inversion: InversionCard | None = None,
) -> str:
    """The page's HTML, all of it derived from `report`, the content of privacy.json, and from the attacks' cards."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    resources = files("evaluation.report")
    template = environment.from_string(resources.joinpath("privacy.html").read_text(encoding="utf-8"))
    path = list(report["clip_norms"])
    return template.render(
        name=name_of(method),
        style=Markup(resources.joinpath("style.css").read_text(encoding="utf-8")),
        report=report,
        figures=_figures(report),
        chart=Markup(svg(_clip_path(path))) if len(set(path)) > 1 else None,
        sections=[(title, report[key]) for key, title in SECTIONS.items() if report[key]],
        attacks=attacks,
        inversion=inversion,
        epsilons=[(label, three_digits(value)) for label, value in _epsilons(report)],
        delta=three_digits(report["delta"]),
    )


def _epsilons(report: Mapping[str, Any]) -> list[tuple[str, float | None]]:
    found = [
        ("ε of the released model", report["epsilon_release"]),
        ("ε towards the server", report["epsilon_server"]),
        ("ε towards another client", report["epsilon_client"]),
    ]
    if report["together"]["releases"] > 1:
        found.append((f"ε of all {report['together']['releases']} releases", report["together"]["epsilon"]))
    return found


def _figures(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    path = report["clip_norms"] or [report["clip_norm"]]
    rate = report["clients_per_round"] / report["clients"]
    return [
        ("δ", three_digits(report["delta"])),
        ("noise multiplier z", f"{report['noise_multiplier']:g}"),
        ("clipping norm C", f"{report['clip_norm']:g}" + (f", at last {path[-1]:.3g}" if len(set(path)) > 1 else "")),
        ("clients", f"{report['clients']:,}"),
        ("a round", f"{report['clients_per_round']:,}, {report['sampling']}, q = {rate:.3g}"),
        ("rounds", f"{report['rounds']:,}"),
        (
            "rounds of one client, at most",
            f"{report['participation']:,}" + ("" if report["sampling"] == "full" else LIKELY),
        ),
        ("cap", f"{report['max_participation'] or 'none'}"),
        ("mode", report["mode"]),
        ("secure aggregation", "on" if report["secure_aggregation"] else "off"),
        ("adjacency", report["adjacency"]),
        ("accountant, released model", report["accountant_release"]),
        ("accountant, server", report["accountant_server"]),
        ("accountant, another client", report["accountant_client"]),
        ("releases on the same clients", f"{report['together']['releases']}; {report['together']['accountant']}"),
        *((f"noise / sensitivity, {part}", f"{value:.3g}") for part, value in report["budget"].items()),
    ]


def _clip_path(path: Sequence[float]) -> Figure:
    return curves({"C": list(enumerate(path, start=1))}, "round", "clipping norm")
