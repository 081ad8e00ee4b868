"""What a command says at its end: the few figures that matter, and where the rest is."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from common.errors import PrivFedTalkError
from common.folders import RunFolder
from pipelines.terminal.documents import alike, converted, prepared, results_document
from pipelines.terminal.errors import failure
from pipelines.terminal.text import console, print_json, styled
from training.privacy.digits import three_digits

if TYPE_CHECKING:
    from training.settings import TrainingSettings

MOST_LINES = 10


def print_results(root: Path, as_json: bool, error: PrivFedTalkError | None = None) -> None:
    """Print a run's results as text, or as the document of --json, which includes the `error` that ended the run."""
    if as_json:
        print_json(results_document(root) | (failure(error) if error else {}))
    else:
        show_results(root)


def show_results(root: Path) -> None:
    """The headline table, the acceptance criteria that are missed, ε, time and memory, and the page to open."""
    from evaluation.catalogue import columns_for
    from evaluation.results.document import read_results

    folder = RunFolder(root)
    if not folder.results.exists():
        return
    results = read_results(folder.results)
    # Narrow enough for a terminal of 80 columns: no lines between the columns, marks explained below.
    table = Table(box=SIMPLE_HEAD, title="held-out clips of clients", title_justify="left", caption_justify="left")
    table.pad_edge, table.collapse_padding, table.show_edge = False, True, False
    table.add_column("method", no_wrap=True)
    columns = columns_for(results["methods"], "summary")
    for column in columns:
        table.add_column(column.in_sentence.replace(" ", "\n"), justify="right", vertical="bottom")
    for method, values in results["methods"].items():
        private = values.get("private", True)
        if not private:
            table.caption = styled(("*", "yellow"), " not private")
        table.add_row(
            method if private else styled(f"{method} ", ("*", "yellow")),
            *(_figure(values.get(column.key), column.digits) for column in columns),
        )
    console.print(table)
    show_criteria(results["bars"])
    privacy = results["privacy"]
    if "epsilon_release" in privacy:
        epsilon, delta = (three_digits(privacy.get(name), absent="–") for name in ("epsilon_release", "delta"))
        console.print(f"ε of the released model {epsilon} at δ = {delta}; {privacy.get('mark', '')}")
    minutes = results["seconds"]["total"] / 60
    console.print(f"{minutes:.1f} minutes, at most {results['peak_memory_gb']} GB of memory")
    console.print(styled("Open ", (str(folder.root / results["report"]), "bold")))


def show_preparation(root: Path, identities: bool = False) -> None:
    """How many clips became samples, why the others did not, and with `identities` whom the faces show."""
    from preparation.quarantine import TWINS, load_quarantine

    folder = RunFolder(root)
    people, samples, frames = prepared(root)
    console.print(f"{samples} samples ({frames / 25:.0f} s) of {people} people in {root / 'clients'}")
    refused = alike(load_quarantine(folder.quarantine))
    for row in refused:
        files = repr(row["first"]) + (" and others" if row["files"] > 1 else "")
        done = "noted as" if row["step"] == TWINS else "quarantined by"
        console.print(f"{row['files']} {done} {row['step']}: {row['reason']} ({files}); {row['remedy']}")
    if refused:
        console.print(f"all of them: {folder.quarantine}")
    changed = converted(folder)
    if changed:
        counts = ", ".join(f"{name.replace('_', ' ')}: {count}" for name, count in changed.items())
        console.print(f"clips converted, by what was done: {counts}; which ones: {folder.manifest}")
    if identities and folder.identities.exists():
        _show_identities(folder.identities)


def show_standings(root: Path, training: TrainingSettings) -> None:
    """How many clients can train, be validated and be tested, and who cannot, with the remedy."""
    from training.learning.eligible import may_be_unmeasured
    from training.readiness import standings, summary

    for line in summary(standings(RunFolder(root), training), may_be_unmeasured(training.federation)):
        console.print(line)


def show_consent(root: Path, required: bool) -> None:
    """How many clients may be trained on, and what is to be done about the others."""
    from preparation.clients.consent import objections
    from preparation.clients.roles import load_clients, of_role

    folder = RunFolder(root)
    clients = of_role(load_clients(folder.clients_table), "client")
    refused = objections(folder, clients, "training", required)
    console.print(f"consent: {len(clients) - len(refused)} of {len(clients)} clients may be trained on")
    for reason, count in Counter(refused.values()).most_common():
        console.print(f"  {count} sit out: {reason}")
    if "not recorded" in refused.values():
        console.print(
            "  record what they agreed to (--consent CSV, privfedtalk consent grant); where something else covers the "
            "corpus, such as a research licence: train with --set training.consent.required=false"
        )


def _show_identities(path: Path) -> None:
    """Print folders with clips of another face, and pairs of folders of one person, for the user to decide: nothing was
    left out because of them."""
    from preparation.clients.identity import load_report

    report = load_report(path)
    console.print(report.summary())
    strangers = Counter(mismatch.client for mismatch in report.mismatches)
    lines = [f"  {client}: {count} clips of another face" for client, count in strangers.most_common()]
    lines += [f"  {pair.first} and {pair.second}: one person (cosine {pair.cosine:.2f})" for pair in report.same_person]
    for line in lines[:MOST_LINES]:
        console.print(line)
    if lines:
        console.print(f"all of them, none was left out: {path}")


def show_criteria(criteria: list[dict[str, Any]]) -> None:
    """How many acceptance criteria are met, and a line for each that is missed or was not measured; nothing on corpora
    that have none."""
    if not criteria:
        return
    measured = [one["pass"] for one in criteria if one["pass"] is not None]
    unmeasured = f", {len(criteria) - len(measured)} not measured" if len(measured) < len(criteria) else ""
    console.print(f"{sum(measured)} of {len(measured)} acceptance criteria met{unmeasured}")
    for one in criteria:
        if one["pass"] is not True:
            wanted = f"{one['direction']} {one['bar']}"
            value = "not measured" if one["value"] is None else _figure(one["value"], 3)
            console.print(styled("  ", (one["name"], "yellow"), f": {value}, wanted {wanted} ({one['what']})"))


def _figure(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
