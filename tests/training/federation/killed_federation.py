"""A federation in a process of its own, which may be killed at any moment.

    python killed_federation.py RUN METHOD SETTINGS.json [here]

All clients of the run take part, trained by two workers, or by this process itself (`here`, which starts sooner). It
says one line a round, those of earlier lives included, and saves the adapter at the end.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from common.folders import RunFolder
from training.execution import Job, LocalPool, Pool, PooledEngine, open_trainer
from training.execution.here import HerePool
from training.federation.algorithm import Start, run_federation
from training.federation.client.storage import ClientStorage
from training.federation.methods.base import Theta
from training.federation.server.checkpoint import RoundRecord
from training.settings import TrainingSettings


def main(run: RunFolder, method: str, settings: TrainingSettings, pool: Pool) -> None:
    clients = sorted(path.name for path in (run.root / "clients").iterdir())
    storage = ClientStorage(run, method)
    trainer = open_trainer(storage, settings, seed=5)
    start = Start(trainer.adapter.vector(), trainer.adapter.base_sha256, trainer.adapter.factors)

    def public_loss(theta: Theta) -> float:
        return float(np.abs(theta[::2]).sum())

    def say(record: RoundRecord) -> None:
        sys.stdout.write(f"{record.round}\n")
        sys.stdout.flush()

    engine = PooledEngine(pool, Job(storage, settings, 5))
    result = run_federation(engine, method, start, clients, public_loss, settings, run.federation(method), 5, say)
    trainer.adapter.save(run.adapter(method), result.theta, {"method": method})


if __name__ == "__main__":
    read = TrainingSettings.model_validate_json(Path(sys.argv[3]).read_text())
    with HerePool("cpu") if sys.argv[4:] == ["here"] else LocalPool(["cpu", "cpu"]) as opened:
        main(RunFolder(Path(sys.argv[1])), sys.argv[2], read, opened)
