"""Metric rows and facts of a made-up run whose answers are known."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from evaluation.measuring.protocol import COLUMNS
from evaluation.results.document import RunFacts

CLIENTS = [f"c{index:04d}" for index in range(8)]
LEVELS = {  # mouth PSNR, lip correlation, opening error, validation loss
    "backbone": (24.0, 0.95, 0.08, 0.120),
    "privfedtalk": (24.6, 0.94, 0.06, 0.116),
    "fedavg": (24.7, 0.94, 0.06, 0.115),
    "copy_reference": (23.5, 0.0, 0.14, None),
    "vae_ceiling": (28.0, 0.99, 0.02, None),
    "noise": (8.0, 0.0, 0.30, None),
}


def make_table(clients: list[str] = CLIENTS, role: str = "client") -> pd.DataFrame:
    rows = []
    for method, (mouth, lips, error, _) in LEVELS.items():
        for index, client in enumerate(clients):
            for clip in range(2):
                place = (method, role, client, f"{client}/{clip:05d}")
                shift = 0.1 * index + 0.01 * clip
                values = {
                    "psnr": mouth + shift,
                    "ssim": mouth / 40,
                    "mouth_psnr": mouth + shift,
                    "lip_correlation": lips,
                    "opening_error": error,
                    "identity": 0.2 if method == "noise" else 0.94,
                    "mean_frame_delta": 0.01,
                    "mean_frame_delta_truth": 0.007,
                    "landmarker_rate": 1.0,
                }
                if method in ("backbone", "privfedtalk", "fedavg"):
                    values |= {"swapped_new": 0.9, "swapped_old": 0.05}
                if method == "copy_reference":
                    values["flicker_ratio"] = float("nan")
                rows += [(*place, metric, value) for metric, value in values.items()]
    return pd.DataFrame(rows, columns=COLUMNS)


def make_facts(losses: Mapping[str, Mapping[str, float]] | None = None) -> RunFacts:
    if losses is None:
        losses = {
            method: {client: level[3] + 0.01 * index for index, client in enumerate(CLIENTS)}
            for method, level in LEVELS.items()
            if level[3] is not None
        }
    return RunFacts(
        seconds={"corpus": 88.16, "total": 420.0},
        peak_memory_gb=3.4159,
        corpus={"speakers": 60, "clips": 220, "face_rate": 0.99},
        validation_losses=losses,
        privacy={"epsilon_release": 30.0, "epsilon_server": 31.0, "delta": 1e-3, "clients": 8},
        communication={"trainable_parameters": 100, "bytes_up": 400, "bytes_down": 400},
        report="report/index.html",
        versions={"torch": "2.13.0"},
        face_tracker="truth",
        seed=3,
    )
