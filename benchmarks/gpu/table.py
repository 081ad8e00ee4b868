"""The tables of benchmarks/README.md and docs/scaling.md from the figures that `benchmarks/gpu` kept.

python -m benchmarks.gpu.table benchmarks/results/gpu.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.page_sections import write_section

MARK = "<!-- Below: written by python -m benchmarks.gpu.table -->"
PROJECT = Path(__file__).resolve().parents[2]
ROUNDS, CLIENTS = 1000, 10
"""Rounds of the paper's run, and clients in each."""
LOCAL_STEPS = 10
"""Steps of a client in a round; the paper does not say how many."""
SETTINGS = {
    "channels_last": "channels last",
    "frozen_bfloat16": "frozen weights bf16",
    "gradient_checkpointing": "checkpointing",
    "compile": "compiled",
    "float32": "float32, no autocast",
}

UNDONE = {
    "one product": "LoRA as PEFT computes it, temporal attention by torch",
    "frame attention": "temporal attention by torch",
}

ATTENTION = ("_cudnn_attention", "_flash_attention", "ShortAttention", "_forward_", "_backward_")
GROUPS = {
    "products, convolutions and attention": ("mm", "addmm", "bmm", "cudnn_convolution", "convolution_", *ATTENTION),
    "copies, casts and joins": ("copy_", "cat"),
    "fused by the compiler": ("triton_",),
    "sums, products and activations": ("mul", "div", "add_", "add", "gelu", "silu"),
    "norms": ("native_group_norm", "native_layer_norm"),
}
"""Groups of operators, each with the beginnings of their names; an operator counts in the first group that fits."""

Row = dict[str, Any]


def readable(row: Row) -> str:
    """The settings under which a row was measured, in words."""
    parts = [words for name, words in SETTINGS.items() if row.get(name)]
    parts += [f"{row['attention'].removesuffix('_ATTENTION').lower()} attention"] if row.get("attention") else []
    parts += ["AdamW not fused"] if row.get("fused") is False else []
    parts += [f"LoRA on {row['targets']}"] if row.get("targets") else []
    parts += [UNDONE[row["undone"]]] if row.get("undone") else []
    return ", ".join(parts) or "as it comes"


def good(results: dict[str, Any], section: str, key: str) -> list[Row]:
    """The section's rows that have the figure `key`."""
    return [row for row in results.get(section, []) if row.get(key) is not None]


def number(value: float | None, form: str = ".3g") -> str:
    return "–" if value is None else f"{value:,.0f}" if abs(value) >= 1000 else format(value, form)


def table(head: str, rows: list[str]) -> list[str]:
    columns = head.count("|") - 1
    return [head, "|" + "---|" * columns, *rows, ""] if rows else []


def ceiling_tflops(results: dict[str, Any]) -> float:
    return max(row["tflops"] for row in good(results, "ceiling", "tflops"))


def card(machine: Row) -> str:
    beside = f", {machine['beside']}" if "beside" in machine else ""
    return (
        f"{machine['device']} ({machine.get('memory_gb', 0):.0f} GB), torch {machine['torch']}, {machine['cores']} CPU "
        f"cores{beside}"
    )


def about(results: dict[str, Any]) -> str:
    copied = max(row["gb_per_second"] for row in good(results, "ceiling", "gb_per_second"))
    return (
        f"{card(results['machine'])}. Measured ceilings: {ceiling_tflops(results):.0f} TFLOP/s in bf16 matrix "
        f"products, {copied:,.0f} GB/s copied in device memory (read and written)."
    )


def steps(results: dict[str, Any], kind: str) -> list[str]:
    """A table of all variants of a local step, the fastest in bold."""
    rows, section = [], f"steps_{kind}"
    best = max((row["clips_per_second"] for row in good(results, section, "clips_per_second")), default=0.0)
    for row in results.get(section, []):
        if "batch" not in row:
            continue
        if "clips_per_second" not in row:
            rows.append(f"| {row['batch']} | {readable(row)} | {_why(row)} | | | | |")
            continue
        speed = number(row["clips_per_second"])
        speed = f"**{speed}**" if row["clips_per_second"] == best else speed
        share = number(row.get("share_of_ceiling"), ".0%")
        cells = (row["batch"], readable(row), number(row["ms"]), speed, number(row["tflops"]), share)
        rows.append(f"| {' | '.join(map(str, cells))} | {number(row.get('peak_gb'))} |")
    return table("| windows | settings | ms | windows/s | TFLOP/s | of the ceiling | peak GB |", rows)


def _why(row: Row) -> str:
    error = str(row.get("error", ""))
    return "out of memory" if "OutOfMemory" in error else "no time left" if "no time" in error else error[:60]


def profile(results: dict[str, Any]) -> list[str]:
    """For each profiled setting, a table of the operators that hold the GPU longest, and a sentence on them."""
    rows = [row for row in results.get("profile", []) if row.get("of") == "operator"]
    lines = []
    for under in dict.fromkeys(readable(row) for row in rows):
        one = [row for row in rows if readable(row) == under and row["name"] != "all"]
        cells = [f"| `{row['name'][:60]}` | {row['ms']:.1f} | {row['calls']:.0f} | {row['share']:.0%} |" for row in one]
        lines += table(f"| operator of a step of `sd15` ({under}) | ms on the GPU | calls | share |", cells[:12])
        lines += account(results, one, under)
    return lines


def account(results: dict[str, Any], operators: list[Row], under: str) -> list[str]:
    """A sentence on what a step's time goes to, and how far that is from the ceiling."""
    alls = [row for row in results["profile"] if row["name"] == "all" and row["of"] == "operator"]
    busy = next(row["ms"] for row in alls if readable(row) == under)
    milliseconds = dict.fromkeys(GROUPS, 0.0)
    for row in operators:
        name = row["name"].removeprefix("aten::")
        group = next((what for what, parts in GROUPS.items() if name.startswith(parts)), None)
        if group:
            milliseconds[group] += row["ms"]
    windows = results["machine"]["sizes"]["sd15_batches"][1]
    same = [row for row in good(results, "steps_sd15", "ms") if readable(row) == under and row["batch"] == windows]
    whole = f"Of the step's {same[0]['ms']:.0f} ms" if same else "Of a step, whose whole time was not measured,"
    tera, ceiling = results["steps_sd15"][0]["window_tflop"] * windows, ceiling_tflops(results)
    groups = ", ".join(f"{what} {ms:.0f} ms" for what, ms in milliseconds.items() if ms)
    arithmetic = 1e3 * tera / next(iter(milliseconds.values()))
    return [
        f"{whole} with {windows} windows the GPU is at work for {busy:.0f}: {groups}, the rest "
        f"{busy - sum(milliseconds.values()):.0f} ms. With no waiting that is {1e3 * tera / busy / ceiling:.0%} of the "
        f"ceiling; the first of these by itself runs at {arithmetic:.0f} TFLOP/s, {arithmetic / ceiling:.0%}.",
        "",
    ]


def pictures(results: dict[str, Any]) -> list[str]:
    rows = []
    for kind in ("sd15", "base"):
        for row in good(results, f"generation_{kind}", "fps"):
            decoder = row.get("decoder", "sd-vae")
            rows.append(
                f"| `{kind}`, {readable(row)} | {row['steps']} | {decoder} | {number(row['sampling_fps'])} | "
                f"{number(row['decoding_fps'])} | **{number(row['fps'])}** | {number(row['times_real_time'])} |"
            )
    lines = table("| generation | steps | decoder | sampling fps | decoding fps | fps | × real time |", rows)
    coded = [
        f"| {row['pixels_a_batch'] // 65536} | {readable(row)} | {number(row['encode_fps'])} | "
        f"{number(row['decode_fps'])} | {number(row['encode_peak_gb'])} |"
        for row in good(results, "vae", "encode_fps")
    ]
    lines += table("| autoencoder (sd-vae): frames at once | settings | encoded fps | decoded fps | peak GB |", coded)
    measured = [f"| {row['network']} | {number(row['fps'])} |" for row in good(results, "metrics", "fps")]
    lines += table("| network of the metrics | fps |", measured)
    kept = results.get("kept")
    where = [f"Generation, autoencoder and metrics on another machine: {card(kept)}.", ""] if kept else []
    return where + lines


def rounds(results: dict[str, Any]) -> list[str]:
    rows = [
        f"| `{row['kind']}` | {row['batch']} | {number(row['bare_seconds'])} | {number(row.get('score_seconds'))} | "
        f"{number(row['round_seconds_1'])} | **{row['overhead']:.3f}** | {number(row['round_seconds_2'])} | "
        f"{row['gain_of_two']:.2f} |"
        for row in good(results, "federation", "overhead")
    ]
    head = (
        "| | windows a step | bare steps, s | scores alone, s | round, s | round ÷ steps | round on two workers, s | "
        "gain of two |"
    )
    lines = table(head, rows)
    if lines:
        row = good(results, "federation", "overhead")[0]
        lines += [
            f"{row['clients']} clients of {row['local_steps']} steps each. A round also scores every client on a clip "
            "that it generates, which the bare steps do not; both workers share one GPU.",
            "",
        ]
    return lines


def budgets(results: dict[str, Any]) -> list[str]:
    rows = [
        f"| `{kind}` | {number(row['budget_gb'])} | {row['micro_batch']} | {number(row['peak_gb'])} | "
        f"{'yes' if row['within'] else 'no'} |"
        for kind in ("base", "sd15")
        for row in good(results, f"budget_{kind}", "peak_gb")
    ]
    return table("| | memory_budget_gb | windows at once | peak GB | within | ", rows)


def readme(results: dict[str, Any]) -> str:
    """The section of benchmarks/README.md."""
    pixels = 8 * results["machine"]["sizes"]["latent"]
    frames = results["machine"]["sizes"]["window"]
    lines = [
        MARK,
        "",
        "## A GPU",
        "",
        "`python -m benchmarks.gpu --out benchmarks/results/gpu.json`, then `python -m benchmarks.gpu.table` with that "
        "file for this section and that of docs/scaling.md. Weights and clips are random.",
        "",
        about(results),
        "",
        f"Local steps of `ClientTrainer`, {pixels} pixels, windows of {frames} frames, LoRA of rank 8 on attention, "
        "AdamW. FLOPs are counted operator by operator over both passes as PEFT and torch compute them, without what "
        "checkpointing repeats or a faster way does besides; shares are of the largest product's rate. Steps that are "
        "not compiled wait for launches, and their times vary by a tenth.",
        "",
    ]
    for kind in ("sd15", "base"):
        first = results.get(f"steps_{kind}", [{}])[0]
        if "parameters" in first:
            millions, tera = first["parameters"] / 1e6, first["window_tflop"]
            lines += [f"`{kind}`, {millions:,.0f} M parameters, {tera:.2f} TFLOP a window:", ""]
            lines += steps(results, kind)
    lines += [*profile(results), *rounds(results), *budgets(results), *pictures(results)]
    return "\n".join(lines).rstrip() + "\n"


def scaling(results: dict[str, Any]) -> str:
    """The section of docs/scaling.md: what each size needs and gives, and the paper's run."""
    measured = good(results, "federation", "overhead")
    # Seconds that a client costs beside its steps, which do not shrink with them: the largest that were measured.
    beside = max(((row["round_seconds_1"] - row["bare_seconds"]) / row["clients"] for row in measured), default=0.0)
    adapters = {kind: results[f"steps_{kind}"][0]["adapter"] for kind in ("base", "sd15") if f"steps_{kind}" in results}
    rows, sums = [], []
    for kind, parameters in adapters.items():
        for pixels, row in _fastest(results, kind).items():
            seconds = CLIENTS * (LOCAL_STEPS * row["batch"] / row["clips_per_second"] + beside)
            rows.append(
                f"| `{kind}` | {pixels} | {readable(row)} | {row['batch']} | {number(row.get('peak_gb'))} | "
                f"{number(row['clips_per_second'])} | {number(3600 / seconds)} | "
                f"{4 * parameters * CLIENTS / 1e6:.0f} MB |"
            )
            sums.append(
                f"- `{kind}` at {pixels} pixels: {ROUNDS} × {CLIENTS} × ({LOCAL_STEPS} × {row['batch']} windows ÷ "
                f"{number(row['clips_per_second'])} windows/s + {beside:.2f} s) = "
                f"**{ROUNDS * seconds / 3600:.1f} hours**, and {ROUNDS * CLIENTS * 4 * parameters / 1e9:.0f} GB up."
            )
    head = "| | pixels | settings | windows a step | peak GB | windows/s | rounds/hour | bytes up a round |"
    return "\n".join(
        [
            MARK,
            "",
            "## Measured on a GPU",
            "",
            about(results),
            "",
            f"A round: {CLIENTS} clients, {LOCAL_STEPS} local steps each, LoRA of rank 8 on attention, one worker. "
            + (
                f"Beside its steps a client costs {beside:.2f} s, its score among it, as measured for "
                f"{' and '.join(dict.fromkeys('`' + row['kind'] + '`' for row in measured))} (benchmarks/README.md)."
                if measured
                else "What a client costs beside its steps has no figure on this card and is left out."
            ),
            "",
            *table(head, rows),
            f"The paper's {ROUNDS} rounds of {CLIENTS} clients on one such GPU, evaluation and pretraining aside:",
            "",
            *sums,
            "",
        ]
    )


def _fastest(results: dict[str, Any], kind: str) -> dict[int, Row]:
    """By resolution, the settings with the most windows a second."""
    side = results["machine"]["sizes"]["latent"]
    rows = [{"latent": side, **row} for row in good(results, f"steps_{kind}", "clips_per_second")]
    rows += [row for row in good(results, "resolutions", "clips_per_second") if row["kind"] == kind]
    rows = [row for row in rows if not row.get("targets") and not row.get("undone")]
    return {
        8 * latent: max((row for row in rows if row["latent"] == latent), key=lambda row: row["clips_per_second"])
        for latent in sorted({row["latent"] for row in rows})
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figures", type=Path, nargs="?", default=PROJECT / "benchmarks" / "results" / "gpu.json")
    results = json.loads(parser.parse_args().figures.read_text())
    write_section(PROJECT / "benchmarks" / "README.md", MARK, readme(results))
    write_section(PROJECT / "docs" / "scaling.md", MARK, scaling(results))


if __name__ == "__main__":
    main()
