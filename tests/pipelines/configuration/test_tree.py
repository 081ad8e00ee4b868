"""Every profile loads; a run remembers its configuration; real faces never get seeded noise."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from common.errors import PrivFedTalkError
from pipelines import resources
from pipelines.configuration.reader import flatten, read_yaml
from pipelines.configuration.settings import list_settings
from pipelines.configuration.tree import (
    PROFILES,
    PROJECT,
    Configuration,
    configure,
    load,
    profiles,
    remember,
    remembered,
)
from pipelines.resources import default_run, open_run
from preparation.speech.networks import check_model
from training.model.autoencoders.sources import check_source
from training.model.backbones.sources import check_sources


@pytest.mark.parametrize("profile", profiles())
def test_a_profile_loads_holds_only_differences_and_opens_with_its_command(profile: str) -> None:
    loaded = load(profile)
    lines = (PROFILES / f"{profile}.yaml").read_text().splitlines()
    assert lines[0].startswith("# privfedtalk ")
    defaults = flatten(Configuration().model_dump(mode="json"))
    differences = flatten(read_yaml(PROFILES / f"{profile}.yaml"))
    values = flatten(loaded.model_dump(mode="json"))
    assert differences
    assert all(key in values and values[key] != defaults[key] for key in differences)


def test_the_profile_of_stable_diffusion_is_what_its_weights_were_trained_to() -> None:
    chosen = load("sd15")
    backbone = chosen.training.backbone
    assert (backbone.kind, backbone.prediction, backbone.schedule, backbone.diffused) == (
        "sd15",
        "epsilon",
        "stable_diffusion",
        "latent",
    )
    assert chosen.preparation.crops.size == 256 and backbone.window == 16
    assert chosen.training.adapter.targets == "attention"
    # The three networks are named, in a form that folders or the hub can answer.
    check_source(chosen.training.vae.source)
    check_model(chosen.preparation.speech)
    check_sources(backbone)


@pytest.mark.parametrize("profile", ["paper", "sd15"])
def test_profiles_of_long_runs_on_a_gpu_compute_as_was_measured_to_be_fast(profile: str) -> None:
    chosen = load(profile).training.compute
    assert chosen.compile and chosen.channels_last and chosen.frozen_bfloat16 and not chosen.gradient_checkpointing


def test_every_listed_setting_can_be_set() -> None:
    listed = [setting.assignment for setting in list_settings(load("small"))]
    assert load("small", listed) == load("small")


def test_the_seed_reaches_every_group_that_does_not_name_its_own() -> None:
    configuration = load("demo", ["seed=7", "preparation.clients.seed=3"])
    assert configuration.studio.seed == configuration.evaluation.seed == 7
    assert configuration.preparation.clients.seed == 3


def test_seeded_noise_is_refused_for_people() -> None:
    real = ["corpus.kind=folder", "corpus.root=clips"]
    with pytest.raises(PrivFedTalkError, match="rendered data only"):
        load("demo", real)
    assert load("demo", [*real, "training.privacy.seeded_noise=null"]).training.privacy.seeded_noise is None


def test_a_corpus_that_is_not_rendered_needs_a_root() -> None:
    with pytest.raises(PrivFedTalkError, match=r"needs corpus\.root"):
        load("demo", ["corpus.kind=lrs3", "training.privacy.seeded_noise=null"])


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("training.methods=[fedsgd]", "unknown method 'fedsgd'; choose one of privfedtalk, fedavg, .*, paper_literal"),
        ("training.components={fedsgd: [dp]}", "unknown method 'fedsgd'"),
        ("evaluation.instruments=[vmaf]", "unknown instrument 'vmaf'; choose of flow, light_asd, .*, i3d"),
    ],
)
def test_an_unknown_method_or_instrument_names_the_known_ones(override: str, said: str) -> None:
    with pytest.raises(PrivFedTalkError, match=said):
        load("demo", [override])


def test_an_unknown_profile_names_the_known_ones() -> None:
    with pytest.raises(PrivFedTalkError, match="demo, faces, paper, sd15, small"):
        load("large")


def test_a_run_remembers_its_configuration(tmp_path: Path) -> None:
    made = load("small", [f"data={tmp_path}", "run=mine", "seed=5", "training.adapter.rank=3"])
    remember(made)
    assert load(remembered(tmp_path / "mine")) == made


def test_params_name_a_profile_that_loads() -> None:
    resource = default_run()
    run = open_run(configure(resource.profile, resource.overrides), keep=False)
    assert run.folder.root == PROJECT / "data" / "demo"
    assert run.corpus_root == run.folder.corpus


def test_removal_is_not_remembered(tmp_path: Path) -> None:
    chosen = load("demo", [f"data={tmp_path}", "preparation.corpus.forget_absent=true", "preparation.crops.size=64"])
    remember(chosen)
    again = load(remembered(chosen.root), [f"data={tmp_path}"])
    assert chosen.preparation.corpus.forget_absent and not again.preparation.corpus.forget_absent
    assert again.preparation.crops.size == 64


@pytest.mark.parametrize("kind", ["missing", "folder", "latin-1"])
def test_parameters_that_cannot_be_read_name_their_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = tmp_path / "my params.yaml"
    if kind == "folder":
        path.mkdir()
    elif kind == "latin-1":
        path.write_bytes("profile: Zoë".encode("latin-1"))
    monkeypatch.setattr(resources, "PARAMS", path)
    monkeypatch.setenv(resources.VARIABLE, str(path))
    with pytest.raises(PrivFedTalkError, match="PRIVFEDTALK_PARAMS names") as refused:
        default_run()
    assert "my params.yaml" in refused.value.reason and "PRIVFEDTALK_PARAMS" in refused.value.remedy


def test_parameters_keep_text_as_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("profile: small\nset: {run: 2026-11-29, training.vae.source: 0123, seed: 7}\n")
    monkeypatch.setattr(resources, "PARAMS", path)
    found = resources.default_configuration()
    assert (found.run, found.training.vae.source, found.seed) == ("2026-11-29", "0123", 7)


def test_what_a_run_keeps_is_readable_by_its_owner_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o777 & ~0o700)
    try:
        remember(load("small", [f"data={tmp_path}", "run=Mäße #2 😀"]))
    finally:
        os.umask(before)
    kept = remembered(tmp_path / "Mäße #2 😀")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600 and load(kept).run == "Mäße #2 😀"
