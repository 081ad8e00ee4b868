"""A forecast of a configuration's run without running it: what is missing, stages, clients, ε, bytes, hours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from common.errors import PrivFedTalkError
from common.folders import RunFolder
from common.text.commands import command
from common.weights import registry as weights
from pipelines.configuration.tree import PROJECT, Configuration, run_name
from preparation.clients.consent import COLUMNS, objections
from preparation.clients.roles import load_clients, of_role
from preparation.faces.trackers import tracker_weights
from preparation.settings import CorpusKind

LRS3_CLIENTS = 4004
"""Videos of LRS3's trainval subset as its authors count them (Afouras et al., 2018, table 1), a client each."""

SHOWN = 5
"""A message names at most so many clients."""


@dataclass(frozen=True)
class Lack:
    """Something that the run needs and that is missing; `fatal` if the run cannot do without it."""

    what: str
    remedy: str
    fatal: bool


@dataclass(frozen=True)
class Plan:
    """A forecast. `seconds_a_window`: a local step's seconds for one window on `device`, None if not timed. `hours`:
    those of a method's local steps alone on one worker; score, evaluation and pretraining come on top."""

    run: str
    corpus: str
    clients: int
    clients_from: str
    stages: list[tuple[str, str]]
    lacks: list[Lack]
    backbone_parameters: int | None
    adapter_parameters: int | None
    methods: list[dict[str, Any]]
    device: str
    seconds_a_window: float | None
    hours: dict[str, float]
    pretraining_hours: float | None

    @property
    def ready(self) -> bool:
        return not any(lack.fatal for lack in self.lacks)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"ready": self.ready}


def make_plan(configuration: Configuration, clients: int | None = None, timed: bool = True) -> Plan:
    """Check what can be checked and forecast the rest; figures that need a missing network are left out."""
    from training.forecast import build_networks, forecast, seconds_of_a_window
    from training.model.device import choose_device

    training, lacks = configuration.training, list(_lacks(configuration))
    number, source = _clients(configuration, clients)
    device = choose_device()
    parameters = dimension = seconds = None
    methods: list[dict[str, Any]] = []
    try:
        networks = build_networks(training, configuration.preparation)
        parameters, dimension = networks.backbone_parameters, len(networks.adapter)
        methods = [asdict(forecast(method, training, number, dimension)) for method in training.methods]
        seconds = seconds_of_a_window(networks, training, device) if timed else None
    except PrivFedTalkError as error:
        lacks.append(Lack(error.reason, error.remedy, fatal=True))
    batch = training.federation.batch_size
    steps = training.pretraining.steps * training.pretraining.batch_size
    return Plan(
        run=str(configuration.root),
        corpus=f"{configuration.corpus.kind.value} at {configuration.corpus.root or configuration.root / 'corpus'}",
        clients=number,
        clients_from=source,
        stages=stages_of(configuration),
        lacks=list(dict.fromkeys(lacks)),
        backbone_parameters=parameters,
        adapter_parameters=dimension,
        methods=methods,
        device=str(device),
        seconds_a_window=seconds,
        hours={one["method"]: one["steps"] * batch * seconds / 3600 for one in methods} if seconds else {},
        pretraining_hours=steps * seconds / 3600 if seconds else None,
    )


def stages_of(configuration: Configuration) -> list[tuple[str, str]]:
    """Every asset that the run makes, in the jobs' order, with the partitions that it will have."""
    from assets.stage.partitions import REFERENCES
    from pipelines.definitions import defs
    from pipelines.jobs import WHOLE_RUN
    from training.federation.methods import METHODS

    found = []
    methods = configuration.training.methods
    for name in WHOLE_RUN:
        layer = defs.resolve_job_def(name).asset_layer
        for key in layer.asset_graph.toposorted_asset_keys:
            if key not in layer.executable_asset_keys:
                continue
            partitions = layer.get(key).partitions_def
            keys = partitions.get_partition_keys() if partitions else []
            made = [one for one in keys if one in methods or one in REFERENCES or one not in METHODS]
            found.append((key.to_user_string(), f"{len(made)} partitions" if made else ""))
    return found


def _lacks(configuration: Configuration) -> Iterator[Lack]:
    from evaluation.measuring.instruments import openable
    from training.model.backbones.sources import check_sources

    corpus = configuration.corpus
    for root in [part.root for part in corpus.parts] or ([corpus.root] if corpus.root else []):
        if not (PROJECT / root).is_dir():
            yield Lack(f"the corpus {root} is not here", "--set corpus.root=<where it lies>", fatal=True)
    for name in dict.fromkeys(configuration.evaluation.instruments):
        weight = openable()[name].weight
        if weight is not None and weights.find_optional(weight) is None:
            yield Lack(f"{weights.REGISTRY[weight].file}, for {name}", f"privfedtalk weights fetch {weight}", False)
    yield from _tracker_lacks(configuration)
    try:
        check_sources(configuration.training.backbone)
    except PrivFedTalkError as error:
        yield Lack(error.reason, error.remedy, fatal=True)
    yield from consent_lacks(configuration)


def _tracker_lacks(configuration: Configuration) -> Iterator[Lack]:
    """The files that the face tracker needs. A corpus that the run renders itself brings its landmarks along."""
    faces = configuration.preparation.faces
    if faces.tracker == "auto" and configuration.corpus.kind is CorpusKind.STUDIO:
        return
    needed = ("face_landmarker",) if faces.tracker == "auto" else tracker_weights(faces)
    for name in needed:
        if weights.find_optional(name) is None:
            file = weights.REGISTRY[name].file
            yield Lack(f"{file}, which finds faces", f"privfedtalk weights fetch {name}", fatal=True)


def consent_lacks(configuration: Configuration) -> Iterator[Lack]:
    """The clients who will not train for lack of consent; before preparation, that records of consent are needed."""
    run, required = RunFolder(configuration.root), configuration.training.consent.required
    if configuration.corpus.kind is CorpusKind.STUDIO:
        return  # the faces are nobody's
    covered = "where a research licence covers the corpus: --set training.consent.required=false"
    if not run.clients_table.exists():
        if required:
            remedy = f"privfedtalk prepare --consent FILE …, a table of {','.join(COLUMNS)}; {covered}"
            yield Lack("consent records, without which no client trains", remedy, fatal=True)
        return
    clients = of_role(load_clients(run.clients_table), "client")
    refused = objections(run, clients, "training", required)
    if refused:
        shown = [f"{client}: {reason}" for client, reason in list(refused.items())[:SHOWN]]
        named = ", ".join(shown) + (f" and {len(refused) - SHOWN} others" if len(refused) > SHOWN else "")
        yield Lack(
            f"consent of {len(refused)} of {len(clients)} clients, who will sit out ({named})",
            command("consent grant", "CLIENT", run=run_name(run.root), who="NAME")
            + ", or prepare --consent FILE"
            + (f"; {covered}" if required else ""),
            fatal=len(refused) == len(clients),
        )


def _clients(configuration: Configuration, named: int | None) -> tuple[int, str]:
    """How many clients the run will have, and how that is known."""
    if named is not None:
        return named, "as named"
    preparation, corpus = configuration.preparation, configuration.corpus
    if preparation.partition.by.value == "dirichlet":
        return preparation.partition.clients, "dealt anew"
    if corpus.kind is CorpusKind.STUDIO and corpus.root is None:
        return configuration.studio.clients, "as rendered"
    if corpus.kind is CorpusKind.LRS3 and corpus.root is not None:
        trainval = PROJECT / corpus.root / "trainval"
        if trainval.is_dir():
            return max(1, sum(path.is_dir() for path in trainval.iterdir())), "folders of trainval"
        return LRS3_CLIENTS, "LRS3's trainval as published; the corpus is not here"
    raise PrivFedTalkError(
        f"how many clients a corpus of kind {corpus.kind.value} has is not known before it is prepared",
        "name them: privfedtalk plan --clients N",
    )
