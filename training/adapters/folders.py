"""Adapters as portable folders: inspecting one, exporting one from a run, importing one into a run."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import PrivFedTalkError
from common.files import partial_of, replacing_folder, sweep, write_text, writing
from common.folders import ADAPTER_CONFIG, ADAPTER_RECORD, ADAPTER_WEIGHTS, PRIVACY, PRIVACY_TEXT, RunFolder
from common.weights.registry import sha256_of
from training.adapters.cards import adapter_card
from training.adapters.checks import CheckedAdapter, check_fits, read_adapter
from training.adapters.origin import check_origin
from training.adapters.record import client_in, to_travel

if TYPE_CHECKING:
    from training.model.backbones.interface import Backbone

REPORTS = (PRIVACY, PRIVACY_TEXT)
"""Files of a method's privacy report, which are exported with the run's own shared adapter."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
UNRECORDED = "no guarantee is recorded: treat it as not private"


@dataclass(frozen=True)
class AdapterFacts:
    """The facts about an adapter's folder, as `inspect_adapter` returns them.

    `parameters` are counted in the weights; `base_sha256` names the backbone on which the adapter was trained. Show
    `privacy` unchanged: if the run did not train the adapter, it begins with "claimed by its maker".
    """

    rank: int
    alpha: float
    targets: list[str]
    tensors: int
    parameters: int
    bytes: int
    sha256: str
    base_sha256: str
    method: str
    client: str | None
    privacy: str
    recorded: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def inspect_adapter(folder: Path, run: RunFolder | None = None) -> AdapterFacts:
    """Read an adapter's folder without loading a model. Raises PrivFedTalkError as `read_adapter` does.

    With a `run`, the privacy statement of an adapter that the run trained is shown as a fact, and an adapter fitted to
    one of its clients is recognised. The privacy statement of any other adapter is shown as its maker's claim.
    """
    return _facts_of(folder, read_adapter(folder), run)


def _facts_of(folder: Path, adapter: CheckedAdapter, run: RunFolder | None) -> AdapterFacts:
    record, sha256 = adapter.record, sha256_of(folder / ADAPTER_WEIGHTS)
    return AdapterFacts(
        rank=adapter.shape.rank,
        alpha=adapter.shape.alpha,
        targets=list(adapter.shape.targets),
        tensors=len(adapter.tensors),
        parameters=sum(tensor.size for tensor in adapter.tensors.values()),
        bytes=(folder / ADAPTER_WEIGHTS).stat().st_size,
        sha256=sha256,
        base_sha256=record["base_sha256"],
        method=record.get("method", "unnamed"),
        client=client_in(run, record, sha256),
        privacy=_privacy(record, trained_by(run, folder)),
        recorded=record,
    )


def _privacy(record: dict[str, Any], ours: bool) -> str:
    if "privacy" not in record:
        return UNRECORDED
    return record["privacy"] if ours else f"claimed by its maker: {record['privacy']}"


def trained_by(run: RunFolder | None, folder: Path) -> bool:
    """Whether the folder lies where the run keeps adapters that it trained itself."""
    if run is None:
        return False
    own = (run.root / "federation", run.root / "clients")
    return any(folder.resolve().is_relative_to(place.resolve()) for place in own)


Measured = tuple[Mapping[str, str], str]
"""Figures for a card by label, and the data on which they were measured."""


def export_adapter(
    run: RunFolder, source: Path, out: Path, figures_of: Callable[[RunFolder, str], Measured]
) -> AdapterFacts:
    """Write the releasable parts of an adapter to `out`, a new or empty folder, as a whole or not at all.

    These are weights, configuration, record, card and, for the run's own shared adapter, the privacy report. Raises
    PrivFedTalkError if the adapter does not fit the run's backbone or was not made by the rounds beside it.
    `figures_of` returns a method's figures for the card (`evaluation.results.card`). No count or figure from clients'
    clips is exported, and no client's name. The card of an imported adapter has no figures, since the run's figures of
    that method belong to the run's own adapter.
    """
    adapter = read_adapter(source)
    check_origin(run, source)
    if source.resolve().is_relative_to(run.root.resolve()) and (run.model("backbone") / "config.json").exists():
        _check_base(run, adapter, source, "train it again, or take it from the run whose backbone it belongs to")
    facts = _facts_of(source, adapter, run)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise PrivFedTalkError(f"{out} is there and not an empty folder", "name another --out")
    ours = trained_by(run, source)
    shared = ours and facts.client is None and source.resolve() == run.adapter(facts.method).resolve()
    metrics, measured_on = figures_of(run, facts.method) if shared else ({}, "")
    record = to_travel(adapter.record, facts.sha256)
    with replacing_folder(out) as partial:
        shutil.copyfile(source / ADAPTER_WEIGHTS, partial / ADAPTER_WEIGHTS)
        _write(adapter, record, partial)
        if shared:
            for name in REPORTS:
                if (run.federation(facts.method) / name).exists():
                    shutil.copyfile(run.federation(facts.method) / name, partial / name)
        adapter_card(partial, record, metrics, measured_on, elsewhere=not ours).write(partial)
    return facts


def import_adapter(run: RunFolder, source: Path, name: str) -> Path:
    """Put an adapter into a run under `name`, by which `generate --adapter` finds it; return its folder.

    Its files are copied, and the copies are checked against the run's backbone; configuration and record are written
    anew from the checked values. Raises PrivFedTalkError if the adapter was trained on another backbone, if the folder
    holds anything but a plain LoRA adapter, or if the name is taken (case is ignored).
    """
    target = run.imported(name)
    _check_name(run, name)
    read_adapter(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    sweep(target.parent)
    copy = partial_of(target)
    try:
        with writing(target.parent):
            copy.mkdir()
            for file in (ADAPTER_WEIGHTS, ADAPTER_CONFIG, ADAPTER_RECORD):
                shutil.copyfile(source / file, copy / file, follow_symlinks=False)
        adapter, record = _checked_copy(run, copy, source)
        with writing(target.parent):
            _write(adapter, record, copy)
            adapter_card(copy, record, elsewhere=True).write(copy)
            copy.rename(target)
    finally:
        shutil.rmtree(copy, ignore_errors=True)
    return target


def _checked_copy(run: RunFolder, copy: Path, source: Path) -> tuple[CheckedAdapter, dict[str, Any]]:
    """The copied adapter and its record, with the client's name in the record if the run has that client.

    The copy is read again, since the source may have changed after the first check.
    """
    adapter = read_adapter(copy)
    _check_base(run, adapter, source, "import it into a run with the same backbone")
    client = client_in(run, adapter.record, sha256_of(copy / ADAPTER_WEIGHTS))
    known = client is not None and run.client(client).exists()
    return adapter, adapter.record | ({"client": client} if known else {})


def _check_base(run: RunFolder, adapter: CheckedAdapter, source: Path, remedy: str) -> None:
    """Raise PrivFedTalkError if an adapter was not trained on the run's backbone, or does not fit it."""
    from training.adapters.adapter import weights_sha256

    backbone = _backbone(run)
    base = weights_sha256(backbone)
    if adapter.record["base_sha256"] != base:
        raise PrivFedTalkError(
            f"the adapter in {source} was trained on backbone {adapter.record['base_sha256'][:12]}, and {run.root} has "
            f"{base[:12]}",
            remedy,
        )
    check_fits(adapter, backbone, source)


def _check_name(run: RunFolder, name: str) -> None:
    if not NAME.fullmatch(name):
        raise PrivFedTalkError(
            f"an adapter cannot be called {name!r}",
            "use up to 64 letters, digits, dots, dashes, underscores; the first a letter or a digit",
        )
    parents = (run.imported(name).parent, run.client(name).parent)
    taken = {"global", *(path.name.lower() for parent in parents if parent.exists() for path in parent.iterdir())}
    if name.lower() in taken:
        raise PrivFedTalkError(f"{name} is taken in {run.root}", "give another name with --as")


def _write(adapter: CheckedAdapter, record: dict[str, Any], folder: Path) -> None:
    write_text(folder / ADAPTER_CONFIG, json.dumps(adapter.shape.to_json(), indent=2) + "\n")
    write_text(folder / ADAPTER_RECORD, json.dumps(record, indent=2) + "\n")


def _backbone(run: RunFolder) -> Backbone:
    from training.model.backbones.kinds import load_backbone

    return load_backbone(run.model("backbone"))
