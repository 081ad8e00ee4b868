"""Writes the study's page, docs/results/study.md: every figure and every verdict comes from the points' files."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from common.text.foreign import markdown_cell
from evaluation.catalogue import metric
from evaluation.experiments.study import design as study
from evaluation.experiments.study.defects import DEFECTS
from evaluation.experiments.study.design import EXPERIMENTS, Experiment
from evaluation.experiments.study.settings import StudySettings
from evaluation.experiments.study.summary import Gain, Results, gains, levels
from evaluation.tables.columns import MISSING

LIPS = ("mouth_psnr", "opening_error", "lip_correlation")
"""Metrics of the mouth in generated clips, which a viewer can see."""


def page(results: Results, pictured: bool = True, machine: str = "") -> str:
    """The whole page in Markdown; `pictured` says whether there is a picture of the curves, `machine` on which machine
    the points were made."""
    settings = results.settings
    parts = [
        "# What the study measured",
        "Written by `make study` from the points in `data/study`; nothing here is typed by hand. " + _sizes(settings),
        *([f"Machine: {machine}."] if machine else []),
        "Loss is each person's own held-out denoising loss with fixed noise and timesteps, as a difference in percent "
        "to the frozen backbone's on the same clips; negative is better. Brackets are 95 % intervals over people "
        "(Student's), p is from sign flips of whole people, Holm's over the curves of a condition. People under one "
        "seed share a backbone and a federation: *seeds* says in how many trainings the mean had that sign.",
        *(["![Gain against what is varied](../images/study.png)"] if pictured else []),
        "## Three questions",
        *_questions(results),
        "## All methods in the central world",
        gain_table(gains(results, study.CENTRAL), "world"),
        "On generated clips, mean ± half the 95 % interval over people:",
        _lips(results),
        "## What a viewer sees",
        "The same clips, each person's difference to the frozen backbone.",
        *_visible_gains(results),
        "## People who never trained",
        "`local` is the control: the mean over some clients' own adapters, each put on the stranger.",
        gain_table(gains(results, study.CENTRAL, role="unseen"), "world"),
    ]
    for experiment in EXPERIMENTS[1:]:
        found = gains(results, experiment)
        parts.append(f"## Against {experiment.varies}")
        if len({gain.x for gain in found}) < min(2, len(experiment.conditions)):
            parts.append("Not run yet, but for what other experiments share.")
            continue
        parts.append(gain_table(found, experiment.varies))
        if experiment.role == "unseen":
            parts.append("Loss of the people who never trained.")
        if experiment is study.SPOILED_CLIENTS:
            averaged = experiment.conditions[0].curves["fedavg"]
            weighted = gains(results, experiment, baseline=averaged)
            parts += ["The same to FedAvg, on the seeds that both have:", gain_table(weighted, experiment.varies)]
            parts += [_weighing_pays(weighted), _scores(results)]
    return "\n\n".join([*parts, "## What was run", _points_made(results)]) + "\n"


def gain_table(found: Sequence[Gain], varies: str) -> str:
    head = [varies, "method", "loss, %", "people better", "seeds", "p"]
    rows = [
        [
            str(gain.x),
            gain.curve,
            interval(gain),
            f"{gain.better} of {gain.people}",
            f"{gain.agreeing} of {gain.seeds}",
            f"{gain.p_holm:.2g}",
        ]
        for gain in found
    ]
    return table(head, rows)


def interval(gain: Gain, digits: int = 2) -> str:
    return f"{gain.mean:+.{digits}f} [{gain.low:+.{digits}f}, {gain.high:+.{digits}f}]"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Head and rows as a Markdown table, every cell as text."""
    lines = ["| " + " | ".join(map(markdown_cell, cells)) + " |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|" + " --- |" * len(head), *lines[1:]])


def _questions(results: Results) -> list[str]:
    own, strangers = gains(results, study.CENTRAL), gains(results, study.CENTRAL, role="unseen")
    to_control = gains(results, study.CENTRAL, role="unseen", baseline=study.LONGER)
    to_local = gains(results, study.CLIPS, baseline=study.LONGER)
    federated = ("fedavg", "privfedtalk, no DP", "privfedtalk, z = 0.02")
    answers = [
        "**Does federation beat the frozen backbone for its clients?**",
        *(f"- {gain.curve}: {_verdict(gain)}" for gain in own if gain.curve in federated),
        "**Does it help people who never trained?** The control is another client's own adapter (`local`).",
        *(f"- {gain.curve}, to the frozen backbone: {_verdict(gain)}" for gain in strangers if gain.curve == "fedavg"),
        *(f"- the control, to the frozen backbone: {_verdict(g)}" for g in strangers if g.curve == "local, longer"),
        *(f"- {gain.curve}, to the control: {_verdict(gain)}" for gain in to_control if gain.curve in federated),
        "**Does federation followed by personalisation beat as many steps of local training?**",
        *(
            f"- {gain.x} clip{'s' * (gain.x != 1)} to train on: {_verdict(gain)}"
            for gain in to_local
            if gain.curve == "fedavg, personalised"
        ),
    ]
    lines: list[str] = []
    for line, following in zip(answers, [*answers[1:], "**"], strict=True):
        unanswered = line.startswith("**") and following.startswith("**")
        lines += [line, "- Not run yet."] if unanswered else [line]
    return ["\n".join(_spaced(lines)).strip()]


def _spaced(lines: Sequence[str]) -> list[str]:
    """The lines with a blank line before and after each that is not a list item."""
    spaced: list[str] = []
    for line in lines:
        spaced += [line] if line.startswith("- ") else ["", line, ""]
    return spaced


def _verdict(gain: Gain) -> str:
    verdict = "the interval holds zero" if not gain.sure else "better" if gain.mean < 0 else "worse"
    people = f"{gain.better} of {gain.people} people better, {gain.seeds} seed{'s' * (gain.seeds != 1)}"
    return f"{interval(gain)} %: {verdict} ({people}, p = {gain.p_holm:.2g})."


def _lips(results: Results) -> str:
    measured = {
        role: levels(results, study.CENTRAL, study.CENTRAL.conditions[0], LIPS, role) for role in ("client", "unseen")
    }
    rows = [
        [name, *(_level(measured[role].get(name, {}).get(key)) for role in measured for key in LIPS)]
        for name in study.METHODS
        if any(name in found for found in measured.values())
    ]
    titles = [metric(key).axis for key in LIPS]
    return table(["method", *titles, *(f"strangers: {title}" for title in titles)], rows)


def _visible_gains(results: Results) -> list[str]:
    """A table of paired differences in metrics of the mouth, and whether each federated method improves them."""
    found = {key: {gain.curve: gain for gain in gains(results, study.CENTRAL, key)} for key in LIPS}
    loss = {gain.curve: gain for gain in gains(results, study.CENTRAL)}
    curves = [name for name in study.METHODS if all(name in some for some in (*found.values(), loss))]
    if not curves:
        return ["Not run yet."]
    rows = [[name, *(interval(found[key][name], 3) for key in LIPS)] for name in curves]
    verdicts = []
    for name in (name for name in curves if name.partition(",")[0] not in ("local", "centralized")):
        visible = [metric(key).in_sentence for key in LIPS[:2] if _better(found[key][name], key)]
        worse = found["lip_correlation"][name].high < 0
        verdicts.append(
            f"- {name}: loss {'better' if loss[name].high < 0 else 'not surely better'}; "
            f"{' and '.join(visible) or 'nothing'} better; "
            f"{metric('lip_correlation').in_sentence} {'worse' if worse else 'no worse'}."
        )
    return [
        table(["method", *(metric(key).axis for key in LIPS)], rows),
        "Outside the interval, on this population:",
        "\n".join(verdicts),
    ]


def _better(gain: Gain, key: str) -> bool:
    return gain.high < 0 if metric(key).better == "lower" else gain.low > 0


def _weighing_pays(to_average: Sequence[Gain]) -> str:
    """Sentences on whether weighing clients pays, from the comparisons with FedAvg."""
    by_name = {gain.curve: gain for gain in to_average}
    sentences = [
        f"{name} instead of fedavg changes the loss by {interval(gain)} %."
        for name, gain in by_name.items()
        if name.startswith("isfa")
    ]
    oracle = by_name.get("fedavg, noisy and wrong left out")
    if oracle is not None and oracle.high >= 0:
        sentences.append(
            "Leaving the noisy and the wrong clients out, as a perfect score would, gains nothing sure either: bad "
            "clips of this kind do the average little harm, so there is little for any score to win."
        )
    return " ".join(sentences)


def _scores(results: Results) -> str:
    """A table of the reliability scores that good and bad clients gave themselves in the last round, for each score."""
    experiment, (condition,) = study.SPOILED_CLIENTS, study.SPOILED_CLIENTS.conditions
    rows: list[list[str]] = []
    ratios: list[str] = []
    for name in ("isfa", "isfa, speech"):
        scores = results.pooled(experiment, condition, condition.curves[name], "client", "score")
        if scores is None:
            continue
        gamma = condition.curves[name].arm.training(results.settings).privacy.gamma
        score = condition.curves[name].arm.score or "paper"
        most = np.exp(gamma * (scores.max() - scores.min()))
        ratios.append(f"By {score} with gamma = {gamma:g} no client weighs more than {most:.2f} times another's clips.")
        kinds = scores.groupby(level="seed").cumcount().map(lambda number: DEFECTS.get(number, "") or "good")
        rows += [
            [
                score,
                str(kind).replace("_", " "),
                f"{own.mean():.4f}",
                f"{own.min():.4f} to {own.max():.4f}",
                str(len(own)),
            ]
            for kind, own in scores.groupby(kinds.to_numpy())
        ]
    if not rows:
        return "The clients' scores were not measured yet."
    head = ["score", "client", "mean", "range", "clients"]
    return "What clients scored themselves in the last round, by what is bad about them:\n\n" + "\n\n".join(
        [table(head, rows), " ".join(ratios)]
    )


def _level(value: tuple[float, float] | None) -> str:
    return MISSING if value is None else f"{value[0]:.3g} ± {value[1]:.2g}"


def _sizes(settings: StudySettings) -> str:
    studio, training = settings.studio, settings.training
    return (
        f"A seed has {studio.public_speakers} public speakers, {studio.clients} clients of {studio.client_clips} clips "
        f"and {studio.unseen} people who never train, clips of {studio.seconds:g} s at "
        f"{settings.preparation.crops.size} pixels; a backbone of width {training.backbone.width} and "
        f"{training.pretraining.steps} steps; {training.federation.rounds} rounds of "
        f"{training.federation.local_steps} steps, LoRA of rank {training.adapter.rank} on "
        f"`{training.adapter.targets}`. These are smaller than the demo's: the order of methods is the subject, "
        "not the picture."
    )


def _points_made(results: Results) -> str:
    def count(experiment: Experiment, keep: Callable[[bool], bool]) -> int:
        return sum(keep(results.ran(setup)) for setup in experiment.setups())

    rows = [
        [
            experiment.name,
            f"{count(experiment, bool)} of {count(experiment, lambda _: True)}",
            ", ".join(
                str(seed)
                for seed in experiment.seeds
                if any(results.ran(setup) for setup in experiment.setups() if setup.seed == seed)
            ),
        ]
        for experiment in EXPERIMENTS
    ]
    return table(["experiment", "points", "seeds"], rows)
