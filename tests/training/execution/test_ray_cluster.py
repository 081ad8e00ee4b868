"""Ray's actors: the local engine's results bit for bit, also when a node of the cluster is lost in a round."""

from __future__ import annotations

import builtins
import os
import signal
import threading
import time
from collections.abc import Sequence
from typing import Any

import psutil
import pytest
import torch

from common.errors import PrivFedTalkError
from tests.training.execution.test_execution import assert_same, job_of
from tests.training.small_federation import CLIENTS, TrainerFor, settings_with
from training.execution import LocalPool, Pool, PooledEngine, open_pool
from training.federation.client.training import Announcement
from training.settings import ExecutionSettings


def needs_ray() -> Any:
    return pytest.importorskip("ray", reason="the extra `ray` is not installed")


def on_two(local_steps: int) -> Any:
    settings = settings_with("privfedtalk")
    federation = settings.federation.model_copy(update={"local_steps": local_steps})
    return settings.model_copy(update={"federation": federation})


def trained(pool: Pool, trainer: Any, clients: Sequence[str] = CLIENTS) -> Any:
    return PooledEngine(pool, job_of(trainer)).train(clients, Announcement(1, trainer.adapter.vector()))


def test_without_ray_the_error_says_what_to_install(trainer_for: TrainerFor, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, imported = trainer_for(settings_with("fedavg"), "fedavg"), builtins.__import__

    def without_ray(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == "ray":
            raise ImportError(name)
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_ray)
    pool = open_pool(ExecutionSettings(engine="ray"), 2)
    with pool, pytest.raises(PrivFedTalkError, match="Ray is not installed") as caught:
        trained(pool, trainer)
    assert "privfedtalk[ray]" in caught.value.remedy


@pytest.mark.slow
def test_two_actors_give_the_local_engines_results(trainer_for: TrainerFor) -> None:
    ray = needs_ray()
    trainer, other = trainer_for(on_two(2), "privfedtalk"), trainer_for(settings_with("local"), "local")
    theta = trainer.adapter.vector()
    with LocalPool(["cpu"]) as pool:
        expected = trained(pool, trainer)
        alone = PooledEngine(pool, job_of(other)).train(CLIENTS, Announcement(1, theta))
    with open_pool(ExecutionSettings(engine="ray", ray_actors=2), 2) as pool:
        assert_same(trained(pool, trainer), expected, CLIENTS)

        # The same actors take another method, and an error comes home as what it is.
        engine = PooledEngine(pool, job_of(other))
        assert_same(engine.train(CLIENTS, Announcement(1, theta)), alone, CLIENTS)
        for path in other.storage.run.client_method("c1", "local").glob("state-*"):
            path.unlink()
        with pytest.raises(PrivFedTalkError, match="what client c1 kept after round 1"):
            engine.train(["c1"], Announcement(2, theta, counted={"c1": 1}))
        assert_same(trained(pool, trainer, CLIENTS[1:]), expected, CLIENTS[1:])
    assert not ray.is_initialized()


@pytest.mark.slow
def test_a_node_that_is_lost_in_a_round_costs_nothing(trainer_for: TrainerFor) -> None:
    needs_ray()
    from ray.cluster_utils import Cluster

    trainer = trainer_for(on_two(60), "privfedtalk")
    with LocalPool(["cpu"]) as pool:
        expected = trained(pool, trainer)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        second = cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        raylet = psutil.Process(second.all_processes["raylet"][0].process.pid)
        lost: list[int] = []

        def lose_the_node_when_it_works() -> None:
            # An actor at work has burnt processor time since it started; then its machine goes, all of it at once.
            while not lost:
                time.sleep(0.1)
                for process in raylet.children(recursive=True):
                    try:
                        works = "Worker.take" in " ".join(process.cmdline())
                    except psutil.Error:
                        continue
                    if works:
                        family = [*raylet.children(recursive=True), raylet]
                        lost.extend(member.pid for member in family)
                        for member in family:
                            try:
                                os.kill(member.pid, signal.SIGKILL)
                            except ProcessLookupError:
                                continue
                        return

        killer = threading.Thread(target=lose_the_node_when_it_works, daemon=True)
        settings = ExecutionSettings(engine="ray", ray_address=cluster.address, ray_actors=2)
        with open_pool(settings, 2) as actors:
            killer.start()
            updates = trained(actors, trainer)
        assert lost, "the second node never had a client"
        assert_same(updates, expected, CLIENTS)
    finally:
        cluster.shutdown()
    assert torch.get_num_threads() >= 1
