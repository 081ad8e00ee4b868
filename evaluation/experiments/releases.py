"""Measures a released adapter from its run's files, as the main tables do: losses, generated clips, bytes, ε."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from common.files import write_text
from common.folders import RunFolder
from evaluation.catalogue import BACKBONE
from evaluation.experiments.points import CLIENT, FEDERATION, FINAL, Row
from evaluation.experiments.trained import Trained
from evaluation.measuring.models import client_losses, open_model
from evaluation.measuring.runs import measure
from evaluation.results.run_files import loss_file, read_losses, read_privacy, traffic
from evaluation.settings import EvaluationSettings
from preparation.clients.roles import load_clients, of_role
from training.settings import TrainingSettings

LOSS = "validation_loss"
BEFORE = "backbone"
"""The stage of rows that were measured with the frozen backbone, on the same clips."""


@dataclass(frozen=True)
class Released:
    """Measures the clients' held-out losses under the kept adapter and under the frozen backbone, the bytes sent and
    the privacy that may be claimed; with `evaluation` also the metrics of the clients' generated clips."""

    evaluation: EvaluationSettings | None = None

    def __call__(self, trained: Trained) -> Iterator[Row]:
        """Measure into the run's files, then return the rows that `rows_of` reads from them."""
        run, method, training = trained.run, trained.method, trained.training
        if self.evaluation is None:
            _measure_losses(run, method, training, trained.seed)
        else:
            measure(run, method, self.evaluation, training, trained.seed)
        _measure_losses(run, BACKBONE, training, trained.seed)
        return rows_of(run, method)


def rows_of(run: RunFolder, method: str) -> Iterator[Row]:
    """Rows from the files of a run in which a method was trained and measured: one for each client's mean of a metric,
    and one for each figure of the federation."""
    report, sent = read_privacy(run, method), traffic(run, method)
    clients = of_role(load_clients(run.clients_table), "client")
    facts = {"clients": len(clients), "bytes_up": sent["bytes_up"]}
    facts |= {name: report[name] for name in ("epsilon_release", "epsilon_server", "delta")}
    for name, value in facts.items():
        yield {"role": FEDERATION, "stage": FINAL, "person": "", "metric": name, "value": value}
    for stage, name in ((BEFORE, BACKBONE), (FINAL, method)):
        for client, loss in read_losses(run, name).items():
            yield {"role": CLIENT, "stage": stage, "person": client, "metric": LOSS, "value": loss}
    measured = run.metrics(method)
    if measured.exists():
        rows = pd.read_parquet(measured)
        means = rows[rows["role"] == "client"].groupby(["metric", "client"], sort=False)["value"].mean()
        for metric, client, value in means.reset_index().itertuples(index=False):
            yield {"role": CLIENT, "stage": FINAL, "person": client, "metric": metric, "value": value}


def _measure_losses(run: RunFolder, name: str, training: TrainingSettings, seed: int) -> None:
    denoiser = open_model(run, name, training, seed).denoiser
    assert denoiser is not None, "a method and the backbone have a denoiser"
    losses = client_losses(run, denoiser, training.objective, seed, required=training.consent.required)
    write_text(loss_file(run, name), json.dumps(losses))
