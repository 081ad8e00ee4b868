"""What a run lacks, found before the first minute of training is spent: who can train, be validated and be tested, and
whether public speakers, networks, disk and memory are there."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import psutil
import torch

from common.errors import PrivFedTalkError
from common.folders import NETWORK_WEIGHTS, RunFolder
from common.weights import registry as weights
from preparation.clients.consent import objections
from preparation.clients.roles import load_clients, load_people, of_role
from preparation.shards.gate import Gate
from preparation.shards.store import Sample, load_index
from training.execution.pools import worker_devices
from training.federation import faults as simulation
from training.federation.methods import configure, named
from training.federation.server.cohorts import expected_cohort
from training.federation.server.opening import open_round
from training.federation.server.spending import next_round_fits, too_dear
from training.learning.eligible import (
    ALLOW,
    LONGER,
    MORE_CLIPS,
    longest_clip,
    may_be_unmeasured,
    some,
    too_short,
    windowed_splits,
)
from training.learning.lending import check_lender, misfits, taught_by
from training.learning.pretraining import measure_shape
from training.model.backbones.kinds import build_backbone
from training.model.backbones.sources import check_sources
from training.model.data import ClipTensors, longest
from training.model.device import choose_device, deterministic
from training.model.frozen import mobilefacenet
from training.model.frozen.lpips_network import BACKBONES, find_backbone
from training.settings import TrainingSettings

GB = 1e9
SPARE_DISK_BYTES = 100_000_000
"""Room for records, adapters and clients' states beside the backbone."""
COPIES_IN_PRETRAINING = 5
"""Weights, gradients, AdamW's two moments and the moving average: what pretraining holds at the least."""
NO_SHARDS = "no shards yet"


class NotReadyError(PrivFedTalkError):
    """Training cannot begin. The message lists everything that is missing, the remedy what to do about each."""


@dataclass(frozen=True)
class Lack:
    """Something that training needs and that is missing."""

    what: str
    remedy: str


@dataclass(frozen=True)
class Standing:
    """Why a client cannot train, be validated or be tested; None where it can.

    `refused` is the reason where it has not agreed to training, which stands for all three.
    """

    client: str
    train: Lack | None = None
    validation: Lack | None = None
    test: Lack | None = None
    refused: str | None = None


def standings(run: RunFolder, settings: TrainingSettings) -> list[Standing]:
    """What each client of a prepared run can do, by name. No clip of a client who has not agreed is read."""
    clients = of_role(load_clients(run.clients_table), "client")
    refused = objections(run, clients, "training", settings.consent.required)
    unseen = objections(run, clients, "generation", settings.consent.required)
    return [_standing(run, name, settings, refused.get(name), unseen.get(name)) for name in clients]


def _standing(
    run: RunFolder, client: str, settings: TrainingSettings, refused: str | None, unseen: str | None
) -> Standing:
    if refused is not None:
        lack = Lack(f"no consent to training ({refused})", "record what they agreed to: privfedtalk consent grant")
        return Standing(client, lack, lack, lack, refused)
    try:
        counts = load_index(run.client(client)).splits
    except PrivFedTalkError:
        lack = Lack(NO_SHARDS, "make them: privfedtalk prepare")
        return Standing(client, lack, lack, lack)
    allowed = may_be_unmeasured(settings.federation)
    lacks: dict[str, Lack | None] = {}
    for split, use in (("train", "train on"), ("validation", "validate with"), ("test", "test on")):
        lacks[split] = None if counts.get(split) else Lack(f"no usable clip to {use}", MORE_CLIPS)
    frames = settings.backbone.window
    for split in windowed_splits(settings.federation):
        # The client's consent has just been asked.
        if lacks[split] is None and longest_clip(run, client, split, frames, consent_required=False) < frames:
            lacks[split] = Lack(f"no clip for {split} as long as a window of {frames} frames", LONGER)
    train, validation = lacks["train"], lacks["validation"]
    if train is None and validation is not None and not allowed:
        train = Lack(validation.what, f"{validation.remedy}, or {ALLOW}")
    test = lacks["test"]
    if test is None and unseen is not None:
        test = Lack(f"no consent to generation ({unseen})", "record it: privfedtalk consent grant")
    return Standing(client, train, validation, test)


def summary(found: Sequence[Standing], unmeasured: bool = False) -> list[str]:
    """Lines for people: how many clients can train, be validated, be tested, and who cannot, with the remedy.

    Who has not agreed is counted and not named: `privfedtalk clients` and the consent lines say that.
    """
    if not found:
        return []
    counts = ", ".join(
        f"{sum(not lack for lack in lacks)} can {what}"
        for what, lacks in (
            ("train", [one.train for one in found]),
            ("be validated", [one.validation for one in found]),
            ("be tested", [one.test for one in found]),
        )
    )
    lines = [f"of {len(found)} clients {counts}"]
    for use, told in (("cannot train", "train"), ("cannot be validated", "validation"), ("cannot be tested", "test")):
        groups: dict[Lack, list[str]] = {}
        for one in found:
            lack: Lack | None = getattr(one, told)
            # Who cannot train is not measured either: that need not be said again.
            if lack is not None and one.refused is None and (told == "train" or one.train is None):
                groups.setdefault(lack, []).append(one.client)
        for lack, names in groups.items():
            use_here = "train without being measured" if told == "validation" and unmeasured else use
            lines.append(f"  {len(names)} {use_here} ({some(names)}): {lack.what}; {lack.remedy}")
    return lines


def document(found: Sequence[Standing]) -> dict[str, object]:
    """The same as plain values: counts, and each client who cannot do everything, with reasons and remedies."""
    uses = ("train", "validation", "test")
    return {
        **{use: sum(getattr(one, use) is None for one in found) for use in uses},
        "lacking": [
            {
                "client": one.client,
                **{
                    use: {"reason": lack.what, "remedy": lack.remedy}
                    for use in uses
                    if (lack := getattr(one, use)) is not None
                },
            }
            for one in found
            if one.train or one.validation or one.test
        ],
    }


def check_ready(run: RunFolder, settings: TrainingSettings, workers: int = 1) -> None:
    """Raise NotReadyError with everything that training on a prepared run lacks; name on standard error the clients who
    will not train or not be measured."""
    lacks, found = list(machine_lacks(settings, workers)), []
    if run.clients_table.exists() and (run.model("vae") / NETWORK_WEIGHTS).exists():
        found = standings(run, settings)
        lacks += _run_lacks(run, settings, found)
    else:
        lacks.append(Lack(f"{run.root} is not prepared", "prepare it first: privfedtalk prepare"))
    if lacks:
        raise not_ready(lacks)
    if any(one.train or one.validation or one.test for one in found):
        for line in summary(found, may_be_unmeasured(settings.federation)):
            sys.stderr.write(f"{line}\n")


def not_ready(lacks: Iterable[Lack]) -> NotReadyError:
    """The one error for everything that is missing."""
    every = list(dict.fromkeys(lacks))
    if len(every) == 1:
        return NotReadyError(f"training cannot begin: {every[0].what}", every[0].remedy)
    what = "".join(f"\n  {number}. {lack.what}" for number, lack in enumerate(every, 1))
    remedy = "".join(f"\n  {number}. {lack.remedy}" for number, lack in enumerate(every, 1))
    return NotReadyError(f"training cannot begin, {len(every)} things are missing:{what}", remedy)


def machine_lacks(settings: TrainingSettings, workers: int = 1, free_bytes: float | None = None) -> Iterator[Lack]:
    """What is missing on this machine, known before a corpus is prepared: networks, devices, packages, memory.

    `free_bytes` is the memory that is free, by default what the system says.
    """
    free = psutil.virtual_memory().available if free_bytes is None else free_bytes
    try:
        check_sources(settings.backbone)
    except PrivFedTalkError as error:
        yield Lack(error.reason, error.remedy)
    for term, network in _pretrained_terms(settings):
        try:
            if network in weights.REGISTRY:
                weights.find(network)
            else:
                find_backbone(network)
        except PrivFedTalkError as error:
            off = f"{error.remedy}; or switch the term off: training.objective.{term}.network=none"
            yield Lack(f"the {term} term of the local objective has no network: {error.reason}", off)
    try:
        worker_devices(settings.execution.devices, 1)
    except PrivFedTalkError as error:
        yield Lack(error.reason, error.remedy)
    if settings.execution.engine == "ray" and importlib.util.find_spec("ray") is None:
        yield Lack(
            "execution.engine is ray, and Ray is not installed",
            "install the extra: pip install 'privfedtalk[ray]', or set execution.engine=local",
        )
    budget = settings.federation.memory_budget_gb
    if budget is not None and choose_device().type == "cpu" and settings.execution.engine != "ray":
        needed = budget * GB * (workers if settings.execution.engine == "local" else 1)
        if needed > free:
            yield Lack(
                f"{workers} workers of federation.memory_budget_gb {budget:g} may use {needed / GB:.1f} GB, and "
                f"{free / GB:.1f} GB of memory are free",
                "lower the budget, or --set workers to fewer",
            )


def _pretrained_terms(settings: TrainingSettings) -> Iterator[tuple[str, str]]:
    """The terms of the local objective that need a network from outside the run, each with the network's name."""
    objective = settings.objective
    for term in objective.pixel_weights():
        network = str(getattr(objective, term).network)
        kind = network.removeprefix("lpips_")
        if network in (mobilefacenet.WEIGHT, "light_asd"):
            yield term, network
        elif kind in BACKBONES:
            yield term, kind


def _run_lacks(run: RunFolder, settings: TrainingSettings, found: Sequence[Standing]) -> Iterator[Lack]:
    """What is missing in a prepared run, whose clients are `found`."""
    yield from _public_lacks(run, settings) if settings.public_run is None else _lender_lacks(run, settings)
    able = [one.client for one in found if one.train is None]
    if not found:
        yield Lack(f"{run.root} has no client", "give clips of people who are clients (docs/corpora.md)")
    elif not able:
        reasons: dict[Lack, list[str]] = {}
        for one in found:
            assert one.train is not None, "a client who cannot train has a reason"
            reasons.setdefault(one.train, []).append(one.client)
        for lack, names in reasons.items():
            yield Lack(f"none of the {len(found)} clients can train: {some(names)}: {lack.what}", lack.remedy)
    else:
        yield from _federation_lacks(settings, able)
    yield from _size_lacks(run, settings)


def _public_lacks(run: RunFolder, settings: TrainingSettings) -> Iterator[Lack]:
    """Public speakers for the rulers and the backbone: two to tell apart, others to validate on, clips of a window."""
    frames, table = settings.backbone.window, load_people(run)
    refused = Gate(run, "training", required=False).refused(of_role(table, "public"))
    public = [name for name in of_role(table, "public") if name not in refused]
    counts = {name: _counts(run, name) for name in public}
    training = [name for name in public if counts[name].get("train")]
    if len(training) < 2:
        yield Lack(
            f"{len(training)} public speaker{'s' * (len(training) != 1)} with a usable clip to train on: the backbone "
            "needs one, the identity ruler two to tell apart",
            "raise preparation.clients.public_speaker_fraction, or give clips of more public people; prepare again",
        )
    held_out = [name for name in public if counts[name].get("validation")]
    if not held_out:
        yield Lack(
            "no public speaker is held out for validation",
            "give at least three public speakers, or raise preparation.clients.public_validation_fraction; then "
            "prepare again",
        )
    for split, names in (("train", training), ("validation", held_out)):
        most = longest((longest_clip(run, name, split, frames, consent_required=False) for name in names), frames)
        if names and most < frames:
            yield Lack(f"public speakers have {too_short(split, frames, most)}", f"{LONGER} of public speakers")


def _lender_lacks(run: RunFolder, settings: TrainingSettings) -> Iterator[Lack]:
    """Another run's public networks: whether they are there, and were made for samples like this run's."""
    try:
        check_lender(settings)
    except PrivFedTalkError as error:
        yield Lack(error.reason, error.remedy)
        return
    if shared := taught_by(run, settings):
        yield Lack(
            f"{len(shared)} clip{'s' * (len(shared) != 1)} of this run ({some(shared)}) taught the networks of "
            f"{settings.public_run}: they are recordings of its public people",
            "take them out of this corpus, or name another run",
        )
    sample = _some_sample(run, of_role(load_clients(run.clients_table), "client"))
    for misfit in misfits(settings, measure_shape(ClipTensors.from_sample(sample))) if sample else ():
        yield Lack(
            f"the networks of {settings.public_run} do not fit this run: {misfit}",
            "prepare the run with that run's settings: privfedtalk prepare --public RUN takes them over",
        )


def _federation_lacks(settings: TrainingSettings, clients: Sequence[str]) -> Iterator[Lack]:
    """What the methods object to: cohorts too small for masks and noise, settings that contradict each other."""
    for method in settings.methods:
        try:
            own = configure(method, settings)
            simulation.check_faults(own.federation.faults, clients)
            if named(method).federates:
                open_round(own, expected_cohort(len(clients), own.federation), len(clients), [], 0)
                if not next_round_fits(own, len(clients), [], 0, dimension=1):  # whatever the adapter's size, no less
                    raise too_dear(own)
        except PrivFedTalkError as error:
            yield Lack(f"{method}: {error.reason}", error.remedy)


def _size_lacks(
    run: RunFolder, settings: TrainingSettings, free_disk: float | None = None, free_memory: float | None = None
) -> Iterator[Lack]:
    """Whether the backbone fits into memory while it is pretrained, and onto the disk."""
    size = _backbone_bytes(run, settings)
    disk = shutil.disk_usage(run.root).free if free_disk is None else free_disk
    memory = psutil.virtual_memory().available if free_memory is None else free_memory
    if disk < 2 * size + SPARE_DISK_BYTES:
        yield Lack(
            f"training writes {(2 * size + SPARE_DISK_BYTES) / GB:.1f} GB into {run.root}, and {disk / GB:.1f} GB are "
            "free there",
            "free some space, or keep the run on another disk",
        )
    if choose_device().type == "cpu" and memory < COPIES_IN_PRETRAINING * size:
        yield Lack(
            f"pretraining the backbone holds {COPIES_IN_PRETRAINING * size / GB:.1f} GB at the least, and "
            f"{memory / GB:.1f} GB of memory are free",
            "end what else runs, or choose a smaller backbone",
        )


def _backbone_bytes(run: RunFolder, settings: TrainingSettings) -> int:
    """Bytes of the backbone's weights; 0 where they are not known before it is fetched."""
    if settings.backbone.kind == "sd15":
        folders = [Path(source) for source in (settings.backbone.sd15.source, settings.backbone.sd15.motion) if source]
        return sum(file.stat().st_size for folder in folders for file in folder.rglob("*.safetensors"))
    sample = _some_sample(run, of_role(load_people(run), "public"))
    if sample is None:
        return 0
    with torch.device("meta"), deterministic(0):  # counted, not made
        backbone = build_backbone(settings.backbone, measure_shape(ClipTensors.from_sample(sample)))
    return sum(parameter.numel() * parameter.element_size() for parameter in backbone.parameters())


def _some_sample(run: RunFolder, names: Iterable[str]) -> Sample | None:
    """The first sample of the first of these people who has one."""
    gate = Gate(run, "training", required=False)
    having = (name for name in names if _counts(run, name) and gate.objection(name) is None)
    return next((sample for name in having for sample in islice(gate.samples(name, verify=False), 1)), None)


def _counts(run: RunFolder, name: str) -> dict[str, int]:
    """Samples by split; none where there are no finished shards."""
    try:
        return load_index(run.client(name)).splits
    except PrivFedTalkError:
        return {}
