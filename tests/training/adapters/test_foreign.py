"""Adapters from strangers: whatever is no plain LoRA for the run's own backbone is refused before it is loaded."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from peft import LoraConfig
from safetensors.numpy import load_file, save_file

from common.errors import PrivFedTalkError
from common.folders import ADAPTER_CONFIG, ADAPTER_RECORD, ADAPTER_WEIGHTS, RunFolder
from evaluation.results.card import card_figures
from tests.training.small_run import LAYER, change, make_run
from training.adapters.adapter import Adapter, load_adapted
from training.adapters.checks import FEATURES_OFF
from training.adapters.folders import export_adapter, import_adapter, inspect_adapter
from training.model.backbones.kinds import load_backbone
from training.model.backbones.tiny import TinyBackbone
from training.settings import AdapterSettings

Values = dict[str, Any]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return make_run(tmp_path_factory.mktemp("run") / "run")


def refuse(run: RunFolder, folder: Path, said: str) -> None:
    """Import, and loading without an import, are refused within a second or two, and nothing is left in the run."""
    began = time.monotonic()
    with pytest.raises(PrivFedTalkError, match=said):
        import_adapter(run, folder, "theirs")
    with pytest.raises(PrivFedTalkError, match=said):
        load_adapted(load_backbone(run.model("backbone")), folder)
    assert time.monotonic() - began < 5
    assert not run.imported("theirs").exists()
    assert not list(run.root.glob("imported/.*"))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"target_modules": ".*"}, "target_modules"),
        ({"target_modules": "all-linear"}, "target_modules"),
        ({"target_modules": [".*to_q"]}, "target_modules"),
        ({"target_modules": []}, "target_modules"),
        ({"target_modules": ["to_q"] * 3}, "target_modules"),
        ({"target_modules": ["nowhere"]}, "target_modules"),
        ({"target_modules": ["space.to_q"]}, "target_modules"),
        ({"target_modules": ["to_q"]}, "target_modules"),
        ({"r": 2_000_000}, "rank"),
        ({"r": 0}, "rank"),
        ({"r": True}, "r is"),
        ({"r": 2.0}, "r is"),
        ({"r": "2"}, "r is"),
        ({"r": 3}, "rank"),
        ({"lora_alpha": 1e39}, "lora_alpha"),
        ({"lora_alpha": -1}, "lora_alpha"),
        ({"lora_alpha": "8"}, "lora_alpha"),
        ({"rank_pattern": {"^(a+)+": 2}}, "rank_pattern"),
        ({"rank_pattern": {".*": 2}}, "rank_pattern"),
        ({"rank_pattern": {"to_q": 2}}, "rank_pattern"),
        ({"rank_pattern": {r"^blocks\.0\.space\.to_q|.*": 2}}, "rank_pattern"),
        ({"rank_pattern": {"^blocks.0.space.to_q": 2}}, "rank_pattern"),
        ({"rank_pattern": {r"^blocks\.9\.space\.to_q": 2}}, r"blocks\.9"),
        ({"rank_pattern": {r"^blocks\.0\.space\.to_q": 2_000_000}}, "rank"),
        ({"rank_pattern": {r"^blocks\.0\.space\.to_q": 1}}, "rank"),
        ({"rank_pattern": [2]}, "rank_pattern"),
        ({"alpha_pattern": {"(x+x+)+y": 8.0}}, "alpha_pattern"),
        ({"alpha_pattern": {r"^blocks\.0\.space\.to_q": 1e300}}, "alpha_pattern"),
        ({"modules_to_save": ["patch_out"]}, "modules_to_save"),
        ({"layer_replication": [[0, 1]]}, "layer_replication"),
        ({"use_rslora": True}, "use_rslora"),
        ({"use_dora": True}, "use_dora"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"exclude_modules": "(a+)+$"}, "exclude_modules"),
        ({"base_model_name_or_path": "someone/model"}, "base_model_name_or_path"),
        ({"auto_mapping": {"base_model_class": "X", "parent_library": "os"}}, "auto_mapping"),
        ({"peft_type": "IA3"}, "peft_type"),
        ({"trust_remote_code": True}, "trust_remote_code"),
        ({"bias": "all"}, "bias"),
    ],
    ids=str,
)
def test_a_configuration_that_is_no_plain_lora_is_refused(
    run: RunFolder, foreign: Path, values: Values, said: str
) -> None:
    change(foreign / ADAPTER_CONFIG, **values)
    refuse(run, foreign, said)


@pytest.mark.parametrize("library", ["training.backbone.tiny", "training.model.backbones.tiny"])
def test_an_adapter_is_read_whatever_its_makers_backbone_module_was_called(
    run: RunFolder, foreign: Path, library: str
) -> None:
    change(foreign / ADAPTER_CONFIG, auto_mapping={"base_model_class": "TinyBackbone", "parent_library": library})
    shutil.rmtree(import_adapter(run, foreign, "theirs"))


@pytest.mark.parametrize("target", ["nowhere", "space.to_q", "norm"])
def test_a_layer_that_the_backbones_adapters_do_not_change_is_named(run: RunFolder, foreign: Path, target: str) -> None:
    change(foreign / ADAPTER_CONFIG, target_modules=[*inspect_adapter(foreign).targets, target])
    refuse(run, foreign, re.escape(f"target_modules has {target}, which"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 30_000 + "]" * 30_000, "cannot be read"),
        ('{"r": NaN}', "NaN"),
        ('{"r": 1, "r": 2}', "twice"),
        ("[]", "no object"),
        ("{" + " " * 2_000_000 + "}", "larger than"),
        ('{"r": ' + "9" * 5000 + "}", "cannot be read"),
        ("\ud800", "cannot be read"),
    ],
    ids=["deep", "nan", "twice", "list", "large", "digits", "utf-8"],
)
@pytest.mark.parametrize("name", [ADAPTER_CONFIG, ADAPTER_RECORD])
def test_json_that_is_not_what_it_should_be_is_refused(
    run: RunFolder, foreign: Path, name: str, text: str, said: str
) -> None:
    (foreign / name).write_bytes(text.encode(errors="surrogatepass"))
    refuse(run, foreign, said)


def tensors_with(change: Callable[[dict[str, np.ndarray]], None]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        tensors = load_file(folder / ADAPTER_WEIGHTS)
        change(tensors)
        save_file(tensors, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})

    return apply


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda t: t.pop(f"{LAYER}.lora_A.weight"), "to_q"),
        (lambda t: (t.pop(f"{LAYER}.lora_A.weight"), t.pop(f"{LAYER}.lora_B.weight")), "parameters"),
        (lambda t: t.update({f"{LAYER}.base_layer.weight": np.zeros((16, 16), np.float32)}), "base_layer"),
        (lambda t: t.update({"x\x1b[2J": np.zeros(1, np.float32)}), "tensor"),
        (lambda t: t.update({f"{LAYER}.lora_A.weight": np.zeros((2, 17), np.float32)}), "to_q"),
        (lambda t: t.update({f"{LAYER}.lora_B.weight": np.zeros((2, 16), np.float32)}), "to_q"),
        (lambda t: t.update({f"{LAYER}.lora_A.weight": np.zeros((2, 16), np.float16)}), "F16"),
        (lambda t: t.update({f"{LAYER}.lora_A.weight": np.full((2, 16), np.nan, np.float32)}), "not finite"),
        (lambda t: t.update({f"{LAYER}.lora_A.weight": np.full((2, 16), np.inf, np.float32)}), "not finite"),
        (
            lambda t: t.update(
                {
                    f"{LAYER}.lora_A.weight": np.full((2, 16), 1e30, np.float32),
                    f"{LAYER}.lora_B.weight": np.full((16, 2), 1e30, np.float32),
                }
            ),
            "not finite",
        ),
        (lambda t: t.update({f"{LAYER}.lora_A.weight": np.full((2, 16), 7e4, np.float32)}), "half precision"),
        (lambda t: t.clear(), "to_q|no tensor"),
    ],
    ids=[
        "no A",
        "no pair",
        "base",
        "name",
        "inputs",
        "outputs",
        "half",
        "nan",
        "inf",
        "product",
        "above half",
        "empty",
    ],
)
def test_tensors_that_are_not_those_of_the_configuration_are_refused(
    run: RunFolder, foreign: Path, spoil: Callable[[dict[str, np.ndarray]], None], said: str
) -> None:
    tensors_with(spoil)(foreign)
    refuse(run, foreign, said)


def test_a_rank_that_every_tensor_has_is_bounded_by_the_layers(run: RunFolder, foreign: Path) -> None:
    change(foreign / ADAPTER_CONFIG, r=5000)
    tensors_with(
        lambda t: t.update(
            {
                name: np.zeros((5000, a.shape[1]) if "lora_A" in name else (a.shape[0], 5000), np.float32)
                for name, a in t.items()
            }
        )
    )(foreign)
    refuse(run, foreign, "rank")


def test_text_in_the_weights_file_is_refused(run: RunFolder, foreign: Path) -> None:
    save_file(load_file(foreign / ADAPTER_WEIGHTS), foreign / ADAPTER_WEIGHTS, metadata={"format": "pt", "who": "me"})
    refuse(run, foreign, "metadata")


@pytest.mark.parametrize("name", [ADAPTER_WEIGHTS, ADAPTER_CONFIG, ADAPTER_RECORD])
def test_a_link_is_not_followed(run: RunFolder, foreign: Path, name: str) -> None:
    shutil.move(foreign / name, foreign.parent / name)
    (foreign / name).symlink_to(foreign.parent / name)
    refuse(run, foreign, "no plain file")


def test_a_pipe_is_not_waited_for(run: RunFolder, foreign: Path) -> None:
    (foreign / ADAPTER_CONFIG).unlink()
    os.mkfifo(foreign / ADAPTER_CONFIG)
    refuse(run, foreign, "no plain file")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"client": "../../etc"}, "client"),
        ({"client": "a/b"}, "client"),
        ({"client": ".."}, "client"),
        ({"client": ["c0"]}, "client"),
        ({"client": "x\x1b[2J"}, "client"),
        ({"method": "a\n# title"}, "method"),
        ({"method": "<b>x</b>"}, "method"),
        ({"method": "../x"}, "method"),
        ({"privacy": {"a": 1}}, "privacy"),
        ({"parameters": "1000"}, "parameters"),
        ({"parameters": 10**9}, "parameters"),
        ({"parameters": -1}, "parameters"),
        ({"clients": "<script>"}, "clients"),
        ({"rounds_planned": "many"}, "rounds_planned"),
        ({"federated": "<i>"}, "federated"),
        ({"base_sha256": "a|b"}, "base_sha256"),
    ],
    ids=str,
)
def test_a_record_of_another_shape_is_refused(run: RunFolder, foreign: Path, values: Values, said: str) -> None:
    change(foreign / ADAPTER_RECORD, **values)
    refuse(run, foreign, said)


@pytest.mark.parametrize("name", [ADAPTER_CONFIG, ADAPTER_RECORD])
def test_a_record_or_configuration_that_lacks_something_is_an_adapter_or_an_error_of_ours(
    run: RunFolder, foreign: Path, name: str
) -> None:
    whole = json.loads((foreign / name).read_text())
    for lacking in whole:
        (foreign / name).write_text(json.dumps({key: value for key, value in whole.items() if key != lacking}))
        with contextlib.suppress(PrivFedTalkError):
            shutil.rmtree(import_adapter(run, foreign, "theirs"))
    (foreign / name).write_text("{}")
    refuse(run, foreign, r"base_sha256|r is None")


@pytest.mark.parametrize("depth", [500, 900, 940, 960, 970, 980, 990, 1000])
def test_values_nested_as_deep_as_json_is_read_are_an_error_of_ours(foreign: Path, depth: int) -> None:
    (foreign / ADAPTER_CONFIG).write_text('{"r": ' + "[" * depth + "]" * depth + "}")
    with pytest.raises(PrivFedTalkError):
        inspect_adapter(foreign)


def test_counts_of_older_records_are_left_out(run: RunFolder, foreign: Path) -> None:
    change(foreign / ADAPTER_RECORD, samples="31", prepared_minutes="2.5", rounds="4")
    target = import_adapter(run, foreign, "older")
    kept = json.loads((target / ADAPTER_RECORD).read_text())
    assert not {"samples", "prepared_minutes", "rounds"} & kept.keys()
    shutil.rmtree(target)


CLAIM = "Private: ε = 0.1\n\n# Title\n<script>alert(1)</script> | [link](http://x) `code` [bold red]x[/] \x1b[2J---\n"


def test_what_its_maker_claims_is_shown_as_text_and_as_a_claim(run: RunFolder, foreign: Path, tmp_path: Path) -> None:
    change(foreign / ADAPTER_RECORD, privacy=CLAIM, note="<script>")
    assert inspect_adapter(foreign).privacy.startswith("claimed by its maker: Private: ε = 0.1 # Title")
    target = import_adapter(run, foreign, "claiming")
    export_adapter(run, target, tmp_path / "again", card_figures)
    plain = MarkdownIt("gfm-like", {"linkify": False}).parse((run.adapter("privfedtalk") / "README.md").read_text())
    for folder in (target, tmp_path / "again"):
        facts = inspect_adapter(folder, run)
        assert facts.privacy.startswith("claimed by its maker: ") and facts.privacy.count("claimed") == 1
        assert "note" not in json.loads((folder / ADAPTER_RECORD).read_text())
        card = (folder / "README.md").read_text()
        assert "\x1b" not in card and card.count("\n---\n") == 1
        page = MarkdownIt("gfm-like", {"linkify": False}).parse(card)
        assert [each.tag for each in page if each.type == "heading_open"] == [
            each.tag for each in plain if each.type == "heading_open"
        ]
        kinds = {child.type for each in page for child in each.children or ()} | {each.type for each in page}
        assert not kinds & {"html_block", "html_inline", "link_open", "image"}
        assert "laimed by its maker" in card
    shutil.rmtree(target)


@pytest.mark.parametrize("name", ["../x", "a/b", "a\\b", ".hidden", "", "x\n", "GLOBAL", "C0000", "a" * 65, "con:x"])
def test_a_name_that_is_no_folder_or_is_taken_but_for_its_case_is_refused(
    run: RunFolder, foreign: Path, name: str
) -> None:
    with pytest.raises(PrivFedTalkError, match=r"cannot be called|is taken"):
        import_adapter(run, foreign, name)


def test_an_imported_name_is_taken_whatever_its_case(run: RunFolder, foreign: Path) -> None:
    target = import_adapter(run, foreign, "Anna")
    with pytest.raises(PrivFedTalkError, match="is taken"):
        import_adapter(run, foreign, "anna")
    shutil.rmtree(target)


def test_widened_adapters_of_our_own_still_load(run: RunFolder, tmp_path: Path) -> None:
    """Those of `fedex`, whose rank is each layer's own."""
    backbone = TinyBackbone.load(run.model("backbone"))
    adapter = Adapter(backbone, AdapterSettings(rank=2, alpha=3.0, averaging="fedex"), seed=1)
    rng = np.random.default_rng(0)
    theta = rng.normal(0, 0.1, len(adapter.vector())).astype(np.float32)
    adapter.save(tmp_path / "own", theta, {"method": "fedavg", "privacy": "x"})
    assert json.loads((tmp_path / "own" / ADAPTER_CONFIG).read_text())["rank_pattern"]
    target = import_adapter(run, tmp_path / "own", "widened")
    theirs = load_adapted(load_backbone(run.model("backbone")), target, merged=True).state_dict()
    adapter.load_vector(theta)
    merged = adapter.model.merge_and_unload().state_dict()
    assert theirs.keys() == merged.keys()
    for name, weight in merged.items():
        torch.testing.assert_close(theirs[name], weight, atol=1e-5, rtol=1e-5)
    shutil.rmtree(target)


def test_the_features_that_are_off_are_all_that_peft_has() -> None:
    defaults = json.loads(json.dumps(LoraConfig().to_dict(), default=str))
    used = {"r", "lora_alpha", "target_modules", "rank_pattern", "alpha_pattern", "inference_mode", "peft_version"}
    assert {
        **{name: value for name, value in defaults.items() if name not in used},
        "peft_type": "LORA",
    } == {**FEATURES_OFF, "peft_type": "LORA"}


ATOMS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
ANYTHING = st.recursive(
    ATOMS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)
KEYS = ["r", "lora_alpha", "target_modules", "rank_pattern", "alpha_pattern", "peft_version", "inference_mode", "x"]


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from([ADAPTER_CONFIG, ADAPTER_RECORD]), key=st.sampled_from(KEYS), value=ANYTHING, record=ANYTHING
)
def test_whatever_stands_in_the_json_is_an_adapter_or_an_error_of_ours(
    foreign: Path, name: str, key: str, value: object, record: object
) -> None:
    held = (foreign / name).read_text()
    try:
        if name == ADAPTER_CONFIG:
            change(foreign / ADAPTER_CONFIG, **{key: value})
        else:
            change(foreign / ADAPTER_RECORD, privacy=record, client=value)
        with contextlib.suppress(PrivFedTalkError):
            assert len(inspect_adapter(foreign).privacy) < 400
    finally:
        (foreign / name).write_text(held)


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(places=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4))
def test_whatever_stands_in_the_weights_is_an_adapter_or_an_error_of_ours(
    foreign: Path, places: list[tuple[float, int]]
) -> None:
    whole = (foreign / ADAPTER_WEIGHTS).read_bytes()
    spoiled = bytearray(whole)
    for place, value in places:
        spoiled[int(place * 6000) % len(spoiled)] = value
    try:
        (foreign / ADAPTER_WEIGHTS).write_bytes(spoiled)
        with contextlib.suppress(PrivFedTalkError):
            inspect_adapter(foreign)
    finally:
        (foreign / ADAPTER_WEIGHTS).write_bytes(whole)
