"""The networks trained on public speakers alone: autoencoder, rulers, backbone. The federation uses them frozen."""

from __future__ import annotations

import json
from functools import partial

import dagster as dg

from assets.preparation.facts import public_version
from assets.preparation.samples import coded_faces, save_coded_faces
from assets.preparation.shards import crops, shards
from assets.stage.metadata import drawing, picture, table
from assets.stage.partitions import every_partition
from assets.stage.run import Run
from assets.stage.transient import retried
from common.files import write_text
from common.folders import CURVE, NETWORK_WEIGHTS

GROUP = "backbone"
LOSSES = ("training_loss", "validation_loss")
ACCELERATOR = "gpu"
"""The pool of everything that fills an accelerator: one at a time, across all processes of the instance."""

CROPS, SHARDS = "crops/*.json", "shards/index.json"
"""The descriptions of the files that public training reads. The versions of the stages `crops` and `shards` would not
do: they change with every client that joins, leaves or is dealt anew, which changes nothing here."""


@dg.asset(group_name=GROUP, kinds={"pytorch"}, deps=[every_partition(crops)], pool=ACCELERATOR)
@retried
def vae(run: dg.ResourceParam[Run]) -> dg.MaterializeResult:
    """Frames to latents and back: the small f8 autoencoder, trained here, or a pretrained one, scaled here."""
    from evaluation.results.run_files import parameter_count
    from training.learning.lending import lent_version
    from training.model.autoencoders.sources import source_version

    folder, source = run.folder, run.training.vae.source
    stage = run.stage(
        vae,
        partial(train_autoencoder, run),
        settings=[run.training.vae, source_version(source), *lent_version(run.training, "vae")],
        versions={"crops": public_version(folder, CROPS)},
        outputs=lambda: [folder.model("vae")],
    )
    faces = coded_faces(folder)
    return dg.MaterializeResult(
        metadata={
            "source": source,
            "parameters": parameter_count(folder.model("vae") / NETWORK_WEIGHTS),
            **({"true faces, and coded": picture(faces)} if faces.exists() else {}),
        },
        data_version=dg.DataVersion(stage.version),
    )


def train_autoencoder(run: Run) -> None:
    """Train the autoencoder, or take a pretrained or lent one; write it with its card and a sheet of coded faces."""
    from preparation.media.previews import for_show
    from training.adapters.cards import public_card
    from training.learning.lending import borrow
    from training.learning.public import make_vae

    folder, settings = run.folder, run.training.vae
    if borrow(folder, run.training, "vae"):
        return
    make_vae(folder, settings, run.seed, workers=run.workers).save(folder.model("vae"))
    what = "An autoencoder that turns the crops of talking heads into latents and back."
    public_card(folder, "Autoencoder", what, {"source": settings.source}).write(folder.model("vae"))
    with for_show("the sheet of coded faces"):
        save_coded_faces(folder)


@dg.asset(group_name=GROUP, kinds={"pytorch"}, deps=[every_partition(crops)], pool=ACCELERATOR)
@retried
def rulers(run: dg.ResourceParam[Run]) -> dg.MaterializeResult:
    """Two small networks that measure mouth opening and identity, trained on the public split only."""
    from training.learning.lending import lent_version

    folder = run.folder.model("rulers")
    stage = run.stage(
        rulers,
        partial(train_rulers, run),
        settings=lent_version(run.training, "rulers"),
        versions={"crops": public_version(run.folder, CROPS)},
        outputs=lambda: [folder],
    )
    return dg.MaterializeResult(
        metadata={
            "opening ruler": dg.MetadataValue.path(folder / "opening"),
            "identity ruler": dg.MetadataValue.path(folder / "identity"),
        },
        data_version=dg.DataVersion(stage.version),
    )


def train_rulers(run: Run) -> None:
    from training.adapters.cards import public_card
    from training.learning.lending import borrow
    from training.learning.public import read_public_frames
    from training.model.frozen.rulers import train_identity_ruler, train_opening_ruler

    if borrow(run.folder, run.training, "rulers"):
        return
    public = read_public_frames(run.folder)
    opening = train_opening_ruler(public.frames, public.openings, seed=run.seed, workers=run.workers)
    identity = train_identity_ruler(public.frames, public.speakers, seed=run.seed, workers=run.workers)
    for ruler, name, measured in (
        (opening, "opening", "how far the mouth in an aligned crop is open, in inter-ocular distances"),
        (identity, "identity", "whose face an aligned crop shows, as an embedding to compare by its cosine"),
    ):
        home = run.folder.model("rulers") / name
        ruler.save(home)
        facts = {"parameters": f"{sum(p.numel() for p in ruler.parameters()):,}"}
        what = f"A small network that measures {measured}."
        public_card(run.folder, f"Ruler: {name}", what, facts).write(home)


@dg.asset(group_name=GROUP, kinds={"pytorch"}, deps=[every_partition(shards)], pool=ACCELERATOR)
@retried
def backbone(run: dg.ResourceParam[Run]) -> dg.MaterializeResult:
    """The latent video diffusion backbone, pretrained on public speakers; from here on it is frozen."""
    from evaluation.figures.charts import curves
    from evaluation.results.run_files import parameter_count
    from training.learning.lending import lent_version
    from training.model.backbones.sources import sources_version

    folder, settings = run.folder, run.training
    home = folder.model("backbone")
    stage = run.stage(
        backbone,
        partial(pretrain_backbone, run),
        settings=[
            settings.backbone,
            sources_version(settings.backbone),
            settings.objective.in_pretraining(),
            settings.pretraining,
            *lent_version(settings, "backbone"),
        ],
        versions={"shards": public_version(folder, SHARDS)},
        outputs=lambda: [home],
    )
    rows = json.loads((home / CURVE).read_text(encoding="utf-8"))
    return dg.MaterializeResult(
        metadata={
            "validation loss": rows[-1]["validation_loss"],
            "parameters": parameter_count(home / NETWORK_WEIGHTS),
            "curve": drawing(curves({name: _points(rows, name) for name in LOSSES}, "step", "loss")),
            "history": table(rows),
        },
        data_version=dg.DataVersion(stage.version),
    )


def pretrain_backbone(run: Run) -> None:
    from training.adapters.cards import public_card
    from training.learning.lending import borrow
    from training.learning.pretraining import curve, pretrain
    from training.learning.public import read_public_validation, stream_public
    from training.model.device import choose_device

    folder, settings = run.folder, run.training
    if borrow(folder, settings, "backbone"):
        return
    home = folder.model("backbone")
    model, history = pretrain(
        lambda: stream_public(folder),
        read_public_validation(folder),
        settings.backbone,
        settings.objective,
        settings.pretraining,
        run.seed,
        choose_device(),
        run.workers,
    )
    model.save(home)
    facts = {"kind": settings.backbone.kind, "parameters": f"{sum(p.numel() for p in model.parameters()):,}"}
    what = "A latent video diffusion backbone that draws talking heads from speech and one picture."
    public_card(folder, "Backbone", what, facts).write(home)
    write_text(home / CURVE, json.dumps(curve(history), indent=1) + "\n")


def _points(rows: list[dict[str, float]], name: str) -> list[tuple[float, float]]:
    return [(row["step"], row[name]) for row in rows if row.get(name) is not None]
