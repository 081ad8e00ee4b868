"""Flower's simulation engine on the client function of this project; `benchmarks/federation.py` runs it, in an
environment that has `flwr[simulation]` beside what this project needs:

    FLOWER_RUN=data/demo FLOWER_WORKERS=2 FLOWER_ROUNDS=5 FLOWER_STEPS=10 python -m benchmarks.federation_flower

Prints JSON: wall seconds of each round after the first (in which actors load the models), from one aggregated theta
to the next. The client function is `ClientTrainer.train` on models that an actor builds once.
"""

from __future__ import annotations

import json
import os
import sys
import time
from functools import cache
from itertools import pairwise
from pathlib import Path

# A file beside this one has the name of a package of the project, and must not hide it, in actors either.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import flwr
import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

RUN = Path(os.environ["FLOWER_RUN"])
WORKERS, ROUNDS, STEPS = (int(os.environ[f"FLOWER_{name}"]) for name in ("WORKERS", "ROUNDS", "STEPS"))
client_app, server_app = ClientApp(), ServerApp()
CLIENTS = sorted(folder.parent.name for folder in RUN.glob("clients/*/shards"))
ends: list[float] = []


@cache
def trainer():  # type: ignore[no-untyped-def]
    import torch

    from common.folders import RunFolder
    from training.execution import open_trainer
    from training.federation.client.storage import ClientStorage
    from training.federation.methods import configure
    from training.settings import TrainingSettings

    torch.set_num_threads(1)
    settings = configure("fedavg", TrainingSettings())
    federation = settings.federation.model_copy(update={"local_steps": STEPS})
    settings = settings.model_copy(update={"federation": federation})
    return open_trainer(ClientStorage(RunFolder(RUN), "fedavg"), settings, 0)


def record(theta: np.ndarray) -> ArrayRecord:
    return ArrayRecord({"theta": Array(theta)})


@client_app.train()
def train(message: Message, context: Context) -> Message:
    from training.federation.client.training import Announcement

    theta = message.content["arrays"]["theta"].numpy()
    client = CLIENTS[int(context.node_config["partition-id"])]
    update = trainer().train(client, Announcement(int(message.content["config"]["server-round"]), theta.copy()))
    metrics = MetricRecord({"num-examples": update.clips, "score": update.score})
    return Message(RecordDict({"arrays": record(theta + update.delta), "metrics": metrics}), reply_to=message)


@server_app.main()
def main(grid: Grid, context: Context) -> None:
    strategy = FedAvg(fraction_train=1.0, fraction_evaluate=0.0, min_available_nodes=len(CLIENTS))

    def note_the_time(number: int, arrays: ArrayRecord) -> MetricRecord:
        ends.append(time.perf_counter())
        return MetricRecord({})

    strategy.start(
        grid=grid, initial_arrays=record(trainer().adapter.vector()), num_rounds=ROUNDS + 1, evaluate_fn=note_the_time
    )


def measure() -> None:
    config = {"init_args": {"num_cpus": WORKERS}, "client_resources": {"num_cpus": 1, "num_gpus": 0.0}}
    run_simulation(server_app, client_app, num_supernodes=len(CLIENTS), backend_config=config)
    rounds = [end - begin for begin, end in pairwise(ends[1:])]
    sys.stdout.write("\n" + json.dumps({"version": flwr.__version__, "seconds": rounds}) + "\n")


if __name__ == "__main__":
    # By its own name, so that actors import this module and keep the models that they have built.
    import federation_flower  # type: ignore[import-not-found]

    federation_flower.measure()
