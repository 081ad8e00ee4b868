"""Workers: the same bits wherever a client is trained, one pool for several methods, deaths that cost nothing."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence

import numpy as np
import psutil
import pytest
import torch

from common.errors import PrivFedTalkError
from tests.training.small_federation import CLIENTS, InProcess, TrainerFor, settings_with
from training.execution import Job, LocalPool, PooledEngine, open_pool, open_trainer
from training.execution.pools import worker_devices
from training.federation.client.training import Announcement, ClientTrainer, LocalUpdate
from training.settings import ExecutionSettings, TrainingSettings


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As in the workers: sums are formed in the same order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def job_of(trainer: ClientTrainer) -> Job:
    return Job(trainer.storage, trainer.settings, trainer.seed)


def assert_same(updates: dict[str, LocalUpdate], expected: dict[str, LocalUpdate], clients: Sequence[str]) -> None:
    assert list(updates) == list(clients)
    for client in clients:
        np.testing.assert_array_equal(updates[client].delta, expected[client].delta)
        assert updates[client].score == expected[client].score
        assert updates[client].losses == expected[client].losses
        assert updates[client].extra.keys() == expected[client].extra.keys()
        for name, value in expected[client].extra.items():
            np.testing.assert_array_equal(updates[client].extra[name], value)


def workers_of_this_process() -> list[psutil.Process]:
    """Grandchildren: a server that holds the libraries forks them."""
    return [worker for child in psutil.Process().children() for worker in child.children()]


def kill_soon(when: threading.Event) -> threading.Thread:
    """Kill a worker over and over, from the moment it exists."""

    def kill() -> None:
        while not when.is_set():
            for worker in workers_of_this_process():
                os.kill(worker.pid, signal.SIGKILL)
            time.sleep(0.05)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    return thread


@pytest.mark.slow(minutes=0.4)
def test_one_pool_serves_one_method_after_the_other_bit_for_bit(trainer_for: TrainerFor, one_thread: None) -> None:
    whole, scaffold = settings_with("privfedtalk"), settings_with("scaffold")
    first, second = trainer_for(whole, "privfedtalk"), trainer_for(scaffold, "scaffold")
    theta = first.adapter.vector()
    drift = {"c": np.full_like(theta, 1e-3)}
    expected = InProcess(first).train(CLIENTS, Announcement(1, theta))
    drifting = InProcess(second).train(CLIENTS, Announcement(2, theta, drift))
    with LocalPool(["cpu", "cpu"]) as pool:
        assert_same(PooledEngine(pool, job_of(first)).train(CLIENTS, Announcement(1, theta)), expected, CLIENTS)
        began = {worker.pid for worker in workers_of_this_process()}
        engine = PooledEngine(pool, job_of(second))
        assert_same(engine.train(CLIENTS, Announcement(2, theta, drift)), drifting, CLIENTS)

        # Workers go on with the first method as if there had been no other.
        some = CLIENTS[1:]
        assert_same(PooledEngine(pool, job_of(first)).train(some, Announcement(1, theta)), expected, some)
        assert len(began) == 2
        assert {worker.pid for worker in workers_of_this_process()} == began

        # One that was killed between two orders is replaced, and so is one with a client in its hands.
        first_dead, second_dead = sorted(began)
        os.kill(first_dead, signal.SIGKILL)
        killer = threading.Timer(0.3, os.kill, (second_dead, signal.SIGKILL))
        killer.start()
        longer = settings_with("privfedtalk")
        longer = longer.model_copy(update={"federation": longer.federation.model_copy(update={"local_steps": 40})})
        trainer = trainer_for(longer, "privfedtalk")
        updates = PooledEngine(pool, job_of(trainer)).train(CLIENTS, Announcement(1, theta))
        killer.join()
        assert_same(updates, InProcess(trainer).train(CLIENTS, Announcement(1, theta)), CLIENTS)
        left = workers_of_this_process()
        assert not began & {worker.pid for worker in left}
    assert not [worker for worker in left if worker.is_running()]


def test_a_client_that_ends_every_worker_is_named(trainer_for: TrainerFor) -> None:
    trainer = trainer_for(settings_with("fedavg"), "fedavg")
    stop = threading.Event()
    with LocalPool(["cpu"], restarts=1) as pool:
        killer = kill_soon(stop)
        try:
            with pytest.raises(
                PrivFedTalkError, match=r"round 3: client c1 has ended its worker 2 times \(exit code -9"
            ):
                PooledEngine(pool, job_of(trainer)).train(["c1"], Announcement(3, trainer.adapter.vector()))
        finally:
            stop.set()
            killer.join()


def test_an_error_in_a_worker_comes_home_with_its_remedy(trainer_for: TrainerFor) -> None:
    trainer = trainer_for(settings_with("local"), "local")
    engine_for = job_of(trainer)
    theta = trainer.adapter.vector()
    with LocalPool(["cpu"]) as pool:
        engine = PooledEngine(pool, engine_for)
        engine.train(["c0"], Announcement(1, theta))
        for path in trainer.storage.run.client_method("c0", "local").glob("state-*"):
            path.unlink()
        with pytest.raises(PrivFedTalkError, match="what client c0 kept after round 1") as caught:
            engine.train(["c0"], Announcement(2, theta, counted={"c0": 1}))
        assert "train the method anew" in caught.value.remedy
        assert "in a worker on cpu" in "".join(caught.value.__notes__)
        assert set(engine.train(["c1"], Announcement(1, theta))) == {"c1"}


def test_a_reused_adapter_gives_the_updates_of_a_new_one(trainer_for: TrainerFor) -> None:
    from training.execution.trainer import Bench

    first, second = trainer_for(settings_with("privfedtalk"), "privfedtalk"), settings_with("fedavg")
    bench, theta = Bench(torch.device("cpu")), first.adapter.vector()
    bench.trainer(job_of(first)).train("c2", Announcement(1, theta))
    reused = bench.trainer(Job(first.storage, second, 5)).train("c2", Announcement(1, theta))
    fresh = open_trainer(first.storage, second, 5).train("c2", Announcement(1, theta))
    np.testing.assert_array_equal(reused.delta, fresh.delta)


def test_devices_are_those_named_or_those_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert worker_devices(["cpu", "cpu"], 7) == ["cpu", "cpu"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert worker_devices([], 3) == ["cpu"] * 3
    with pytest.raises(PrivFedTalkError, match="names cuda:0; this machine has no GPU"):
        worker_devices(["cuda:0"], 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert worker_devices([], 3) == ["cuda:0", "cuda:1"]
    with pytest.raises(PrivFedTalkError, match="names cuda:2; this machine has cuda:0, cuda:1"):
        worker_devices(["cuda:1", "cuda:2"], 1)


def test_where_clients_train_makes_no_method_due_again() -> None:
    from training.federation.methods import configure

    elsewhere = TrainingSettings(execution=ExecutionSettings(engine="ray", devices=("cuda:1",)))
    assert configure("fedavg", elsewhere) == configure("fedavg", TrainingSettings())


def test_here_is_what_workers_give_and_threads_are_put_back(trainer_for: TrainerFor) -> None:
    """Several threads before: the pool computes on one, as workers do, and gives the rest back."""
    trainer = trainer_for(settings_with("scaffold"), "scaffold")
    theta = trainer.adapter.vector()
    announced = Announcement(1, theta, shared={"c": np.full_like(theta, 1e-3)})
    torch.set_num_threads(2)
    try:
        with open_pool(ExecutionSettings(engine="here"), 2) as pool:
            engine = PooledEngine(pool, job_of(trainer))
            here = engine.train(CLIENTS, announced)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    with LocalPool(["cpu"]) as workers:
        assert_same(here, PooledEngine(workers, job_of(trainer)).train(CLIENTS, announced), CLIENTS)
