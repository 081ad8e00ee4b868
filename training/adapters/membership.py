"""Which models a client's clips went into. Revoking consent does not change these models; training anew does."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import PrivFedTalkError
from common.files import read_json_lines, write_text
from common.folders import ADAPTER_RECORD, RunFolder
from common.text.commands import command
from preparation.clients.consent import known_people, people_of, read_consent
from training.adapters.folders import inspect_adapter
from training.adapters.origin import check_origin, has_rounds, objection_to_origin

POOLED = "pooled"
"""Name of the single trainer that has all clients' clips, in methods that pool them."""


@dataclass(frozen=True)
class Contained:
    """An adapter that was (or may have been) trained on a client's clips.

    `own`: the adapter is fitted to this client alone. `rounds`: the number of sums the client was in; 0 for a shared
    adapter whose rounds are unknown, so that the client may be in it.
    """

    method: str
    path: str
    own: bool
    rounds: int = 0


def models_with(run: RunFolder, client: str) -> list[Contained]:
    """The adapters of a run that were trained on a client's clips.

    These are shared adapters whose sums the client was in, its own ones, and imported ones whose record names it;
    also the adapters of a simulated client, or of a host, that has the person's clips. The backbone, the autoencoder
    and the rulers are never among them: they are trained on public speakers only (`networks_with`). An imported shared
    adapter does not say which clients it was trained on, so it is not listed.
    """
    found = {model.path: model for holder in holders_of(run, client) for model in _models_with(run, holder)}
    return list(found.values())


def holders_of(run: RunFolder, name: str) -> list[str]:
    """The names of clients that train on a person's clips: the person, and each other client that has some of them."""
    table = known_people(run)
    others = [client for client, entry in table.items() if client != name and name in people_of(client, entry)]
    return [name, *sorted(others)]


def networks_with(run: RunFolder, name: str) -> list[str]:
    """The frozen networks trained on a public speaker's clips, by their paths in the run's folder."""
    entry = known_people(run).get(name)
    if entry is None or entry.role != "public":
        return []
    return [f"models/{path.name}" for path in sorted(run.model("").glob("*")) if path.is_dir()]


def pictures_of(run: RunFolder, name: str) -> list[str]:
    """Files outside a person's own folder that may show the face, by their paths in the run's folder: videos of the
    person's clips, and pages and picture sheets of several people including this one."""
    entry = known_people(run).get(name)
    clips = [clip.replace("/", "_") for clip in entry.clips()] if entry else []
    clips += [f"{name}_{path.stem}" for path in run.crops(name).glob("*.mp4")]
    videos = [path for folder in ("evaluation", "nightly", "report") for path in run.root.glob(f"{folder}/**/*.mp4")]
    found = [path for path in videos if any(path.stem == clip or path.stem.startswith(f"{clip}@") for clip in clips)]
    if found:  # the report page shows the evaluation's videos
        found += [page for page in (run.page,) if page.exists()]
    for report in run.root.glob("attacks/inversion/*/inversion.json"):
        if name in json.loads(report.read_text(encoding="utf-8"))["clients"]:
            found += sorted(report.parent.glob("*.png"))
            found += [page for page in (run.report / "privacy" / f"{report.parent.name}.html",) if page.exists()]
    if entry is not None and entry.role == "public":
        found += sorted((run.root / "pictures").glob("*.png"))
    return sorted({str(path.relative_to(run.root)) for path in found})


def learnt_from(run: RunFolder, names: Iterable[str]) -> list[str]:
    """Models trained on any of these people that stay when the people are removed, by path in the run's folder."""
    gone = list(names)
    found = {
        model.path
        for name in gone
        for model in models_with(run, name)
        if not any(Path(model.path).is_relative_to(f"clients/{one}") for one in gone)
        and not _fitted_to(run, model, gone)
    }
    return sorted(found | {path for name in gone for path in networks_with(run, name)})


def _fitted_to(run: RunFolder, model: Contained, names: Sequence[str]) -> bool:
    """Whether an imported adapter is fitted to one of these people, and is therefore removed with them."""
    return model.path.startswith("imported/") and inspect_adapter(run.root / model.path).client in names


def _models_with(run: RunFolder, client: str) -> list[Contained]:
    own = [(path.parent.name, path) for path in sorted(run.client(client).glob("methods/*/adapter"))]
    for record in sorted(run.root.glob(f"imported/*/{ADAPTER_RECORD}")):
        facts = inspect_adapter(record.parent, run)
        if facts.client == client:
            own.append((facts.method, record.parent))
    alone = [Contained(method, str(path.relative_to(run.root)), own=True) for method, path in own]
    return [*shared_with(run, client), *alone]


def shared_with(run: RunFolder, client: str) -> list[Contained]:
    """The shared adapters whose sums or pool contain a client, and those of which the clients are unknown."""
    found = []
    for log in sorted(run.root.glob("federation/*/rounds.jsonl")):
        method = log.parent.name
        members = participants(run, method)
        lines = read_json_lines(log)
        counted = [line for line in lines if line.get("outcome", "applied") == "applied"]
        rounds = sum(
            client in line["returned"] or (POOLED in line["returned"] and client in members) for line in counted
        )
        if rounds and run.adapter(method).exists():
            found.append(Contained(method, str(run.adapter(method).relative_to(run.root)), own=False, rounds=rounds))
    known = {model.method for model in found}
    return found + [model for model in _of_unknown_rounds(run, client) if model.method not in known]


def _of_unknown_rounds(run: RunFolder, client: str) -> list[Contained]:
    """The shared adapters without a valid record of their rounds; every client that trains may be in them."""
    entry = known_people(run).get(client)
    if entry.role != "client" if entry else not run.client(client).exists():
        return []
    adapters = [
        run.adapter(path.parents[1].name) for path in sorted(run.root.glob(f"federation/*/adapter/{ADAPTER_RECORD}"))
    ]
    return [
        Contained(adapter.parent.name, str(adapter.relative_to(run.root)), own=False)
        for adapter in adapters
        if not has_rounds(run, adapter.parent.name) or objection_to_origin(run, adapter)
    ]


def counted_in_release(run: RunFolder, method: str) -> set[str]:
    """The clients whose updates are in a method's released adapter: those in the sums up to the round that was kept.

    Clients that were never drawn, or only after that round, are not included. Raises PrivFedTalkError if the method
    has no record of its rounds.
    """
    log, facts = run.rounds(method), run.adapter(method) / ADAPTER_RECORD
    if not log.exists():
        raise PrivFedTalkError(
            f"{log} is missing: who took part in {method} is not known",
            f"train the method: {command('train', run=run.root, method=method)}",
        )
    check_origin(run, run.adapter(method))
    kept = json.loads(facts.read_text(encoding="utf-8")).get("round") if facts.exists() else None
    lines = read_json_lines(log)
    counted = [line for line in lines if line.get("outcome", "applied") == "applied"]
    if kept is not None:
        counted = [line for line in counted if line["round"] <= int(kept)]
    names = {name for line in counted for name in line["returned"]}
    return names - {POOLED} | (set(participants(run, method)) if POOLED in names else set())


def revoked_in(run: RunFolder, method: str) -> list[str]:
    """Clients whose clips are in a method's shared adapter and who have revoked their consent."""
    clients = sorted(path.parent.name for path in run.root.glob("clients/*/consent.json"))
    gone = [name for name in clients if (consent := read_consent(run, name)) and consent.revoked is not None]
    held = {name: [model for holder in holders_of(run, name) for model in shared_with(run, holder)] for name in gone}
    return [name for name, models in held.items() if any(model.method == method for model in models)]


def save_participants(
    run: RunFolder, method: str, members: list[str], left_out: dict[str, str], unmeasured: Sequence[str] = ()
) -> None:
    """Save the names of the clients who were to train, of those left out with the reasons, and of those members who
    trained without a score of their own, if any."""
    known = {"clients": members, "left_out": left_out} | ({"unmeasured": list(unmeasured)} if unmeasured else {})
    write_text(run.participants(method), json.dumps(known, indent=1) + "\n")


def participants(run: RunFolder, method: str) -> list[str]:
    """The clients who were to train; in runs older than `save_participants`, all clients with samples."""
    path = run.participants(method)
    if path.exists():
        return list(json.loads(path.read_text(encoding="utf-8"))["clients"])
    from training.learning.eligible import able_clients  # torch, for old runs only

    return able_clients(run)
