"""What leaves a run with an adapter: its weights tell of clients' clips what the budget allows, all else nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from common.folders import ADAPTER_WEIGHTS, RunFolder
from common.settings import Settings
from evaluation.results.card import card_figures
from preparation.clients.roles import Client, save_clients
from preparation.shards.store import write_shards
from tests.training.small_federation import CLIENTS, sample_for, save_public, whole_settings
from tests.training.small_models import small_backbone
from training.adapters.folders import export_adapter
from training.pipeline import federate
from training.settings import ExecutionSettings, TrainingSettings

PUBLIC = {"lip_correlation": 0.5}


def settings_of(**federation: object) -> TrainingSettings:
    whole = whole_settings(noise_multiplier=1.0)
    changed: Settings = whole.federation.model_copy(update={"rounds": 1, "local_steps": 1, **federation})
    return whole.model_copy(update={"federation": changed, "execution": ExecutionSettings(engine="here")})


def released(root: Path, method: str, clips: int, figure: float) -> dict[str, bytes]:
    """All that is exported, by name, of a world in which one client has so many clips to train on, and in which
    clients' held-out clips come out at this figure."""
    run = RunFolder(root / "run")
    table = save_public(run, small_backbone())
    for client in CLIENTS:
        splits = ["train"] * (clips if client == "c1" else 2) + ["validation", "test"]
        write_shards(run.client(client), [sample_for(client, number, split) for number, split in enumerate(splits)])
        table[client] = Client("client", client, {"train": [], "validation": [], "test": []})
    save_clients(table, run.clients_table)
    save_clients(table, run.people_table)
    federate(run, method, settings_of(), seed=0, resume=False)
    figures = {"methods": {method: {"psnr": figure, "validation_loss": figure}}, "methods_unseen": {method: PUBLIC}}
    run.results.write_text(json.dumps(figures | {"corpus": {"kind": "studio"}}))
    export_adapter(run, run.adapter(method), root / "out", card_figures)
    return {path.name: path.read_bytes() for path in (root / "out").iterdir()}


@pytest.mark.parametrize("method", ["privfedtalk", "fedavg", "centralized", "local"])
def test_two_worlds_that_differ_in_one_clients_clips_export_the_same_but_for_the_weights(
    tmp_path: Path, method: str
) -> None:
    few, many = (released(tmp_path / str(clips), method, clips, figure) for clips, figure in ((3, 20.0), (8, 30.0)))
    assert few.keys() == many.keys()
    assert (
        few.pop(ADAPTER_WEIGHTS) != many.pop(ADAPTER_WEIGHTS) or method == "local"
    )  # a method that sends nothing learnt nothing
    assert few == many
    assert few.keys() == {"adapter_config.json", "privfedtalk.json", "README.md", "privacy.json", "privacy.md"}
    record = json.loads(few["privfedtalk.json"])
    assert (record["clients"], record["rounds_planned"]) == ("3", "1")
    assert "| Lip correlation | 0.500 |" in few["README.md"].decode()
    for name, content in few.items():
        assert not re.search(rb"\b(%s)\b" % "|".join(CLIENTS).encode(), content), name
