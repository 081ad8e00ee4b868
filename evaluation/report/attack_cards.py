"""The privacy page's cards on attacks: their results, read from the files that the attacks wrote to the run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.folders import ADAPTER_WEIGHTS, AUDIT, MEMBERSHIP, RunFolder
from preparation.corpora.manifest import sha256_of
from training.privacy.digits import three_digits

LABELS = {
    "loss": "loss alone",
    "gain": "gain over the backbone",
    "ratio": "likelihood ratio",
    "other clips": "gain, on clips never trained on",
}

BOUNDS = {
    "final": "final model",
    "all_iterates": "all rounds",
    "recomputed": "all rounds, cohorts recomputed from what is published",
}
"""By the keys of an audit's lower bounds: what each was computed from."""


@dataclass(frozen=True)
class AttackCard:
    """One attack: a sentence and its figures. `bad`: the attack refutes a claim of the report."""

    title: str
    sentence: str
    rows: tuple[tuple[str, str], ...]
    bad: bool = False

    def markdown(self) -> str:
        lines = ["", f"## {self.title}", "", self.sentence, "", *(f"- {name}: {value}" for name, value in self.rows)]
        return "\n".join(lines) + "\n"


def attack_cards(run: RunFolder, method: str, report: Mapping[str, Any]) -> list[AttackCard]:
    """Cards of the attacks on the training that `report` is about; attacks on another training are left out."""
    cards = []
    audit = _read(run.attack("audit", method) / AUDIT)
    if audit and (audit["settings"], audit["rounds"]) == (report["settings"], report["rounds"]):
        cards.append(audit_card(audit))
    membership = _read(run.attack("membership", method) / MEMBERSHIP)
    if membership and membership["adapter_sha256"] == adapter_sha256(run, method):
        cards.append(membership_card(membership))
    return cards


def adapter_sha256(run: RunFolder, method: str) -> str | None:
    """SHA-256 of the method's released adapter, which says what an attack was made on; None where there is none."""
    weights = run.adapter(method) / ADAPTER_WEIGHTS
    return sha256_of(weights) if weights.exists() else None


def audit_card(audit: Mapping[str, Any]) -> AttackCard:
    claimed, shot = audit["claimed_epsilon"], audit["one_shot"]
    rows = [
        ("ε claimed", three_digits(claimed)),
        (
            "ε by one-shot estimate",
            "{} [{}, {}]".format(*(three_digits(shot[name]) for name in ("value", "low", "high"))),
        ),
        *(
            (
                f"ε at least, {name}",
                f"{audit[key]['value']:.3g} ({audit[key]['right']} of {audit[key]['guesses']} right)",
            )
            for key, name in BOUNDS.items()
            if key in audit
        ),
        ("δ of every ε", three_digits(audit["delta"])),
        ("confidence of the bounds together", f"{audit['confidence']:.0%}"),
        ("canaries", f"{audit['canaries']:,}, {audit['per_round']:,} a round, {audit['dimension']:,} parameters"),
    ]
    if audit["noise_factor"] != 1:
        rows.append(("planted fault", f"noise {audit['noise_factor']:.3g} times what is claimed"))
    return AttackCard("Canary audit", audit["verdict"], tuple(rows), audit["flagged"])


def membership_card(membership: Mapping[str, Any]) -> AttackCard:
    """The card of a membership attack: AUC of each score; 0.5 is guessing."""
    rows = [(f"AUC, {LABELS[name]}", _area(one)) for name, one in membership["areas"].items()]
    among = membership["among_shadows"]
    rows += [(f"AUC among shadow runs, {LABELS[name]}", _area(one)) for name, one in among.items()]
    rows.append(("clips of each person", f"{membership['clips']}"))
    if membership["shadows"]:
        rows.append(("shadow runs", f"{membership['shadows']}"))
    return AttackCard("Membership inference", membership["verdict"], tuple(rows))


def _area(one: Mapping[str, Any]) -> str:
    counts = f"{one['members']} in, {one['others']} out"
    return f"{one['value']:.3f} [{one['low']:.3f}, {one['high']:.3f}] ({counts})"


def _read(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
