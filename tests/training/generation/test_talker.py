"""Talking from files to file: length, sound, seed, adapters, flat memory, and what a trained model's mouth does."""

from __future__ import annotations

import json
import tracemalloc
import unicodedata
from pathlib import Path

import av
import numpy as np
import pytest

from common.errors import PrivFedTalkError
from common.folders import ADAPTER_RECORD, RunFolder
from evaluation.results.card import card_figures
from preparation.clients.consent import Consent, now, write_consent
from preparation.media.sound import open_sound
from preparation.media.video import open_video
from tests.training.small_run import PREPARATION, change, make_run, portrait, voice
from training.adapters.folders import export_adapter, import_adapter
from training.adapters.record import OWN_ADAPTERS
from training.generation.talker import Talker, adapter_name, agreed_facts, method_of, open_talker
from training.settings import GenerationSettings, TrainingSettings

TRAINING = TrainingSettings(generation=GenerationSettings(steps=2, overlap=3))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return make_run(tmp_path_factory.mktemp("talking") / "run")


@pytest.fixture(scope="module")
def talker(run: RunFolder) -> Talker:
    return open_talker(run, TRAINING, PREPARATION)


def test_the_clip_is_as_long_as_the_speech_and_has_its_sound(talker: Talker, tmp_path: Path) -> None:
    sound = voice(1.23)
    frames = talker.write(portrait(), sound, tmp_path / "talk.mp4", seed=0)
    found = open_video(tmp_path / "talk.mp4").facts
    assert (
        (found.frames, found.fps, found.width, found.audio_rate_hz) == (frames, 25, 64, 16_000) == (31, 25, 64, 16_000)
    )
    with av.open(str(tmp_path / "talk.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert container.streams.audio[0].codec_context.name == "aac"
    heard = open_sound(tmp_path / "talk.mp4").in_step()[: len(sound)].astype(float)
    assert np.corrcoef(heard, sound[: len(heard)])[0, 1] > 0.95


def test_seed_and_adapter_decide(run: RunFolder, talker: Talker) -> None:
    sound = voice(0.4)

    def drawn(talker: Talker, seed: int) -> np.ndarray:
        return np.stack(list(talker.frames(portrait(), sound, seed)))

    own = open_talker(run, TRAINING, PREPARATION, adapter="c0000")
    first = drawn(talker, 1)
    np.testing.assert_array_equal(first, drawn(talker, 1))
    assert np.abs(first.astype(int) - drawn(talker, 2)).max() > 0
    assert np.abs(first.astype(int) - drawn(own, 1)).max() > 0
    assert own.maker.model_sha256 == talker.maker.model_sha256
    assert own.maker.adapter_sha256 != talker.maker.adapter_sha256


def test_what_is_not_there_is_named(run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(PrivFedTalkError, match="no trained model"):
        open_talker(RunFolder(tmp_path / "empty"), TRAINING, PREPARATION)
    with pytest.raises(PrivFedTalkError, match="'fedavg'; it has privfedtalk"):
        open_talker(run, TRAINING, PREPARATION, method="fedavg")
    with pytest.raises(
        PrivFedTalkError, match=r"c9 has no adapter of its own; under privfedtalk these clients have one: c0000"
    ):
        open_talker(run, TRAINING, PREPARATION, adapter="c9")
    with pytest.raises(PrivFedTalkError, match="device 'gpu9'"):
        open_talker(run, TRAINING, PREPARATION, device="gpu9")


def test_without_a_method_the_runs_only_one_is_meant_and_where_none_is_shared_the_clients_are_named(
    tmp_path: Path,
) -> None:
    """A run of one person's recording trains the method `local` alone: its shared adapter has learnt from nobody."""
    run = make_run(tmp_path / "run")
    (run.root / "federation" / "privfedtalk").rename(run.root / "federation" / "local")
    own = run.client_adapter("c0000", "local")
    own.parents[1].mkdir(parents=True, exist_ok=True)
    run.client_adapter("c0000", "privfedtalk").parent.rename(own.parent)
    change(run.adapter("local") / ADAPTER_RECORD, method="local", own_adapters=OWN_ADAPTERS)
    change(own / ADAPTER_RECORD, method="local")
    assert method_of(run, None) == "local" and method_of(run, "fedavg") == "fedavg"
    with pytest.raises(PrivFedTalkError, match=r"under local each client trains alone.* own ones: c0000") as refused:
        open_talker(run, TRAINING, PREPARATION)
    assert refused.value.remedy == "--adapter c0000"
    assert open_talker(run, TRAINING, PREPARATION, adapter="c0000").maker.method == "local"


def test_a_copy_of_a_clients_adapter_is_still_the_clients(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    export_adapter(run, run.client_adapter("c0000", "privfedtalk"), tmp_path / "out", card_figures)
    import_adapter(run, tmp_path / "out", "theirs")
    assert open_talker(run, TRAINING, PREPARATION, adapter="theirs").fitted_to == "c0000"
    write_consent(run, "c0000", Consent(who="Ada", granted=now(), revoked=now()))
    for rendered in (False, True):
        with pytest.raises(
            PrivFedTalkError, match=r"adapter theirs is fitted to c0000, who has not agreed.*revoked on"
        ):
            open_talker(run, TRAINING, PREPARATION, adapter="theirs", rendered=rendered)
    run.consent("c0000").unlink()
    with pytest.raises(PrivFedTalkError, match="not recorded"):
        open_talker(run, TRAINING, PREPARATION, adapter="theirs")
    assert open_talker(run, TRAINING, PREPARATION, adapter="theirs", rendered=True).fitted_to == "c0000"


def test_an_imported_adapter_keeps_its_own_method(tmp_path: Path) -> None:
    """What a clip's manifest says is what the adapter's record says, not what the command was asked for."""
    run = make_run(tmp_path / "run")
    export_adapter(run, run.adapter("privfedtalk"), tmp_path / "out", card_figures)
    record = json.loads((tmp_path / "out" / ADAPTER_RECORD).read_text())
    (tmp_path / "out" / ADAPTER_RECORD).write_text(json.dumps(record | {"method": "scaffold"}))
    import_adapter(run, tmp_path / "out", "theirs")
    maker = open_talker(run, TRAINING, PREPARATION, method="privfedtalk", adapter="theirs").maker
    assert (maker.method, maker.adapter) == ("scaffold", "imported")


@pytest.mark.slow(minutes=0.1)
def test_memory_does_not_grow_with_length(run: RunFolder) -> None:
    """Arrays at their most, NumPy's own count: 16 s more of frames would be 5 MB."""
    quick = TRAINING.model_copy(update={"generation": GenerationSettings(steps=1, overlap=1)})
    talker = open_talker(run, quick, PREPARATION)

    def peak(seconds: int) -> int:
        sound = voice(seconds)
        tracemalloc.start()
        count = sum(1 for _ in talker.frames(portrait(), sound, 0))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert count == 25 * seconds
        return most

    # From four chunks on, one that has neighbours on both sides follows another such.
    assert peak(48) < peak(32) + 300_000


def test_a_client_is_found_and_asked_in_either_composition_of_its_letters(tmp_path: Path) -> None:
    run, stored, typed = (
        RunFolder(tmp_path),
        unicodedata.normalize("NFD", "björn"),
        unicodedata.normalize("NFC", "björn"),
    )
    write_consent(run, stored, Consent(who="Björn", granted=now(), source="file", revoked=now()))
    (run.client_adapter(stored, "fedavg")).mkdir(parents=True)
    assert adapter_name(run, typed) == stored and adapter_name(run, "global") == "global"
    with pytest.raises(PrivFedTalkError, match="has not agreed to be generated"):
        agreed_facts(run, run.client_adapter(stored, "fedavg"), typed, required=True)
