"""A run without public people uses another run's networks, and says early what does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from common.errors import PrivFedTalkError
from common.folders import RunFolder
from preparation.clients.roles import load_clients, save_clients
from preparation.corpora.clip import Clip
from preparation.corpora.manifest import save_manifest
from tests.training.small_federation import save_public
from tests.training.test_readiness import WINDOW, add, settings_of
from training.learning.lending import Network, borrow, check_lender, lent_version
from training.learning.public import read_federation_validation
from training.model.backbones.kinds import load_backbone
from training.model.backbones.tiny import TinyBackbone
from training.model.frozen.rulers import IdentityRuler, OpeningRuler
from training.pipeline import federate
from training.readiness import NotReadyError, check_ready
from training.settings import TrainingSettings


@pytest.fixture
def lender(tmp_path: Path, backbone: TinyBackbone) -> RunFolder:
    run = RunFolder(tmp_path / "lender")
    save_clients(save_public(run, backbone), run.clients_table)
    OpeningRuler(width=8).save(run.model("rulers") / "opening")
    IdentityRuler(width=8, embedding=8).save(run.model("rulers") / "identity")
    add(run, "p0", "validation", role="public")
    save_manifest([clip_of("p0", "public")], run.manifest)
    return run


@pytest.fixture
def borrower(tmp_path: Path, lender: RunFolder) -> RunFolder:
    """One client, and nobody public."""
    run = RunFolder(tmp_path / "mine")
    add(run, "anna", "train", "validation", "test")
    save_manifest([clip_of("anna", "own")], run.manifest)
    for network in get_args(Network):
        assert borrow(run, lent_by(lender), network)
    return run


def clip_of(speaker: str, sound: str) -> Clip:
    path, digest = f"{speaker}/0.mp4", f"{speaker}'s"
    source = ("folder", "", 50, 25.0, 96, 96, 2.0, 16000, 1)
    return Clip(f"{speaker}/0", speaker, path, *source, digest, None, None, sound_sha256=sound)


def lent_by(lender: RunFolder | None) -> TrainingSettings:
    return settings_of().model_copy(update={"public_run": None if lender is None else lender.root})


def test_a_run_of_one_client_trains_on_lent_networks(lender: RunFolder, borrower: RunFolder) -> None:
    settings = lent_by(lender)
    check_ready(borrower, settings)
    result = federate(borrower, "fedavg", settings, 0, resume=False)
    assert result.records[0].public_validation_loss > 0
    assert (borrower.adapter("fedavg") / "adapter_model.safetensors").exists()
    ours, theirs = (read_federation_validation(run, lender) for run in (borrower, lender))
    assert [len(clip.latents) for clip in ours] == [len(clip.latents) for clip in theirs]


def test_without_a_lender_nothing_is_borrowed_and_public_people_are_missed(borrower: RunFolder) -> None:
    assert not borrow(borrower, lent_by(None), "vae") and lent_version(lent_by(None), "vae") == []
    with pytest.raises(NotReadyError, match="0 public speakers with a usable clip"):
        check_ready(borrower, lent_by(None))


def test_a_lender_without_networks_or_people_is_refused(lender: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(PrivFedTalkError, match="has no vae to lend"):
        check_lender(lent_by(RunFolder(tmp_path / "nobody")))
    table = load_clients(lender.people_table)
    save_clients({name: one for name, one in table.items() if one.role != "public"}, lender.people_table)
    with pytest.raises(PrivFedTalkError, match="no held-out public speaker"):
        check_lender(lent_by(lender))


def test_networks_made_for_other_samples_are_said_before_training(lender: RunFolder, borrower: RunFolder) -> None:
    settings = lent_by(lender)
    longer = settings.model_copy(update={"backbone": settings.backbone.model_copy(update={"window": WINDOW + 2})})
    with pytest.raises(NotReadyError, match=f"window {WINDOW + 2} where the lent backbone has {WINDOW}"):
        check_ready(borrower, longer)


def test_a_recording_that_taught_the_lent_networks_is_nobodys_client(lender: RunFolder, borrower: RunFolder) -> None:
    save_manifest([clip_of("anna", "public")], borrower.manifest)
    with pytest.raises(NotReadyError, match=r"1 clip of this run \(anna/0\) taught the networks"):
        check_ready(borrower, lent_by(lender))


def test_other_weights_are_another_version(lender: RunFolder) -> None:
    before = lent_version(lent_by(lender), "backbone")
    backbone = load_backbone(lender.model("backbone"))
    assert isinstance(backbone, TinyBackbone)
    backbone.place.data += 1
    backbone.save(lender.model("backbone"))
    assert lent_version(lent_by(lender), "backbone") != before
