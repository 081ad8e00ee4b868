"""Three methods under two seeds, four clients with two clips each: every figure is known."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
from safetensors.numpy import save_file

from evaluation.experiments.paper.folders import BACKBONE, PaperFolder, open_seed
from evaluation.measuring.protocol import COLUMNS
from preparation.clients.roles import Client, save_clients

SEEDS = (0, 1)
CLIENTS = tuple("abcdefgh")
METHODS = ("privfedtalk", "fedavg")
REFERENCES = ("backbone", "copy_reference", "vae_ceiling", "noise")
BETTER = {"privfedtalk": 0.05, "fedavg": 0.05, "backbone": 0.0}
"""Lip correlation over the backbone's; noise and the gates lie apart."""


def make(paper: PaperFolder) -> None:
    """All that tables read: people, evaluations, federations, a backbone of 50,000 parameters a seed."""
    table = {
        name: Client("client", name, {"train": [], "validation": [], "test": [f"{name}/0", f"{name}/1"]})
        for name in CLIENTS
    }
    paper.people.root.mkdir(parents=True)
    save_clients(table, paper.people.clients_table)
    for seed in SEEDS:
        run = open_seed(paper, seed, METHODS, (*METHODS, *REFERENCES))
        save_file({"w": np.zeros((50, 1000), np.float32)}, run.model(BACKBONE) / "model.safetensors")
        for name in (*METHODS, *REFERENCES):
            rows(name, seed).to_parquet(run.evaluation(name) / "metrics.parquet")
            losses = {} if name in REFERENCES[1:] else {client: loss_of(name, client, seed) for client in CLIENTS}
            (run.evaluation(name) / "validation_loss.json").write_text(json.dumps(losses))
            told = {"together": {}, "missing": [{"metrics": ["FVD"], "reason": "not asked for", "remedy": "ask"}]}
            (run.evaluation(name) / "instruments.json").write_text(json.dumps(told))
        for method in METHODS:
            lines = [
                {"round": n, "clients": ["a", "b"], "bytes_up": 100, "bytes_down": 60, "public_validation_loss": loss}
                for n, loss in enumerate((0.5, 0.4 + 0.1 * seed, 0.45))
            ]
            run.rounds(method).write_text("".join(json.dumps(line) + "\n" for line in lines))
            run.adapter(method).mkdir(parents=True, exist_ok=True)
            (run.adapter(method) / "privfedtalk.json").write_text(json.dumps({"parameters": 1000}))
            proof = method == "privfedtalk"
            report = {
                "noise_multiplier": 0.5,
                "clip_norm": 1.5,
                "epsilon_release": 12.5 if proof else None,
                "epsilon_server": 20.0 if proof else None,
                "delta": 0.01,
                "mark": "A guarantee holds" if proof else "NOT PRIVATE: no noise",
                "meaningful_population": {"clients": 5100} if proof else None,
            }
            (run.federation(method) / "privacy.json").write_text(json.dumps(report))


def loss_of(name: str, client: str, seed: int) -> float:
    """A tenth below the backbone's for every method; the backbone's differs by client and seed."""
    return (0.5 + 0.01 * CLIENTS.index(client) + 0.1 * seed) * (1.0 if name == "backbone" else 0.9)


def rows(name: str, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng([seed, 7])
    found = []
    for client in CLIENTS:
        for clip in range(2):
            base = 0.8 + 0.02 * rng.normal()
            values = {"lip_correlation": base + BETTER.get(name, -0.5), "psnr": 20 + base, "psnr_centre_frame": 20.5}
            place = (name, "client", client, f"{client}/{clip}")
            found += [(*place, metric, value) for metric, value in values.items()]
    found += [(name, "unseen", "z", "z/0", "lip_correlation", -9.0)]
    return pd.DataFrame(found, columns=COLUMNS)
