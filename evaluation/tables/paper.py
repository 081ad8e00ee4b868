"""The paper's tables from a run's files: main comparison, ablations, communication, clients, published numbers.

Every figure is read from results.json or from the files of the run's stages; nothing is typed here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from common.folders import NETWORK_WEIGHTS, RunFolder
from evaluation.catalogue import columns_for, has_shared_adapter, name_of
from evaluation.measuring.protocol import COLUMNS
from evaluation.results.run_files import (
    FLOAT,
    gains,
    parameter_count,
    plain_upload,
    read_losses,
    read_rounds,
    traffic_by_round,
)
from evaluation.tables.columns import MISSING, as_frame, measured, table_rows
from evaluation.tables.published import HEADINGS, PUBLISHED


def comparison(results: Mapping[str, Any], methods: Sequence[str]) -> pd.DataFrame:
    """Tables 1 and 2: methods first, gates last; columns without any value are left out."""
    rows = {name: results["methods"][name] for name in methods if name in results["methods"]}
    columns = measured(columns_for(rows, "headline", "further", "paper"), rows)
    frame = as_frame(table_rows(rows, results["comparisons"], columns), columns)
    return frame.assign(Method=frame["Method"].map(name_of))


def communication(run: RunFolder, results: Mapping[str, Any]) -> pd.DataFrame:
    """Bytes that one client sends in one round, plain and as sent, beside the whole backbone's size; and the bytes of
    all clients until the best round.

    Plain bytes are those of the method's vectors, as the rounds' log has them: an update, with SCAFFOLD a control
    variate too, nothing where clips are pooled or never leave the client. Bytes as sent are measured from the messages,
    with masks, shares and headers. The best round is that of the lowest public validation loss.
    """
    model = FLOAT * parameter_count(run.model("backbone") / NETWORK_WEIGHTS)
    rows = []
    for method, traffic in results["communication"].get("methods", {}).items():
        rounds = read_rounds(run, method)
        each = traffic_by_round(rounds, traffic["trainable_parameters"])
        parts = max(1, sum(one.clients for one in each))
        plain = plain_upload(rounds, traffic["trainable_parameters"])
        best = min(range(len(rounds)), key=lambda place: rounds[place]["public_validation_loss"]) if rounds else -1
        rows.append(
            {
                "Method": name_of(method),
                "Trainable parameters": traffic["trainable_parameters"],
                "Up, plain (bytes)": plain,
                "Up, as sent (bytes)": traffic["bytes_up_of_one_client_in_one_round"],
                "Down (bytes)": round(traffic["bytes_down"] / parts),
                "Whole backbone (bytes)": model,
                "Plain adapter / backbone": f"{plain / model:.4f}",
                "Best round": rounds[best]["round"] if has_shared_adapter(method) else MISSING,
                "Total to best (bytes)": sum(one.up + one.down for one in each[: best + 1])
                if has_shared_adapter(method)
                else MISSING,
            }
        )
    return pd.DataFrame(rows)


def per_client(run: RunFolder, methods: Sequence[str]) -> pd.DataFrame:
    """Each client's held-out loss and its fall against the frozen backbone's, percent: who gains and who loses."""
    rows = [
        {"Method": name_of(method), "Client": client, "Loss": f"{loss:.5f}", "Gain (%)": f"{gained[client]:.2f}"}
        for method in methods
        for gained in [gains(run, method)]
        for client, loss in sorted(read_losses(run, method).items())
        if client in gained
    ]
    return pd.DataFrame(rows, columns=["Method", "Client", "Loss", "Gain (%)"])


def beside_published(results: Mapping[str, Any]) -> pd.DataFrame:
    """The paper's rows and this run's under the paper's headings; this run's by the paper's protocol (centre frame)
    where the metric has one."""
    ours = {
        "psnr": "psnr_centre_frame", "ssim": "ssim_centre_frame", "lpips": "lpips_alex_centre_frame",
        "fid": "fid_centre_frame", "identity": _identity_of(results), "mean_frame_delta": "mean_frame_delta",
    }  # fmt: skip
    rows = [
        {"Method": row.method, "Source": row.source, "Data": row.data}
        | {heading: _text(row.figures.get(metric)) for metric, heading in HEADINGS.items()}
        for row in PUBLISHED
    ]
    corpus = results["corpus"].get("kind", "corpus")
    rows += [
        {"Method": name_of(name), "Source": "this run", "Data": f"{corpus}, centre frame; not comparable"}
        | {heading: _text(row.get(ours.get(metric, ""))) for metric, heading in HEADINGS.items()}
        for name, row in results["methods"].items()
    ]
    return pd.DataFrame(rows)


def _identity_of(results: Mapping[str, Any]) -> str:
    """The key of the identity metric: InsightFace's where it was measured, because most papers report that one."""
    measured = any(row.get("arcface_identity") is not None for row in results["methods"].values())
    return "arcface_identity" if measured else "face_identity"


def per_clip(run: RunFolder, names: Sequence[str]) -> pd.DataFrame:
    """All methods' rows: method, role, client, clip_id, metric, value."""
    frames = [pd.read_parquet(path) for name in names if (path := run.metrics(name)).exists()]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=COLUMNS)


def facts_of(results: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of every method, without intervals, which DVC shows and compares."""
    return {
        name: {metric: value for metric, value in row.items() if isinstance(value, int | float)}
        for name, row in results["methods"].items()
    }


def to_json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=1, allow_nan=False) + "\n"


def _text(value: float | None) -> str:
    return MISSING if value is None else f"{value:.6g}"
