"""Learned speech features on tiny random networks: where tokens lie, that long sound has no seams, and clear errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from common.errors import CorruptFileError, MissingWeightError, PrivFedTalkError
from preparation.media.rates import SAMPLES_PER_FRAME
from preparation.settings import SpeechSettings
from preparation.speech import networks as speech_networks
from preparation.speech.features import open_speech
from preparation.speech.networks import Whisper, check_model, in_chunks, model_version, open_network

WHISPER_TOKENS = 100


def noise(frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-300, 300, frames * SAMPLES_PER_FRAME).astype(np.int16)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Networks with every published stride and kernel, but narrow; `deaf` ones whose layers do not mix tokens."""
    from transformers import Wav2Vec2Config, Wav2Vec2Model, WhisperConfig, WhisperModel

    root = tmp_path_factory.mktemp("speech")
    torch.manual_seed(0)
    heard = Wav2Vec2Config(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(16,) * 7,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
    )
    whisper = WhisperConfig(
        d_model=24,
        encoder_layers=2,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        num_mel_bins=80,
        vocab_size=60,
        max_source_positions=WHISPER_TOKENS,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    paths: dict[str, Path] = {}
    for name, model in {"wav2vec2": Wav2Vec2Model(heard), "whisper": WhisperModel(whisper)}.items():
        model.save_pretrained(root / name)
        for key, value in model.named_parameters():
            # Of the positional convolution, which is weight-normalised, the length and not the direction.
            if "out_proj" in key or ("pos_conv_embed" in key and "original1" not in key):
                value.data.zero_()
        model.save_pretrained(root / f"{name}-deaf")
        paths |= {name: root / name, f"{name}-deaf": root / f"{name}-deaf"}
    return paths


def features_of(name: str, models: dict[str, Path], **settings: object) -> speech_networks.NetworkSpeech:
    kind = name.partition("-")[0]
    return open_network(SpeechSettings(features=kind, model=str(models[name]), **settings))


@pytest.mark.parametrize("kind", ["wav2vec2", "whisper"])
@pytest.mark.parametrize("layers", ["last", "mean"])
def test_shape_and_scale(kind: str, layers: str, models: dict[str, Path]) -> None:
    features = features_of(kind, models, layers=layers)(noise(9), 9)
    assert features.shape == (9, 10, 24) and features.dtype == np.float32
    np.testing.assert_allclose(features.mean(-1), 0, atol=1e-4)
    np.testing.assert_allclose(features.std(-1), 1, atol=0.01)
    # Neighbouring frames share tokens: two 20 ms steps are one frame.
    np.testing.assert_array_equal(features[3, 2:], features[4, :-2])


@pytest.mark.parametrize("kind", ["wav2vec2", "whisper"])
@pytest.mark.parametrize("frames", [1, 20])
def test_no_sound_makes_a_feature_that_is_no_number(kind: str, frames: int, models: dict[str, Path]) -> None:
    features, length = features_of(kind, models), frames * SAMPLES_PER_FRAME
    clipped = np.where(np.arange(length) % 100 < 50, 32767, -32768).astype(np.int16)
    for sound in (np.zeros(length, np.int16), clipped, np.full(length, 32767, np.int16), np.zeros(0, np.int16)):
        found = features(sound, frames)
        assert len(found) == frames and np.isfinite(found.astype(np.float16)).all()


def two_sounds(kind: str, frame: int) -> tuple[np.ndarray, np.ndarray]:
    """Two noises that differ at f/25 s (and far off, at frame 14), and not in what a clip is normalised by.

    That is the mean and deviation for wav2vec2, so clicks change places; and the loudest moment for whisper.
    """
    clicked, plain = noise(25), noise(25)
    here, far = frame * SAMPLES_PER_FRAME, 14 * SAMPLES_PER_FRAME
    if kind == "wav2vec2":
        clicked[here], clicked[far], plain[here], plain[far] = 20000, -20000, -20000, 20000
    else:
        clicked[here], clicked[far], plain[far] = 20000, 32000, 32000
    return clicked, plain


@pytest.mark.parametrize("frame", [0, 7, 24])
@pytest.mark.parametrize(
    ("kind", "tokens", "touched"),
    [
        # A token of wav2vec2 hears 400 samples, +-200 around its centre: between two tokens both hear the click, on a
        # token it alone does. Whisper's hears +-520 at most, faintly at the end, over twice two mel steps and a window.
        ("wav2vec2", 10, {4, 5}),
        ("wav2vec2", 11, {5}),
        ("whisper", 10, {3, 4, 5, 6}),
        ("whisper", 11, {4, 5, 6}),
    ],
)
def test_impulse_lies_in_the_middle_of_its_frame(
    kind: str, tokens: int, touched: set[int], frame: int, models: dict[str, Path]
) -> None:
    """A click at f/25 s touches the middle of frame f's window symmetrically, and nothing a token's reach away."""
    features = features_of(f"{kind}-deaf", models, tokens=tokens)
    clicked, plain = two_sounds(kind, frame)
    change = np.abs(features(clicked, 25) - features(plain, 25)).mean(-1)
    assert set(np.flatnonzero(change[frame] > 0.02 * change[frame].max())) == touched
    for other, shift in ((frame - 1, 2), (frame + 1, -2)):
        if 0 <= other < 25:
            seen = set(np.flatnonzero(change[other] > 0.02 * change[frame].max()))
            assert seen == {token + shift for token in touched if 0 <= token + shift < tokens}


@pytest.mark.parametrize("kind", ["wav2vec2", "whisper"])
def test_impulse_through_layers_that_mix(kind: str, models: dict[str, Path]) -> None:
    features = features_of(kind, models, layers="last")
    frame = 5
    clicked, plain = two_sounds(kind, frame)
    change = np.abs(features(clicked, 25) - features(plain, 25)).mean(-1)
    assert set(np.argsort(change[frame])[-2:]) == {4, 5}


def test_whispers_mel_is_its_own_extractors(models: dict[str, Path]) -> None:
    from transformers import WhisperFeatureExtractor

    network = features_of("whisper", models).network
    assert isinstance(network, Whisper)
    sound = noise(50).astype(np.float32) / np.float32(32768)
    ours = network.log_mel(sound, 200, before=1440)
    shifted = np.concatenate([np.zeros(1440, np.float32), sound])[: 200 * 160]
    extractor = WhisperFeatureExtractor(chunk_length=2)
    theirs = extractor(shifted, sampling_rate=16000, return_tensors="np")["input_features"][0]
    # The last step differs: theirs mirrors the sound at its end, ours hears what comes after.
    np.testing.assert_allclose(ours[:, :198], theirs[:, :198], atol=2e-3)


def test_chunked_equals_whole(models: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    features = features_of("wav2vec2", models)
    sound = noise(200)
    whole = features(sound, 200)
    monkeypatch.setattr(speech_networks, "CHUNK_TOKENS", 240)
    chunked = features(sound, 200)
    # Attention over 240 tokens is not attention over 408; more must not differ, at chunk borders least of all.
    assert np.abs(chunked - whole).max() < 0.15 and np.abs(chunked - whole).mean() < 0.02


def test_chunks_leave_no_seam(models: dict[str, Path]) -> None:
    """Sound that repeats every frame gives features that repeat, over whichever chunk they come from."""
    features = features_of("whisper-deaf", models)
    period = np.random.default_rng(1).integers(-3000, 3000, SAMPLES_PER_FRAME).astype(np.int16)
    frames = 3 * WHISPER_TOKENS
    inside = features(np.tile(period, frames), frames)[8:-8]
    steps = np.abs(np.diff(inside, axis=0)).mean((1, 2))
    short = features(np.tile(period, 40), 40)[8:-8]
    assert steps.max() <= 2 * np.abs(np.diff(short, axis=0)).mean((1, 2)).max()


def test_chunks_blend_to_the_whole() -> None:
    track = np.random.default_rng(0).normal(size=(1234, 3)).astype(np.float32)
    asked: list[tuple[int, int]] = []

    def part(start: int, stop: int) -> np.ndarray:
        asked.append((start, stop))
        spoilt = track[start:stop].copy()
        # What lacks context must not be used but at the track's own ends.
        spoilt[: 12 if start else 0] = 1e6
        spoilt[len(spoilt) - (12 if stop < 1234 else 0) :] = 1e6
        return spoilt

    np.testing.assert_allclose(in_chunks(part, 1234, 100), track, atol=1e-5)
    assert max(stop - start for start, stop in asked) == 100


def test_loaded_once_and_the_same_on_short_sound(models: dict[str, Path]) -> None:
    settings = SpeechSettings(features="wav2vec2", model=str(models["wav2vec2"]))
    assert open_speech(settings) is open_speech(settings)
    assert open_speech(settings)(noise(3)[:100], 3).shape == (3, 10, 24)
    assert np.isfinite(open_speech(settings)(np.zeros(0, np.int16), 2)).all()


@pytest.mark.parametrize("kind", ["wav2vec2", "whisper"])
def test_weights_in_half_precision_hear_the_same(kind: str, models: dict[str, Path], tmp_path: Path) -> None:
    import transformers

    network = {"wav2vec2": transformers.Wav2Vec2Model, "whisper": transformers.WhisperModel}[kind]
    network.from_pretrained(models[kind]).half().save_pretrained(tmp_path)
    half, whole = (features_of(kind, {kind: path})(noise(9), 9) for path in (tmp_path, models[kind]))
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, whole, atol=0.05)


def test_whisper_may_hear_no_more_silence_than_to_the_next_second(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[int] = []

    def noted(model: Any, shown: np.ndarray, layers: str) -> np.ndarray:
        lengths.append(shown.shape[-1])
        return hidden(model, shown, layers)

    hidden = speech_networks._hidden
    monkeypatch.setattr(speech_networks, "_hidden", noted)
    for frames, same in ((15, False), (46, True)):  # 38 tokens with those around them, and all 100 of the window
        sound = noise(frames)
        full, short = (features_of("whisper", models, padding=each)(sound, frames) for each in ("full", "second"))
        assert short.shape == full.shape and np.isfinite(short).all()
        assert np.array_equal(short, full) == same
    assert lengths == [2 * WHISPER_TOKENS, 2 * 50, 2 * WHISPER_TOKENS, 2 * WHISPER_TOKENS]


def test_whispers_short_window_is_that_of_a_network_with_as_many_places(models: dict[str, Path]) -> None:
    from transformers import WhisperConfig, WhisperModel

    whole = WhisperModel.from_pretrained(models["whisper"])
    small = WhisperModel(WhisperConfig(**(whole.config.to_dict() | {"max_source_positions": 50})))
    state = whole.state_dict()
    state["encoder.embed_positions.weight"] = state["encoder.embed_positions.weight"][:50]
    small.load_state_dict(state)
    sound = noise(15)
    short = features_of("whisper", models, padding="second")(sound, 15)
    expected = speech_networks.NetworkSpeech(Whisper(small.get_encoder().eval(), "mean"), 10)(sound, 15)
    np.testing.assert_allclose(short, expected, atol=1e-6)


@pytest.mark.parametrize("padding", ["full", "second"])
def test_a_sound_is_heard_the_same_whatever_was_heard_before(models: dict[str, Path], padding: str) -> None:
    """The layers' outputs were collected once more for each sound before, and the mean was of all those."""
    hear = features_of("whisper", models, padding=padding)
    first = np.array(hear(noise(15), 15))
    for frames in (46, 15, 20):
        hear(noise(frames), frames)
    assert np.array_equal(hear(noise(15), 15), first)


def test_version_follows_the_weights(models: dict[str, Path]) -> None:
    versions = [model_version(SpeechSettings(features="whisper", model=str(models[name]))) for name in sorted(models)]
    assert len(set(versions)) == 4 and model_version(SpeechSettings()) == ""


def test_what_cannot_serve_is_said_at_once(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_model(SpeechSettings())
    with pytest.raises(PrivFedTalkError, match=r"needs preparation\.speech\.model"):
        check_model(SpeechSettings(features="whisper"))
    with pytest.raises(MissingWeightError, match="no folder /nowhere/whisper"):
        check_model(SpeechSettings(features="whisper", model="/nowhere/whisper"))
    with pytest.raises(CorruptFileError, match="config"):
        check_model(SpeechSettings(features="whisper", model=str(tmp_path)))
    with pytest.raises(CorruptFileError, match="a whisper, not a wav2vec2"):
        check_model(SpeechSettings(features="wav2vec2", model=str(models["whisper"])))
    with pytest.raises(ValidationError):
        SpeechSettings(features="hubert")

    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(MissingWeightError, match="nobody/no-such-whisper") as caught:
        open_network(SpeechSettings(features="whisper", model="nobody/no-such-whisper@main"))
    assert "logmel" in caught.value.remedy
