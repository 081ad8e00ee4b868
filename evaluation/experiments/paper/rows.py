"""The metric rows of all seeds, and the methods' means, intervals and tests over them. The unit is the client.

Every client is measured under every seed, on the same clips. A client's value is the mean over its clips and over the
seeds. A test flips the sign of a whole client's difference, so more seeds add precision but no clients. Intervals
resample clients, seeds (the same ones for all clients, who share a seed's backbone and federation) and clips. A test
therefore generalises to people like these, not to other seeds; the number of seeds in which a difference has the
mean's sign is given beside it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from common.errors import PrivFedTalkError
from common.folders import INSTRUMENTS, METRICS, VALIDATION_LOSS
from evaluation.catalogue import BACKBONE, compared, of_clips, of_sets
from evaluation.experiments.paper.folders import PaperFolder
from evaluation.measuring.protocol import COLUMNS
from evaluation.measuring.significance import client_means, compare, standard_error

Values = npt.NDArray[np.float64]
RESAMPLES = 2000


def read_rows(paper: PaperFolder, names: Iterable[str], seeds: Sequence[int], role: str = "client") -> pd.DataFrame:
    """Metric rows (`protocol.COLUMNS` and `seed`) with the clients' losses; raises PrivFedTalkError where a name was
    not measured under some seed."""
    frames = []
    for name in names:
        for seed in seeds:
            folder = paper.evaluation(name, seed)
            if not (folder / METRICS).exists():
                raise PrivFedTalkError(
                    f"{folder} holds no metrics of {name} under seed {seed}", "run `dvc repro`, which evaluates it"
                )
            found = pd.read_parquet(folder / METRICS)
            losses = json.loads((folder / VALIDATION_LOSS).read_text(encoding="utf-8"))
            lines = [(name, "client", client, "", "validation_loss", loss) for client, loss in losses.items()]
            both = pd.concat([found, pd.DataFrame(lines, columns=COLUMNS)], ignore_index=True)
            frames.append(both[both["role"] == role].assign(seed=seed))
    return pd.concat(frames, ignore_index=True)


def over_seeds(rows: pd.DataFrame, pairs: Sequence[tuple[str, str]], seed: int = 0) -> dict[str, Any]:
    """`methods` and `comparisons` in the format of results.json, over all seeds of `rows`."""
    methods = {str(method): _method(found, seed) for method, found in rows.groupby("method", sort=False)}
    return {"methods": methods, "comparisons": compare_over_seeds(rows, pairs, seed)}


def compare_over_seeds(rows: pd.DataFrame, pairs: Sequence[tuple[str, str]], seed: int = 0) -> list[dict[str, Any]]:
    """`significance.compare` client by client over seeds and clips; `seeds_agreeing` of `seeds` seeds have a mean
    difference of the same sign."""
    named = rows.assign(clip_id=rows["seed"].astype(str) + ":" + rows["clip_id"])
    by_seed = {number: compare(part, pairs, compared(), seed) for number, part in named.groupby("seed")}
    signs: dict[tuple[str, str, str], list[float]] = {}
    for found in by_seed.values():
        for one in found:
            signs.setdefault((one.metric, one.method, one.baseline), []).append(np.sign(one.difference))
    over_all = []
    for one in compare(named, pairs, compared(), seed):
        of_seeds = signs[one.metric, one.method, one.baseline]
        agreeing = sum(sign == np.sign(one.difference) for sign in of_seeds)
        values = {name: _number(value) for name, value in vars(one).items()}
        over_all.append(values | {"seeds": len(of_seeds), "seeds_agreeing": int(agreeing)})
    return over_all


def interval(values: pd.Series, clients: pd.Series, seeds: pd.Series, seed: int, level: float = 0.95) -> list[float]:
    """Percentile interval of the mean over clients, from resampling clients, seeds and each client's clips."""
    table = pd.DataFrame({"value": values, "client": clients, "seed": seeds}).dropna()
    numbers, names = sorted(table["seed"].unique()), sorted(table["client"].unique())
    groups = {key: part.to_numpy(np.float64) for key, part in table.groupby(["client", "seed"])["value"]}
    rng = np.random.default_rng(seed)
    # [client, seed, draw]: the mean of a resample of that client's clips under that seed.
    inner = np.full((len(names), len(numbers), RESAMPLES), np.nan)
    for i, client in enumerate(names):
        for j, number in enumerate(numbers):
            held = groups.get((client, number))
            if held is not None:
                inner[i, j] = rng.choice(held, (RESAMPLES, len(held))).mean(axis=1)
    draw = np.arange(RESAMPLES)[:, None, None]
    people = rng.integers(0, len(names), (RESAMPLES, len(names), 1))
    trainings = rng.integers(0, len(numbers), (RESAMPLES, 1, len(numbers)))
    drawn = inner[people, trainings, draw]
    known = (~np.isnan(drawn)).sum(axis=(1, 2))
    # A draw in which nobody was measured under any of its seeds is dropped.
    means = np.nansum(drawn, axis=(1, 2))[known > 0] / known[known > 0]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return [float(low), float(high)]


def read_together(paper: PaperFolder, names: Iterable[str], seeds: Sequence[int]) -> dict[str, dict[str, float]]:
    """name -> figures of all clients' clips together (KID, FID, FVD), means over seeds; without those that some seed
    did not measure."""
    found: dict[str, dict[str, float]] = {}
    for name in names:
        of_seeds = [
            json.loads((paper.evaluation(name, seed) / INSTRUMENTS).read_text(encoding="utf-8")) for seed in seeds
        ]
        figures = [one["together"].get("client", {}) for one in of_seeds]
        found[name] = {
            metric: float(np.mean([one[metric] for one in figures]))
            for metric in of_sets()
            if figures and all(one.get(metric) is not None for one in figures)
        }
    return found


def read_missing(paper: PaperFolder, name: str, seed: int) -> list[Mapping[str, Any]]:
    """The metrics that the evaluation could not measure, the reasons, and the remedies."""
    missing = json.loads((paper.evaluation(name, seed) / INSTRUMENTS).read_text(encoding="utf-8"))["missing"]
    return [dict(one) for one in missing]


def pairs_of(methods: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs to compare: every method with the frozen backbone, and the first method with every other."""
    first, *others = methods
    return [(method, BACKBONE) for method in methods] + [(first, other) for other in others]


def _method(found: pd.DataFrame, seed: int) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for metric, part in found.groupby("metric", sort=False):
        name = str(metric)
        if name not in of_clips() or part["value"].notna().sum() == 0:
            continue
        means = client_means(part["value"], part["client"]).to_numpy(np.float64)
        row[name] = _number(float(means.mean()))
        row[f"{name}_se"] = _number(standard_error(means))
        row[f"{name}_ci"] = interval(part["value"], part["client"], part["seed"], seed)
    counted = found[found["metric"] == "psnr"]
    return row | {"n": len(counted), "clients": counted["client"].nunique(), "seeds": counted["seed"].nunique()}


def _number(value: Any) -> Any:
    return None if isinstance(value, float) and np.isnan(value) else value
