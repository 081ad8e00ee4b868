"""Ids of the hub: each is pinned, what is fetched is what was pinned, and what was loaded is on record."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from diffusers import AutoencoderTiny, MotionAdapter, UNet2DConditionModel
from transformers import WhisperConfig, WhisperModel

from common.errors import CorruptFileError, MissingWeightError, PrivFedTalkError
from common.folders import RunFolder
from common.weights.hub import NAMED, PINNED, HubNetwork, fetch_hub, files_sha256, network_files, parse_hub_id
from evaluation.report.gather import pretrained_parts
from pipelines.configuration.tree import load
from preparation.settings import SpeechSettings
from preparation.speech.networks import check_model, model_version, note_speech_network, open_network
from training.model.autoencoders.sources import check_source, load_autoencoder, open_pretrained, source_version
from training.model.backbones.sources import check_sources, load_network, sources_version
from training.settings import BackboneSettings
from training.settings.backbones import Sd15Settings

COMMIT, OTHER = "0123456789abcdef" * 2 + "01234567", "f" * 40


class Hub:
    """The hub's download function over a local store: repositories by name, each in the folder of its commit."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asked: list[tuple[str, str, tuple[str, ...]]] = []
        self.answer = COMMIT

    def place(self, repository: str, folder: str = "") -> Path:
        return self.root / repository.replace("/", "--") / "snapshots" / COMMIT / folder

    def snapshot_download(self, repo_id: str, *, revision: str, allow_patterns: list[str]) -> str:
        self.asked.append((repo_id, revision, tuple(allow_patterns)))
        if not self.place(repo_id).is_dir():
            raise huggingface_hub.errors.LocalEntryNotFoundError(f"no {repo_id} here")
        if self.answer != COMMIT:
            shutil.copytree(self.place(repo_id), self.place(repo_id).parent / self.answer, dirs_exist_ok=True)
        return str(self.place(repo_id).parent / self.answer)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", made.snapshot_download)
    return made


def save_autoencoder(folder: Path) -> Path:
    widths = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8), "num_encoder_blocks": (1, 1)}
    AutoencoderTiny(**widths, num_decoder_blocks=(1, 1), latent_channels=4).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("source", "repository", "folder", "revision"),
    [
        (f"owner/name@{COMMIT}", "owner/name", "", COMMIT),
        (f"owner/name/vae@{COMMIT}", "owner/name", "vae", COMMIT),
        ("owner/name@main", "owner/name", "", "main"),
        ("openai/whisper-tiny", "openai/whisper-tiny", "", PINNED["openai/whisper-tiny"]),
        (f"openai/whisper-tiny@{OTHER}", "openai/whisper-tiny", "", OTHER),
    ],
)
def test_an_id_names_repository_folder_and_revision(source: str, repository: str, folder: str, revision: str) -> None:
    assert parse_hub_id(source, "key") == HubNetwork(repository, folder, revision)


@pytest.mark.parametrize(
    "source",
    ["owner/name", "owner/name/vae", "owner/name@", "owner/name@v1.0", "owner/name@0123abc", f"owner/name@{'F' * 40}"],
)
def test_an_id_that_pins_nothing_is_refused_with_the_form(source: str) -> None:
    checks = (
        check_source,
        source_version,
        lambda text: check_model(SpeechSettings(features="whisper", model=text)),
        lambda text: model_version(SpeechSettings(features="whisper", model=text)),
        lambda text: check_sources(BackboneSettings(kind="sd15", sd15=Sd15Settings(source=text))),
        lambda text: check_sources(BackboneSettings(kind="sd15", sd15=Sd15Settings(motion=text))),
        lambda text: sources_version(BackboneSettings(kind="sd15", sd15=Sd15Settings(motion=text))),
    )
    for check in checks:
        with pytest.raises(PrivFedTalkError, match="revision") as caught:
            check(source)
        assert not isinstance(caught.value, MissingWeightError)
        assert "40 hex digits" in caught.value.remedy and "main" in caught.value.remedy


@pytest.mark.parametrize(
    "source", ["/nowhere/vae", "./here", "../up", "~/models", "one", "a/../b", "a/b/c/d", "a b/c", "x/..@main"]
)
def test_what_can_be_no_id_is_a_folder_that_is_not_there(source: str) -> None:
    with pytest.raises(MissingWeightError, match="no folder"):
        parse_hub_id(source, "key")


def test_pins_are_commits_and_cover_the_profiles() -> None:
    assert all(len(commit) == 40 and set(commit) <= set("0123456789abcdef") for commit in PINNED.values())
    chosen = load("sd15")
    named = {chosen.training.vae.source, chosen.preparation.speech.model, chosen.training.backbone.sd15.source}
    assert named <= set(PINNED)


def test_an_autoencoder_of_the_hub_is_recorded_with_revision_and_hash(hub: Hub, tmp_path: Path) -> None:
    folder = save_autoencoder(hub.place("owner/name", "vae"))
    model = open_pretrained(f"owner/name/vae@{COMMIT}")
    ((asked, revision, patterns),) = hub.asked
    assert (asked, revision) == ("owner/name", COMMIT)
    assert all(name.startswith("vae/") and name.endswith((".json", ".safetensors")) for name in patterns)
    run = RunFolder(tmp_path / "run")
    model.save(run.model("vae"))
    told = json.loads((run.model("vae") / "config.json").read_text())
    assert told["revision"] == COMMIT and told["sha256"] == files_sha256(network_files(folder))
    assert pretrained_parts(run) == {f"autoencoder owner/name/vae@{COMMIT}": f"{COMMIT} sha256 {told['sha256']}"}
    again = load_autoencoder(run.model("vae"))
    assert all(torch.equal(one, other) for one, other in zip(again.parameters(), model.parameters(), strict=True))


def test_main_is_taken_when_it_is_asked_for_and_its_commit_is_recorded(hub: Hub, tmp_path: Path) -> None:
    save_autoencoder(hub.place("owner/name"))
    open_pretrained("owner/name@main").save(tmp_path / "vae")
    told = json.loads((tmp_path / "vae" / "config.json").read_text())
    assert (told["source"], told["revision"]) == ("owner/name@main", COMMIT)


def test_another_commit_than_the_pinned_one_is_refused(hub: Hub) -> None:
    save_autoencoder(hub.place("owner/name"))
    hub.answer = OTHER
    with pytest.raises(CorruptFileError, match="not of that commit"):
        open_pretrained(f"owner/name@{COMMIT}")


def test_weights_that_would_be_unpickled_are_not_asked_for(hub: Hub) -> None:
    place = hub.place("owner/name")
    place.mkdir(parents=True)
    (place / "config.json").write_text("{}")
    (place / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(MissingWeightError, match="safetensors"):
        fetch_hub(HubNetwork("owner/name", "", COMMIT))
    assert not any("bin" in name or name == "*" for name in hub.asked[0][2])


def test_a_hub_that_does_not_answer_is_said_with_a_remedy(hub: Hub) -> None:
    for source in (f"nobody/nothing@{COMMIT}", "openai/whisper-tiny"):
        with pytest.raises(MissingWeightError, match=source.partition("@")[0]) as caught:
            open_network(SpeechSettings(features="whisper", model=source))
        assert "logmel" in caught.value.remedy
        assert hub.asked[-1][1] == (source.partition("@")[2] or PINNED["openai/whisper-tiny"])


def test_a_speech_network_of_the_hub_is_loaded_and_recorded(hub: Hub, tmp_path: Path) -> None:
    small = WhisperConfig(d_model=24, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
                          decoder_attention_heads=2, encoder_ffn_dim=24, decoder_ffn_dim=24, num_mel_bins=8,
                          vocab_size=20, pad_token_id=0, bos_token_id=1, eos_token_id=2,
                          decoder_start_token_id=1, suppress_tokens=None, begin_suppress_tokens=None)  # fmt: skip
    WhisperModel(small).save_pretrained(hub.place("owner/whisper"))
    settings = SpeechSettings(features="whisper", model=f"owner/whisper@{COMMIT}")
    assert open_network(settings).network.stride == 320
    run = RunFolder(tmp_path / "run")
    note_speech_network(run.speech_network, settings)
    told: dict[str, Any] = json.loads(run.speech_network.read_text())
    assert told["revision"] == COMMIT and len(told["sha256"]) == 64
    assert list(pretrained_parts(run)) == [f"speech owner/whisper@{COMMIT}"]
    note_speech_network(run.speech_network, SpeechSettings())
    assert pretrained_parts(run) == {}


def test_a_folder_among_the_weights_is_named_by_its_name(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRIVFEDTALK_WEIGHTS", str(tmp_path / "weights"))
    folder = save_autoencoder(tmp_path / "weights" / "mine")
    assert open_pretrained("mine").state_dict().keys() == open_pretrained(str(folder)).state_dict().keys()
    assert source_version("mine") == files_sha256(network_files(folder))
    for absent in ("yours", "weights/mine"):
        with pytest.raises(PrivFedTalkError):
            check_source(absent)
    assert not hub.asked


@pytest.mark.parametrize("name", NAMED)
def test_a_known_name_without_a_folder_is_asked_of_the_hub(
    name: str, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRIVFEDTALK_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    settings = SpeechSettings(features="whisper", model=name)
    check_model(settings)
    assert model_version(settings) == NAMED[name]
    with pytest.raises(MissingWeightError, match=NAMED[name].partition("@")[0]):
        open_network(settings)
    assert hub.asked[0][0] == NAMED[name].partition("@")[0]


def test_both_parts_of_a_backbone_are_pinned(hub: Hub) -> None:
    from tests.training.small_kinds import save_small_unet

    save_small_unet(hub.place("owner/pipeline", "unet"))
    MotionAdapter(block_out_channels=(8,), motion_norm_num_groups=8).save_pretrained(hub.place("owner/motion"))
    _, unet = load_network(UNet2DConditionModel, f"owner/pipeline@{COMMIT}", "unet")
    _, motion = load_network(MotionAdapter, f"owner/motion@{COMMIT}", None)
    assert unet.revision == motion.revision == COMMIT and unet.sha256 != motion.sha256
    assert hub.asked[0][2][0] == "unet/config.json" and hub.asked[1][2][0] == "config.json"
    assert OTHER in sources_version(BackboneSettings(kind="sd15", sd15=Sd15Settings(motion=f"owner/motion@{OTHER}")))


def test_nothing_loads_a_network_by_name_alone() -> None:
    """`from_pretrained` and `load_config` of a library are given local folders only, which `fetch_hub` pins."""
    import ast

    root = Path(__file__).resolve().parents[3]
    for path in (path for floor in ("common", "preparation", "training", "evaluation", "assets", "pipelines")
                 for path in (root / floor).rglob("*.py")):  # fmt: skip
        for node in ast.walk(ast.parse(path.read_text())):
            called = node.func.attr if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else ""
            if called in {"from_pretrained", "load_config"} and isinstance(node, ast.Call) and node.args:
                assert ast.unparse(node.args[-1]).startswith("str("), f"{path}:{node.lineno}"
            if called in {"hf_hub_download", "snapshot_download"}:
                assert path.name == "hub.py", path
