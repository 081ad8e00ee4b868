"""The paper's tables and figures, each by the name under which `dvc.yaml` asks for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from evaluation.catalogue import BACKBONE, models_in
from evaluation.experiments.paper import figures, sweep_tables, tables
from evaluation.experiments.paper.folders import DEALT, NOISE, PARTICIPATION
from evaluation.experiments.paper.sweep_points import SweepPoint, main_point, read_sweep
from pipelines.paper.settings import NOISY, PaperSettings, configuration_of

Output = Callable[[PaperSettings], list[Path]]

SHEETS = 4
"""Number of clips in the qualitative figure."""


def table1(paper: PaperSettings) -> list[Path]:
    methods = tables.chosen(paper.methods, models_in("main"))
    return tables.write_comparison(paper.folder, "table1", methods, paper.seeds, models_in("main"))


def table2(paper: PaperSettings) -> list[Path]:
    methods = tables.chosen(paper.methods, models_in("ablations"))
    return tables.write_comparison(paper.folder, "table2", methods, paper.seeds, models_in("ablations"))


def communication(paper: PaperSettings) -> list[Path]:
    return tables.write_communication(paper.folder, paper.methods, paper.seeds[0])


def privacy(paper: PaperSettings) -> list[Path]:
    return tables.write_privacy(paper.folder, paper.methods, paper.seeds[0])


def clients(paper: PaperSettings) -> list[Path]:
    main = tables.chosen(paper.methods, models_in("main"))
    return [
        *tables.write_clients(paper.folder, main, paper.seeds),
        *figures.write_client_gains(paper.folder, main, paper.seeds),
    ]


def published(paper: PaperSettings) -> list[Path]:
    return tables.write_published(paper.folder, tables.chosen(paper.methods, models_in("main")), paper.seeds)


def figure3(paper: PaperSettings) -> list[Path]:
    return figures.write_validation_curves(paper.folder, tables.chosen(paper.methods, models_in("main")), paper.seeds)


def qualitative(paper: PaperSettings) -> list[Path]:
    seed = paper.seeds[0]
    shown = [*tables.chosen(paper.methods, models_in("main")), BACKBONE, "vae_ceiling"]
    return figures.write_faces(paper.folder, shown, configuration_of(paper, seed).evaluation, seed, SHEETS)


def participation(paper: PaperSettings) -> list[Path]:
    points = read_sweep(paper.folder, PARTICIPATION)
    everybody = [_main(paper, method, {"clients_per_round": points[0].clients}) for method in paper.sweeps.methods]
    return sweep_tables.write_participation(paper.folder, [*points, *everybody])


def noniid(paper: PaperSettings) -> list[Path]:
    return sweep_tables.write_dealt(paper.folder, read_sweep(paper.folder, DEALT))


def privacy_utility(paper: PaperSettings) -> list[Path]:
    privacy = configuration_of(paper, paper.seeds[0], NOISY).training.privacy
    own = _main(paper, NOISY, {"z": privacy.noise_multiplier, "C": privacy.clip_norm})
    return sweep_tables.write_noise(paper.folder, [*read_sweep(paper.folder, NOISE), own])


def _main(paper: PaperSettings, method: str, setting: Mapping[str, float]) -> SweepPoint:
    return main_point(paper.folder, method, paper.seeds[0], setting)


OUTPUTS: Mapping[str, Output] = {
    output.__name__: output
    for output in (
        table1, table2, communication, privacy, participation, noniid, clients, figure3, qualitative, privacy_utility,
        published,
    )
}  # fmt: skip
