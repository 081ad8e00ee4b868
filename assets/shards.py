"""From clips to what training reads: aligned face crops, then latents and speech in shards."""

from __future__ import annotations

import dagster as dg

from assets.corpus import clients
from assets.facts import crop_facts
from assets.run import Run
from assets.showing import pictures, table

GROUP = "preparation"


@dg.asset(group_name=GROUP, kinds={"python", "video"}, deps=[clients])
def crops(run: dg.ResourceParam[Run]) -> dg.MaterializeResult:
    """Face crops, aligned by landmarks and steady in time, with sound; what has no usable face is refused."""
    from preparation.faces.trackers import tracker_name
    from preparation.pipeline import nothing_usable, prepare_clients
    from preparation.thumbnails import thumbnail_sheet

    folder, settings = run.folder, run.preparation
    with run.stage(
        "crops",
        settings=[settings.crop_fingerprint(), tracker_name(settings.faces)],
        after=["manifest", "clients"],
        code=["preparation"],
        outputs=lambda: folder.root.glob("clients/*/crops/*.json"),
    ) as stage:
        if stage.due and not prepare_clients(folder, run.corpus_root, settings, run.workers).usable:
            raise nothing_usable(folder)
    facts = crop_facts(folder)
    return dg.MaterializeResult(
        metadata={
            **identity_facts(run, anew=stage.due),
            "crops": facts.crops,
            "refused": facts.refused,
            "seconds of video": round(facts.frames / 25, 1),
            "face rate": round(facts.face_rate, 4),
            "face tracker": facts.tracker,
            "faces": pictures([thumbnail_sheet(folder, rows=4, columns=8)], height=384),
        },
        data_version=dg.DataVersion(stage.version),
    )


def identity_facts(run: Run, anew: bool) -> dict[str, str]:
    """Whether the faces bear out the folders' claims, where the settings ask; details are in `identities.json`.

    An earlier report is kept unless the crops or the settings are new or it says that the embedder was missing.
    """
    path, settings = run.folder.identities, run.preparation.identity
    if not settings.check:
        return {}
    from preparation.identity import check_identities, load_report

    if not anew and path.exists():
        report = load_report(path)
        if report.skipped is None and report.settings == settings.fingerprint():
            return {"identities": report.summary()}
    return {"identities": check_identities(run.folder, settings).summary()}


@dg.asset(group_name=GROUP, kinds={"webdataset"}, deps=[crops, "vae"])
def shards(run: dg.ResourceParam[Run]) -> dg.MaterializeResult:
    """One set of shards a client: latents, speech features, a reference frame, landmarks, head motion."""
    from preparation.clients import load_clients
    from preparation.pipeline import build_all_shards
    from preparation.shards import load_index

    folder, settings = run.folder, run.preparation
    with run.stage(
        "shards",
        settings=[settings.speech, settings.shards],
        after=["clients", "crops", "vae"],
        code=["preparation"],
        outputs=lambda: folder.root.glob("clients/*/shards/index.json"),
    ) as stage:
        if stage.due:
            from training.autoencoders.sources import load_autoencoder
            from training.device import choose_device

            autoencoder = load_autoencoder(folder.model("vae")).to(choose_device())
            identifier = run.version_of("vae")
            build_all_shards(folder, autoencoder.encode_frames, settings, identifier, workers=run.workers)
    rows = []
    for name, client in load_clients(folder.clients_table).items():
        index = load_index(folder.client(name))
        size = sum(shard.bytes for shard in index.shards)
        rows.append(
            {"client": name, "role": client.role, "samples": index.samples, "frames": index.frames, "bytes": size}
        )
    return dg.MaterializeResult(
        metadata={
            "samples": sum(row["samples"] for row in rows),
            "megabytes": round(sum(row["bytes"] for row in rows) / 1e6, 2),
            "samples a client": table(rows),
        },
        data_version=dg.DataVersion(stage.version),
    )
