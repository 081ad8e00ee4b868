"""Adapters that travel: what is read of them, what goes along, and that another backbone refuses them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.numpy import load_file

from common.errors import PrivFedTalkError
from common.folders import ADAPTER_RECORD, RunFolder
from evaluation.results.card import card_figures
from tests.training.small_run import make_run
from training.adapters.adapter import weights_sha256
from training.adapters.folders import export_adapter, import_adapter, inspect_adapter
from training.generation.talker import adapter_folder
from training.model.backbones.kinds import load_backbone


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return make_run(tmp_path / "run")


def test_what_is_read_agrees_with_the_weights(run: RunFolder) -> None:
    facts = inspect_adapter(run.adapter("privfedtalk"), run)
    tensors = load_file(run.adapter("privfedtalk") / "adapter_model.safetensors")
    assert facts.parameters == sum(tensor.size for tensor in tensors.values()) == facts.recorded["parameters"]
    assert (facts.rank, facts.tensors, facts.privacy) == (2, len(tensors), "epsilon 3")
    assert facts.base_sha256 == weights_sha256(load_backbone(run.model("backbone")))
    assert inspect_adapter(run.client_adapter("c0000", "privfedtalk")).client == "c0000"


def test_an_exported_adapter_has_a_card_and_peft_loads_it(run: RunFolder, tmp_path: Path) -> None:
    figures = {"lip_correlation": 0.93, "lip_correlation_se": 0.01}
    results = {"methods": {"privfedtalk": {"psnr": 23.4}}, "methods_unseen": {"privfedtalk": figures}}
    run.results.write_text(json.dumps(results | {"corpus": {"kind": "studio"}}))
    facts = export_adapter(run, run.adapter("privfedtalk"), tmp_path / "out", card_figures)
    card = (tmp_path / "out" / "README.md").read_text()
    for said in (facts.base_sha256, "epsilon 3", "| Lip correlation | 0.930 |", "corpus: studio", "peft"):
        assert said in card
    assert "23.4" not in card  # measured on clients' held-out clips, which no budget protects
    assert "Intended use" in card and "Licence" in card
    model = PeftModel.from_pretrained(load_backbone(run.model("backbone")), str(tmp_path / "out"))
    assert any("lora_A" in name for name, _ in model.named_parameters())
    with pytest.raises(PrivFedTalkError, match="not an empty folder"):
        export_adapter(run, run.adapter("privfedtalk"), tmp_path / "out", card_figures)


def test_figures_of_the_adapter_before_are_not_on_the_card(run: RunFolder, tmp_path: Path) -> None:
    own = run.adapter("privfedtalk")
    of_before = {"methods_unseen": {"privfedtalk": {"lip_correlation": 0.93}}, "corpus": {"kind": "studio"}}
    for number, (sha256, shown) in enumerate(((inspect_adapter(own).sha256, True), ("0" * 64, False))):
        run.results.write_text(json.dumps(of_before | {"adapters": {"privfedtalk": sha256}}))
        export_adapter(run, own, tmp_path / str(number), card_figures)
        card = (tmp_path / str(number) / "README.md").read_text()
        assert ("0.93" in card) is shown and ("Not evaluated" in card) is not shown


def test_an_imported_adapter_never_gets_the_figures_of_the_run_it_lies_in(run: RunFolder, tmp_path: Path) -> None:
    export_adapter(run, run.adapter("privfedtalk"), tmp_path / "out", card_figures)
    theirs = import_adapter(run, tmp_path / "out", "theirs")
    figures = {"psnr": 23.4}
    run.results.write_text(json.dumps({"methods_unseen": {"privfedtalk": figures}, "corpus": {"kind": "studio"}}))
    export_adapter(run, theirs, tmp_path / "again", card_figures)
    for folder in (theirs, tmp_path / "again"):
        card = (folder / "README.md").read_text()
        assert "23.4" not in card and "corpus: studio" not in card
        assert "Unknown: it was trained in another run" in card and "epsilon 3" in card


def test_a_card_lies_beside_every_adapter(run: RunFolder) -> None:
    shared = (run.adapter("privfedtalk") / "README.md").read_text()
    assert "Not evaluated" in shared and "many clients" in shared
    own = (run.client_adapter("c0000", "privfedtalk") / "README.md").read_text()
    assert "one client's clips" in own and "No guarantee is recorded" in own
    assert "c0000" not in own  # a card travels; a name need not


def test_a_clients_own_adapter_travels_without_its_name_and_is_known_where_the_client_is(
    run: RunFolder, tmp_path: Path
) -> None:
    own = run.client_adapter("c0000", "privfedtalk")
    assert export_adapter(run, own, tmp_path / "out", card_figures).client == "c0000"
    assert all(b"c0000" not in path.read_bytes() for path in (tmp_path / "out").iterdir())
    assert inspect_adapter(tmp_path / "out").client == "a client of another run"
    assert "fitted by privfedtalk to one client's clips" in (tmp_path / "out" / "README.md").read_text()
    back = import_adapter(run, tmp_path / "out", "back")
    assert inspect_adapter(back, run).client == "c0000"
    export_adapter(run, back, tmp_path / "again", card_figures)
    assert (tmp_path / "again" / ADAPTER_RECORD).read_bytes() == (tmp_path / "out" / ADAPTER_RECORD).read_bytes()
    elsewhere = make_run(tmp_path / "elsewhere", client="c0009")
    theirs = import_adapter(elsewhere, tmp_path / "out", "theirs")
    assert inspect_adapter(theirs, elsewhere).client == "a client of another run"


def test_an_adapter_is_imported_where_its_backbone_is_and_nowhere_else(run: RunFolder, tmp_path: Path) -> None:
    export_adapter(run, run.adapter("privfedtalk"), tmp_path / "out", card_figures)
    target = import_adapter(run, tmp_path / "out", "theirs")
    assert adapter_folder(run, "privfedtalk", "theirs") == target
    assert inspect_adapter(target).sha256 == inspect_adapter(run.adapter("privfedtalk")).sha256
    for name, said in (("theirs", "theirs is taken"), ("global", "global is taken"), ("../x", "cannot be called")):
        with pytest.raises(PrivFedTalkError, match=said):
            import_adapter(run, tmp_path / "out", name)
    other = make_run(tmp_path / "other")
    backbone = load_backbone(other.model("backbone"))
    assert isinstance(backbone.place, torch.Tensor)
    backbone.place.data += 1
    backbone.save(other.model("backbone"))
    with pytest.raises(PrivFedTalkError, match="was trained on backbone"):
        import_adapter(other, tmp_path / "out", "theirs")
    assert not other.imported("theirs").exists()


def test_what_is_no_adapter_is_named(run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(PrivFedTalkError, match=r"has no adapter_model\.safetensors"):
        inspect_adapter(tmp_path)
    folder = run.adapter("privfedtalk")
    (folder / "adapter_model.safetensors").write_bytes(np.zeros(3).tobytes())
    with pytest.raises(PrivFedTalkError, match="cannot be read"):
        inspect_adapter(folder)


def test_an_interrupted_export_leaves_nothing_that_could_be_taken_for_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    run = make_run(tmp_path / "mine")
    with monkeypatch.context() as stopped:
        stopped.setattr("training.adapters.folders.adapter_card", interrupt)  # what is written last
        with pytest.raises(KeyboardInterrupt):
            export_adapter(run, run.adapter("privfedtalk"), tmp_path / "out" / "new", card_figures)
    assert list((tmp_path / "out").iterdir()) == []
    (tmp_path / "out" / "new").mkdir()  # an empty folder is taken
    export_adapter(run, run.adapter("privfedtalk"), tmp_path / "out" / "new", card_figures)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["new"]
