"""Model cards: `README.md` beside every model and adapter, generated from its record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.files import write_text
from common.folders import ADAPTER_CONFIG, RunFolder
from common.text.foreign import code_span

INTENDED = (
    "Research on federated and private learning of talking heads, and talking heads of people who agreed to them. "
    "Not for showing anybody saying what they did not agree to say. What `privfedtalk generate` makes carries a signed "
    "manifest that says it is synthetic, which can be stripped, and a watermark, a hint that can be copied or removed; "
    "`privfedtalk verify` reads both."
)
LICENCE = (
    "The code is MIT. Weights inherit the terms of what they were trained on and started from (LRS3: research only; "
    "pretrained networks have licences of their own); the card's writer cannot know more."
)
ELSEWHERE = "Unknown: it was trained in another run, and figures do not travel with an adapter's weights."


@dataclass(frozen=True)
class Card:
    """The content of a card; `metrics` maps labels to printed figures, empty if nothing was evaluated."""

    title: str
    what: str
    facts: Mapping[str, str]
    privacy: str
    metrics: Mapping[str, str] = field(default_factory=dict)
    evaluated_on: str = ""
    unevaluated: str = (
        "Not evaluated when this card was written: run `privfedtalk evaluate`; `adapter export` adds the figures."
    )
    library: str = "safetensors"

    def to_markdown(self) -> str:
        """The card, headed by the fields that model hubs read."""
        rows = [f"| {name} | {value} |" for name, value in self.facts.items()]
        lines = [
            "---",
            f"library_name: {self.library}",
            "license: other",
            "tags: [talking-head, federated-learning]",
            "---",
        ]
        lines += ["", f"# {self.title}", "", self.what, "", "| | |", "|---|---|", *rows]
        lines += ["", "## Privacy", "", self.privacy, "", "## Metrics", "", *self._metrics()]
        return "\n".join([*lines, "", "## Intended use", "", INTENDED, "", "## Licence", "", LICENCE, ""])

    def _metrics(self) -> list[str]:
        if not self.metrics:
            return [self.unevaluated]
        rows = [f"| {label} | {figure} |" for label, figure in self.metrics.items()]
        return [f"{self.evaluated_on}:", "", "| | |", "|---|---|", *rows]

    def write(self, folder: Path) -> None:
        write_text(folder / "README.md", self.to_markdown())


def adapter_card(
    folder: Path,
    recorded: Mapping[str, Any],
    metrics: Mapping[str, str] | None = None,
    evaluated_on: str = "",
    elsewhere: bool = False,
) -> Card:
    """The card of the adapter in `folder`; `recorded` is the content of its `privfedtalk.json`.

    The card contains only public facts, nothing that was counted or measured on clients' clips. `elsewhere`: the
    adapter was trained in another run, so this run has no figures of it, and its statement on privacy is shown as its
    maker's claim.
    """
    config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    method = recorded.get("method", "unnamed method")
    if "client" in recorded or "client_digest" in recorded:
        learnt = f"fitted by {method} to one client's clips"
    elif recorded.get("federated") == "no":
        learnt = f"trained by {method} on all clients' clips together"
    else:
        learnt = f"learnt from many clients by {method}; nobody's clips left their owner"
    facts = {
        "method": method,
        "base model, SHA-256 of its weights": f"`{recorded['base_sha256']}`",
        **({"trained parameters": f"{recorded['parameters']:,}"} if "parameters" in recorded else {}),
        "LoRA rank, alpha": f"{config['r']}, {config['lora_alpha']:g}",
        "layers": ", ".join(sorted(config["target_modules"])),
        **{label: str(recorded[name]) for name, label in COUNTED.items() if name in recorded},
    }
    what = f"A LoRA adapter for PrivFedTalk's talking-head backbone, {learnt}."
    privacy = recorded.get("privacy")
    if privacy is None:
        privacy = "No guarantee is recorded: treat it as not private."
    elif elsewhere:
        privacy = f"Claimed by its maker, and not checked here: {code_span(privacy)}"
    unevaluated = ELSEWHERE if elsewhere else Card.unevaluated
    return Card(f"Adapter: {method}", what, facts, privacy, metrics or {}, evaluated_on, unevaluated, library="peft")


COUNTED = {
    "clients": "clients who trained",
    "rounds_planned": "rounds planned",
    "round": "round after which it is kept (`federation.keep`)",
}
"""Labels on the card for the counts in `privfedtalk.json`."""


def public_card(run: RunFolder, title: str, what: str, facts: Mapping[str, str]) -> Card:
    """The card of a model that was trained on public speakers only."""
    from preparation.clients.roles import load_people, of_role

    people = load_people(run)
    public = of_role(people, "public")
    clips = sum(len(people[name].splits["train"]) for name in public)
    counts = {"public speakers": str(len(public)), "clips of theirs it trained on": str(clips)}
    privacy = (
        "It saw public speakers alone, so it tells nothing of any client. Towards the public speakers there is no "
        "guarantee."
    )
    return Card(title, what, {**facts, **counts}, privacy)
