"""What an adapter must be to be used: all layers or all of attention, and of a size that half precision has."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from common.errors import PrivFedTalkError
from common.folders import ADAPTER_CONFIG, ADAPTER_RECORD, ADAPTER_WEIGHTS, RunFolder
from evaluation.results.card import card_figures
from tests.training.small_run import LAYER, change, make_run
from training.adapters.adapter import load_adapted
from training.adapters.folders import export_adapter, import_adapter
from training.model.backbones.kinds import load_backbone


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return make_run(tmp_path_factory.mktemp("run") / "run")


def rewrite(folder: Path, tensors: dict[str, np.ndarray]) -> None:
    save_file(tensors, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})


def test_an_adapter_of_some_of_the_layers_is_refused(run: RunFolder, foreign: Path) -> None:
    """Whole in itself, and half of a face."""
    change(foreign / ADAPTER_CONFIG, target_modules=["to_q", "to_k"])
    tensors = load_file(foreign / ADAPTER_WEIGHTS)
    rewrite(foreign, {name: value for name, value in tensors.items() if ".to_q." in name or ".to_k." in name})
    change(foreign / ADAPTER_RECORD, parameters=1)
    said = r"a part of the backbone alone: target_modules leaves blocks\.0\."
    with pytest.raises(PrivFedTalkError, match=said):
        import_adapter(run, foreign, "half")
    with pytest.raises(PrivFedTalkError, match=said):
        load_adapted(load_backbone(run.model("backbone")), foreign)


def test_an_adapter_that_was_never_trained_is_one(run: RunFolder, foreign: Path) -> None:
    """B is zero until the first round; what it changes is nothing."""
    tensors = load_file(foreign / ADAPTER_WEIGHTS)
    rewrite(foreign, {name: 0 * value if "lora_B" in name else value for name, value in tensors.items()})
    target = import_adapter(run, foreign, "untrained")
    load_adapted(load_backbone(run.model("backbone")), target)
    shutil.rmtree(target)


def test_large_factors_whose_product_is_small_pass(run: RunFolder, foreign: Path) -> None:
    """The bound by norms alone would refuse them."""
    a, b = np.zeros((2, 16), np.float32), np.zeros((16, 2), np.float32)
    a[0], b[:, 1] = 1e4, 1e4
    rewrite(foreign, load_file(foreign / ADAPTER_WEIGHTS) | {f"{LAYER}.lora_A.weight": a, f"{LAYER}.lora_B.weight": b})
    shutil.rmtree(import_adapter(run, foreign, "apart"))


@pytest.mark.parametrize(("a", "b"), [(7e4, 0.0), (300.0, -300.0), (0.0, np.nan)])
def test_what_a_run_holds_already_is_checked_before_it_is_used_or_exported(tmp_path: Path, a: float, b: float) -> None:
    run = make_run(tmp_path / "run")
    own = run.adapter("privfedtalk")
    spoilt = {"lora_A": np.full((2, 16), a, np.float32), "lora_B": np.full((16, 2), b, np.float32)}
    rewrite(own, load_file(own / ADAPTER_WEIGHTS) | {f"{LAYER}.{name}.weight": value for name, value in spoilt.items()})
    with pytest.raises(PrivFedTalkError, match=r"half precision|not finite"):
        load_adapted(load_backbone(run.model("backbone")), own)
    with pytest.raises(PrivFedTalkError, match=r"half precision|not finite"):
        export_adapter(run, own, tmp_path / "out", card_figures)
    assert not (tmp_path / "out").exists()


def test_an_adapter_of_another_backbone_is_not_exported(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    own = run.adapter("privfedtalk")
    change(own / ADAPTER_RECORD, base_sha256="0" * 64)
    with pytest.raises(PrivFedTalkError, match="was trained on backbone 000000000000"):
        export_adapter(run, own, tmp_path / "out", card_figures)
    assert not (tmp_path / "out").exists()
