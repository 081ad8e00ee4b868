"""Which adapter serves whom."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from common.folders import RunFolder
from evaluation.measuring import models
from evaluation.measuring.models import has_personal, open_model
from preparation.clients.consent import Consent, now, write_consent
from training.adapters.adapter import Adapter
from training.model.autoencoders.small import SmallVae
from training.model.backbones.interface import Backbone, BackboneShape
from training.model.backbones.tiny import TinyBackbone
from training.settings import AdapterSettings, BackboneSettings, TrainingSettings, VaeSettings

SHAPE = BackboneShape(latent_channels=4, latent_size=8, speech_steps=6, speech_dim=10, motion_dim=12)


ADAPTER = AdapterSettings(rank=2)


def value_of(denoiser: Backbone, run: RunFolder) -> float:
    """The value that all numbers in A and B have: what is merged is W + alpha / rank B A = W + alpha value^2."""
    query = "blocks.0.space.to_q.weight"
    added = denoiser.get_parameter(query) - TinyBackbone.load(run.model("backbone")).get_parameter(query)
    torch.testing.assert_close(added, added.mean().expand_as(added))
    return (added.mean().item() / ADAPTER.alpha) ** 0.5


def test_a_client_with_an_adapter_of_its_own_is_served_by_it_and_a_stranger_by_the_shared_one(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    TinyBackbone(BackboneSettings(width=16, depth=1, heads=2, window=4), SHAPE).save(run.model("backbone"))
    SmallVae(VaeSettings(widths=(8, 16), blocks=1, latent_channels=4)).save(run.model("vae"))
    adapter = Adapter(TinyBackbone.load(run.model("backbone")), ADAPTER, seed=0)
    for value, folder in ((0.1, run.adapter("local")), (0.2, run.client_adapter("c0", "local"))):
        adapter.save(folder, 0 * adapter.vector() + value, {})
    write_consent(run, "c0", Consent(who="Ada", granted=now()))
    denoiser_of = open_model(run, "local", TrainingSettings(), seed=0).denoiser
    assert denoiser_of is not None
    for client, value in (("c0", 0.2), ("stranger", 0.1), ("c0", 0.2)):
        assert value_of(denoiser_of(client), run) == pytest.approx(value, rel=1e-4)
    # What one method leaves to a client is not another's.
    adapter.save(run.adapter("fedavg"), 0 * adapter.vector() + 0.3, {})
    fedavg = open_model(run, "fedavg", TrainingSettings(), seed=0).denoiser
    assert fedavg is not None
    assert value_of(fedavg("c0"), run) == pytest.approx(0.3, rel=1e-4)
    # A method that has a shared adapter is that one; what its clients made of it has a name of its own.
    assert not has_personal(run, "fedavg") and not has_personal(run, "local") and not has_personal(run, "backbone")
    adapter.save(run.client_adapter("c0", "fedavg"), 0 * adapter.vector() + 0.4, {})
    assert has_personal(run, "fedavg")
    for name, of_client in (("fedavg", 0.3), ("fedavg_personal", 0.4)):
        opened = open_model(run, name, TrainingSettings(), seed=0).denoiser
        assert opened is not None
        assert value_of(opened("c0"), run) == pytest.approx(of_client, rel=1e-4)
        assert value_of(opened("stranger"), run) == pytest.approx(0.3, rel=1e-4)


def test_networks_lie_where_the_device_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine with a GPU an evaluation must use it; `meta` stands for a device that is not the default."""
    run = RunFolder(tmp_path)
    TinyBackbone(BackboneSettings(width=16, depth=1, heads=2, window=4), SHAPE).save(run.model("backbone"))
    SmallVae(VaeSettings(widths=(8, 16), blocks=1, latent_channels=4)).save(run.model("vae"))
    adapter = Adapter(TinyBackbone.load(run.model("backbone")), ADAPTER, seed=0)
    adapter.save(run.adapter("fedavg"), adapter.vector(), {})
    monkeypatch.setattr(models, "choose_device", lambda: torch.device("meta"))
    for name in ("backbone", "fedavg", "noise"):
        denoiser_of = open_model(run, name, TrainingSettings(), seed=0).denoiser
        assert denoiser_of is not None
        assert {parameter.device.type for parameter in denoiser_of("c0").parameters()} == {"meta"}, name
