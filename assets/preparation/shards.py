"""From clips to what training reads: aligned face crops, clients, then latents and speech in shards."""

# No postponed annotations here: Dagster looks at the type of `context` itself.
import json
import sys
from collections import Counter
from collections.abc import Collection
from functools import partial
from typing import Any

import dagster as dg

from assets.preparation.corpus import clients, disjoint, manifest
from assets.preparation.facts import crop_facts, crop_facts_of, placed_clips
from assets.stage.metadata import picture, pictures, table
from assets.stage.partitions import chosen, client_buckets, every_partition, in_one_run, members
from assets.stage.run import Run
from assets.stage.transient import retried
from common.errors import PrivFedTalkError
from common.folders import SHARD_INDEX
from common.settings import Settings
from preparation.settings import CorpusKind

GROUP = "preparation"


@dg.asset(
    group_name=GROUP,
    kinds={"python", "video"},
    partitions_def=client_buckets,
    backfill_policy=in_one_run,
    deps=[manifest, clients],
)
@retried
def crops(context: dg.AssetExecutionContext, run: dg.ResourceParam[Run]) -> None:
    """Face crops, aligned by landmarks and steady in time, with sound; clips without a usable face are refused."""
    from preparation.clients.roles import load_people
    from preparation.faces.trackers import tracker_name

    folder, settings = run.folder, run.preparation
    buckets = members(load_people(folder), context.partition_keys)
    only = chosen(buckets)
    stage = run.stage(
        crops,
        partial(crop_faces, run, only),
        settings=[settings.crop_fingerprint(), tracker_name(settings.faces), *cut_settings(run)],
        outputs=lambda: folder.root.glob("clients/*/crops/*.json"),
        parts=None if only is None else sorted(buckets),
    )
    for bucket, facts in crop_facts_of(folder, placed_clips(folder, buckets)).items():
        context.add_asset_metadata(
            {
                "people": facts.speakers,
                "crops": facts.crops,
                "refused": facts.refused,
                "seconds of video": round(facts.frames / 25, 1),
                "face rate": round(facts.face_rate, 4),
                "face tracker": facts.tracker,
                "faces": _faces(run, buckets[bucket]),
            },
            partition_key=bucket,
        )
    context.set_data_version(context.asset_key, dg.DataVersion(stage.version))


def cut_settings(run: Run) -> list[Settings]:
    """The settings that decide how recordings are cut, for a stage; empty where the corpus is not cut."""
    kinds = [part.kind for part in run.corpus_parts] or [run.corpus_kind]
    cut = any(run.preparation.samples.cuts(kind.value) for kind in kinds)
    return [run.preparation.samples, run.preparation.clients] if cut else []


def crop_faces(run: Run, only: list[str] | None) -> None:
    """Make the crops of everybody, or of `only` some people."""
    from preparation.pipeline import nothing_usable, prepare_clients

    counts = prepare_clients(run.folder, run.corpus_root, run.preparation, run.workers, only)
    if only is None and not counts.usable:
        raise nothing_usable(run.folder)


def _faces(run: Run, people: Collection[str]) -> dg.MarkdownMetadataValue:
    """A sheet with faces of some of these people."""
    from preparation.media.previews import for_show, grey_cell
    from preparation.shards.thumbnails import thumbnail_sheet

    with for_show("the sheet of faces"):
        return pictures([thumbnail_sheet(run.folder, 3, 3, only=people)], height=288)
    return pictures([grey_cell(96, 96)])


@dg.asset(group_name=GROUP, kinds={"json"}, deps=[manifest, clients, every_partition(crops)])
@retried
def dealing(run: dg.ResourceParam[Run]) -> dg.MaterializeResult:
    """Who trains with which clips: every person is a client, or the usable clips are dealt to simulated clients."""
    from preparation.clients.consent import record_rendered
    from preparation.clients.dealing import deal_run
    from preparation.clients.roles import load_clients

    folder, settings = run.folder, run.preparation
    stage = run.stage(
        dealing,
        partial(deal_run, folder, settings),
        settings=[settings.partition, settings.clients, *cut_settings(run), *_refusals_of_training(run)],
        outputs=lambda: [folder.clients_table],
    )
    if run.corpus_kind is CorpusKind.STUDIO:
        record_rendered(folder)
    found = load_clients(folder.clients_table)
    sizes = [len(client.clips()) for client in found.values() if client.role == "client"]
    return dg.MaterializeResult(
        metadata={
            **identity_facts(run, anew=stage.due),
            "dealt by": settings.partition.by.value,
            "clients": len(sizes),
            "clips of the smallest client": min(sizes, default=0),
            "clips of the largest client": max(sizes, default=0),
        },
        data_version=dg.DataVersion(stage.version),
    )


@dg.asset_check(asset=dealing, blocking=True)
def dealt_once(run: dg.ResourceParam[Run]) -> dg.AssetCheckResult:
    """No clip is in two splits or with two clients, no public speaker is a client too, and samples of one recording in
    two splits are `preparation.samples.gap_seconds` apart."""
    from preparation.clients.roles import load_clients
    from preparation.clients.timeline import close_neighbours, frames_of, sample_clips
    from preparation.corpora.manifest import load_manifest

    table = load_clients(run.folder.clients_table)
    result = disjoint(table)
    places = sample_clips(run.folder, load_manifest(run.folder.manifest)).places
    close = close_neighbours(table, places, frames_of(run.preparation.samples.gap_seconds))
    return dg.AssetCheckResult(
        passed=result.passed and not close, metadata={**result.metadata, "neighbours in two splits": str(close)}
    )


@dg.asset_check(asset=dealing)
def few_clips_refused(run: dg.ResourceParam[Run]) -> dg.AssetCheckResult:
    """At most the share `quarantine_rate` of clips was left out; more suggests a broken corpus or a wrong setting.

    A piece of a recording counts as a clip does.
    """
    from preparation.quarantine import PIECES, TWINS, load_quarantine

    facts = crop_facts(run.folder)
    rows = [row for row in load_quarantine(run.folder.quarantine) if row.step != TWINS]
    files = {(row.file, row.reason) if row.step == PIECES else row.file for row in rows}
    rate = len(files) / max(1, len(files) + facts.crops)
    reasons = Counter(f"{row.step}: {row.reason}" for row in rows).most_common()
    worst = f"; most often {reasons[0][0]} ({reasons[0][1]} clips)" if reasons else ""
    return dg.AssetCheckResult(
        passed=rate <= run.quarantine_rate,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{len(files)} clips left out, {rate:.1%} of all{worst}",
        metadata={
            "rate": round(rate, 4),
            "reasons": table([{"reason": why, "clips": count} for why, count in reasons]),
        },
    )


@dg.asset(group_name=GROUP, kinds={"json"}, deps=[every_partition(crops), dealing])
@retried
def client_report(run: dg.ResourceParam[Run]) -> dg.MaterializeResult:
    """How unlike the clients are in size, looks and pose, each beside what chance gives for such sizes; with charts."""
    from preparation.clients.report import load_client_report

    path, refused = run.folder.client_report, _refusals_of_training(run)
    stage = run.stage(client_report, partial(compare_clients, run), settings=refused, outputs=lambda: [path])
    if not path.exists():
        return dg.MaterializeResult(metadata={"clients": 0}, data_version=dg.DataVersion(stage.version))
    report = load_client_report(path)
    charts = {f"chart of {name}": picture(path.with_name(f"client_{name}.png")) for name in ("sizes", "distances")}
    return dg.MaterializeResult(
        metadata={**report.summary(), **charts, "clients": table([vars(row) for row in report.clients])},
        data_version=dg.DataVersion(stage.version),
    )


def compare_clients(run: Run) -> None:
    """Write the report of how unlike the clients are, and its charts."""
    from evaluation.figures.clients import save_client_figures
    from preparation.clients.report import report_clients, save_client_report

    path = run.folder.client_report
    path.unlink(missing_ok=True)
    try:
        report = report_clients(run.folder, run.seed)
    except PrivFedTalkError as error:  # nobody is a client yet: no reason to stop a night's work
        sys.stderr.write(f"client_report: {error.reason}\n")
    else:
        save_client_figures(report, path.parent)
        save_client_report(report, path)


def _refusals_of_training(run: Run) -> list[str]:
    """Who forbids training, as settings of a stage: their clips are not dealt or compared. A missing record is no
    refusal here."""
    from preparation.clients.roles import load_people
    from preparation.shards.gate import Gate

    refused = Gate(run.folder, "training", required=False).refused(load_people(run.folder))
    return [json.dumps(sorted(refused))] if refused else []


def identity_facts(run: Run, anew: bool) -> dict[str, str]:
    """Summary of the identity check (is each folder one person?), if it is on; details are in `identities.json`.

    An earlier report is kept unless the crops or the settings are new, or the embedder was missing then.
    """
    path, settings = run.folder.identities, run.preparation.identity
    if not settings.check:
        return {}
    from preparation.clients.identity import check_identities, load_report

    if not anew and path.exists():
        report = load_report(path)
        if report.skipped is None and report.settings == settings.fingerprint():
            return {"identities": report.summary()}
    return {"identities": check_identities(run.folder, settings).summary()}


@dg.asset(
    group_name=GROUP,
    kinds={"webdataset"},
    partitions_def=client_buckets,
    backfill_policy=in_one_run,
    deps=[every_partition(crops), dealing, "vae"],
)
@retried
def shards(context: dg.AssetExecutionContext, run: dg.ResourceParam[Run]) -> None:
    """One set of shards for each client: latents, speech features, a reference frame, landmarks, head motion."""
    from preparation.clients.roles import load_clients
    from preparation.shards.store import load_index
    from preparation.speech.networks import model_version

    folder, settings = run.folder, run.preparation
    found = load_clients(folder.clients_table)
    buckets = members(found, context.partition_keys)
    only = chosen(buckets)
    stage = run.stage(
        shards,
        partial(write_shards, run, only),
        settings=[settings.speech, model_version(settings.speech), settings.shards],
        outputs=lambda: folder.root.glob("clients/*/shards/index.json"),
        parts=None if only is None else sorted(buckets),
    )
    for bucket, names in buckets.items():
        indices = [load_index(folder.client(name)) for name in names]
        rows: list[dict[str, Any]] = [
            {
                "client": index.client,
                "role": found[index.client].role,
                "samples": index.samples,
                "frames": index.frames,
                "bytes": sum(shard.bytes for shard in index.shards),
            }
            for index in indices
        ]
        context.add_asset_metadata(
            {
                "clients": len(rows),
                "samples": sum(index.samples for index in indices),
                "megabytes": round(sum(row["bytes"] for row in rows) / 1e6, 2),
                "samples a client": table(rows),
            },
            partition_key=bucket,
        )
    context.set_data_version(context.asset_key, dg.DataVersion(stage.version))


def write_shards(run: Run, only: list[str] | None) -> None:
    """Write the shards of everybody, or of `only` some clients."""
    from preparation.pipeline import build_all_shards
    from training.model.autoencoders.sources import load_autoencoder
    from training.model.device import choose_device

    autoencoder = load_autoencoder(run.folder.model("vae")).to(choose_device())
    build_all_shards(run.folder, autoencoder.encode_frames, run.preparation, run.version_of("vae"), only, run.workers)


@dg.asset_check(asset=shards, blocking=True)
def shards_whole(run: dg.ResourceParam[Run]) -> dg.AssetCheckResult:
    """Every existing index matches the files beside it, and no split has more clips than the table of clients.

    Sizes are compared here, hashes when shards are read. Clients without shards yet do not fail the check.
    """
    from preparation.clients.roles import load_clients
    from preparation.shards.store import check_files, load_index

    folder = run.folder
    broken: list[str] = []
    missing = 0
    for name, client in sorted(load_clients(folder.clients_table).items()):
        if not (folder.shards(name) / SHARD_INDEX).exists():
            missing += 1
            continue
        try:
            index = load_index(folder.client(name))
            check_files(folder.client(name), index)
        except PrivFedTalkError as error:
            broken.append(f"{name}: {error.reason}")
            continue
        counts = index.clips or index.splits
        too_many = [split for split, count in counts.items() if count > len(client.splits[split])]
        if too_many:
            broken.append(f"{name}: samples of more clips than the table has in {', '.join(too_many)}")
    return dg.AssetCheckResult(
        passed=not broken,
        description="; ".join(broken[:5]) if broken else "whole",
        metadata={"broken clients": len(broken), "clients without shards yet": missing},
    )
