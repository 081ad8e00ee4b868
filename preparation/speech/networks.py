"""Speech features for each video frame from a pretrained network: wav2vec2 or whisper's encoder.

Both make a token of every 320 samples (20 ms), so a frame of 40 ms has two. Frame f's window is `tokens` of them,
symmetric around f/25 s. 10 tokens span +-100 ms, the context that LatentSync and MuseTalk give a frame (their 50 are
the same 10 tokens in each of five layers of whisper-tiny); here the window is half a token earlier, so that it is
symmetric.

Where token j lies: wav2vec2's convolutions (Baevski et al. 2020) have no padding and a receptive field of R = 400
samples, so j is centred on sample 320 j + (R - 1)/2. Whisper's mel step m is centred on sample 160 m, and its second
convolution keeps every other step, so j is centred on sample 320 j (Radford et al. 2022). The sound is shifted
accordingly, so that the first token of frame 0 lies (tokens - 1)/2 steps of 20 ms before the first picture.

Long sound is computed in overlapping chunks that fade into each other, so memory grows with the features alone, and the
features have no seams.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from common.errors import CorruptFileError, MissingWeightError, PrivFedTalkError
from common.files import write_text
from common.weights.hub import Loaded, find_network, loaded_from, loading, local_folder, parse_hub_id, version_of
from preparation.media.rates import AUDIO_RATE_HZ, SAMPLES_PER_FRAME
from preparation.settings import SpeechSettings
from preparation.speech.mel import mel_filters

Floats = NDArray[np.float32]

KEY = "preparation.speech.model"

CHUNK_TOKENS = 1200
"""A chunk of 24 s for wav2vec2, whose attention costs the square of it; whisper has a window of its own."""
EDGE_TOKENS = 50
"""A chunk's first and last second lack context and are not used where another chunk covers them."""
FADE_TOKENS = 50
"""Over the next second, one chunk fades into the other."""
_LOADING, _COMPUTING = Lock(), Lock()
"""One thread computes at a time: transformers collects the layers' outputs with hooks on the model that all share."""
WHISPER_FLOOR = 1e-10
WHISPER_RANGE = 8.0
"""Decades below the clip's largest value at which log-mel is cut, as in the authors' `log_mel_spectrogram`."""


class SpeechNetwork(Protocol):
    """A loaded network with one token every `stride` samples."""

    stride: int

    def tokens(self, audio: Floats, count: int, before: int) -> Floats:
        """Tokens float32 [count, D] of sound [S] in [-1, 1], 16 kHz; the first is centred `before` samples ahead of the
        sound."""
        ...


class NetworkSpeech:
    """Features of clips by one network: float32 [T, tokens, D], each token of zero mean and unit deviation.

    The standardisation is a layer norm without parameters: it needs no statistics, so none are shared between clients.
    """

    def __init__(self, network: SpeechNetwork, tokens: int) -> None:
        self.network, self.window = network, tokens

    def __call__(self, audio: NDArray[np.int16], frames: int) -> Floats:
        """audio: int16 [S], 16 kHz mono, starting with the first video frame; padded with silence where it is shorter.

        The result is a read-only view in which neighbouring frames share tokens: 10 minutes hold 92 MB at D = 768.
        """
        stride = self.network.stride
        step = SAMPLES_PER_FRAME // stride
        before = stride * (self.window - 1) // 2
        count = step * (frames - 1) + self.window
        kept = audio[: (frames - 1) * SAMPLES_PER_FRAME + 2 * before + AUDIO_RATE_HZ]
        track = self.network.tokens(kept.astype(np.float32) / 32768.0, count, before)
        windows = np.lib.stride_tricks.sliding_window_view(track, self.window, axis=0)
        return windows[::step].transpose(0, 2, 1)


class Wav2Vec2:
    """Facebook's wav2vec 2.0, any size. Choose `facebook/wav2vec2-base-960h` for clearly spoken English."""

    def __init__(self, model: Any, layers: str) -> None:
        self.model, self.layers = model, layers
        self.stride = int(np.prod(model.config.conv_stride))
        reach = 1
        for kernel, stride in zip(reversed(model.config.conv_kernel), reversed(model.config.conv_stride), strict=True):
            reach = (reach - 1) * stride + kernel
        self.reach = reach

    def tokens(self, audio: Floats, count: int, before: int) -> Floats:
        # Normalised as its authors' feature extractor does, by the clip's own mean and deviation, before it is cut.
        audio = (audio - audio.mean()) / np.sqrt(audio.var() + 1e-7) if len(audio) else audio
        ahead = before + self.reach // 2
        signal = np.zeros((count - 1) * self.stride + self.reach, dtype=np.float32)
        kept = audio[: len(signal) - ahead]
        signal[ahead : ahead + len(kept)] = kept

        def part(start: int, stop: int) -> Floats:
            cut = signal[start * self.stride : (stop - 1) * self.stride + self.reach]
            with _COMPUTING:
                return _hidden(self.model, cut[None], self.layers)

        return in_chunks(part, count, CHUNK_TOKENS)


class Whisper:
    """The encoder of OpenAI's whisper, any size. Choose `openai/whisper-tiny` for any language and for noisy sound."""

    stride = 320

    def __init__(self, model: Any, layers: str, padding: Literal["full", "second"] = "full") -> None:
        self.model, self.layers, self.padding = model, layers, padding
        self.longest = int(model.config.max_source_positions)
        self.filters = _mel_filters(int(model.config.num_mel_bins))

    def tokens(self, audio: Floats, count: int, before: int) -> Floats:
        mel = self.log_mel(audio, 2 * count, before)

        def part(start: int, stop: int) -> Floats:
            # By default the window has its full 30 s, with silence after the sound's end, as in training.
            step = self.longest if self.padding == "full" else AUDIO_RATE_HZ // self.stride
            length = min(self.longest, -(-(stop - start) // step) * step)
            shown = np.full((mel.shape[0], 2 * length), mel.min(), dtype=np.float32)
            shown[:, : 2 * (stop - start)] = mel[:, 2 * start : 2 * stop]
            with _COMPUTING, self._of_length(length):
                return _hidden(self.model, shown[None], self.layers)[: stop - start]

        return in_chunks(part, count, self.longest)

    @contextmanager
    def _of_length(self, length: int) -> Iterator[None]:
        """The encoder for windows of `length` tokens in the body: the same weights, with the first of its places.

        It stays one network, because the hooks by which transformers collects layers' outputs stay on those layers:
        with those of a copy there, each layer would be collected again.
        """
        import torch

        config, places = self.model.config, self.model.embed_positions
        if length != self.longest:
            first = places.weight[:length]
            self.model.config = copy.copy(config)
            self.model.config.max_source_positions = length
            self.model.embed_positions = torch.nn.Embedding(length, first.shape[1], _weight=first, _freeze=True)
        try:
            yield
        finally:
            self.model.config, self.model.embed_positions = config, places

    def log_mel(self, audio: Floats, steps: int, before: int) -> Floats:
        """Whisper's log-mel [bins, steps], step m centred on sample 160 m - before, its range set by the whole clip."""
        n_fft, hop = 400, 160
        ahead = before + n_fft // 2
        signal = np.zeros((steps - 1) * hop + n_fft, dtype=np.float32)
        kept = audio[: len(signal) - ahead]
        signal[ahead : ahead + len(kept)] = kept
        hann = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)).astype(np.float32)
        windows = np.lib.stride_tricks.sliding_window_view(signal, n_fft)[::hop]
        log_mel = np.empty((self.filters.shape[0], steps), dtype=np.float32)
        for start in range(0, steps, 3000):
            power = np.abs(np.fft.rfft(windows[start : start + 3000] * hann, axis=1)) ** 2
            log_mel[:, start : start + 3000] = np.log10(np.maximum(self.filters @ power.T, WHISPER_FLOOR))
        return (np.maximum(log_mel, log_mel.max() - WHISPER_RANGE) + 4) / 4


def in_chunks(part: Callable[[int, int], Floats], count: int, longest: int) -> Floats:
    """`count` tokens [count, D] from chunks `part(start, stop)` of at most `longest`, faded where they overlap."""
    if count <= longest:
        return part(0, count)
    edge, fade = min(EDGE_TOKENS, longest // 8), min(FADE_TOKENS, longest // 8)
    hop = longest - 2 * edge - fade
    starts = [*range(0, count - longest, hop), count - longest]
    total: Floats | None = None
    weights = np.zeros((count, 1), dtype=np.float32)
    place = np.arange(longest)
    for start in starts:
        # The track's own ends have no better chunk, so only inner borders fade.
        left = np.inf if start == 0 else place - edge + 1
        right = np.inf if start == starts[-1] else longest - edge - place
        weight = (np.clip(np.minimum(left, right), 0, fade + 1) / (fade + 1) * np.ones(longest)).astype(np.float32)
        features = part(start, start + longest)
        total = np.zeros((count, features.shape[1]), dtype=np.float32) if total is None else total
        total[start : start + longest] += weight[:, None] * features
        weights[start : start + longest] += weight[:, None]
    assert total is not None and weights.min() > 0, "chunks cover every token"
    total /= weights
    return total


def open_network(settings: SpeechSettings) -> NetworkSpeech:
    """The configured network, loaded once per process, by whichever thread asks first.

    Raises `MissingWeightError` where its folder is absent or the hub cannot be reached, `CorruptFileError` where the
    folder holds another kind of network.
    """
    with _LOADING:
        return _open(settings)


@lru_cache(maxsize=1)
def _open(settings: SpeechSettings) -> NetworkSpeech:
    check_model(settings)
    network = _load(settings)
    if SAMPLES_PER_FRAME % network.stride:
        raise PrivFedTalkError(
            f"{settings.model} makes a token of {network.stride} samples, of which a frame has no whole number",
            remedy="choose a network with tokens of 20 ms, as published ones have",
        )
    return NetworkSpeech(network, settings.tokens)


def check_model(settings: SpeechSettings) -> None:
    """Raise an error where the configured model folder cannot be used, before hours of other work; a hub id is checked
    for its form only."""
    if settings.features == "logmel":
        return
    if not settings.model:
        raise PrivFedTalkError(
            f"preparation.speech.features={settings.features} needs preparation.speech.model",
            remedy="name a folder that `save_pretrained` wrote or a hub id: openai/whisper-tiny, "
            "facebook/wav2vec2-base-960h, or owner/name@revision",
        )
    folder = local_folder(settings.model)
    if folder is None:
        parse_hub_id(settings.model, KEY)
        return
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptFileError(
            f"{folder} holds no config.json of transformers", remedy="name a folder that `save_pretrained` wrote"
        ) from error
    if kind != settings.features:
        raise CorruptFileError(
            f"{folder} holds a {kind}, not a {settings.features}", remedy=f"set preparation.speech.features={kind}"
        )


def model_version(settings: SpeechSettings) -> str:
    """The version of the configured network: a hash of a local folder's files, or a hub id with its revision."""
    if settings.features == "logmel" or not settings.model:
        return settings.model or ""
    return version_of(settings.model, KEY)


def speech_network(settings: SpeechSettings) -> Loaded | None:
    """The record of the configured network: its source, revision and the hash of its files; None for log-mel."""
    if settings.features == "logmel":
        return None
    check_model(settings)
    folder, commit = _folder_of(settings)
    return loaded_from(settings.model or "", folder, commit)


def note_speech_network(path: Path, settings: SpeechSettings) -> None:
    """Write the record of the configured network to `path`; remove that file for log-mel."""
    loaded = speech_network(settings)
    if loaded is None:
        path.unlink(missing_ok=True)
        return
    write_text(path, json.dumps(loaded.to_json(), indent=1) + "\n")


def _folder_of(settings: SpeechSettings) -> tuple[Path, str | None]:
    """The network's folder, and its commit where it is from the hub."""
    try:
        return find_network(settings.model or "", KEY)
    except MissingWeightError as error:
        raise MissingWeightError(
            error.reason, f"{error.remedy}; preparation.speech.features=logmel needs neither"
        ) from error


def _load(settings: SpeechSettings) -> SpeechNetwork:
    import torch
    import transformers

    place, _ = _folder_of(settings)
    kind = {"wav2vec2": transformers.Wav2Vec2Model, "whisper": transformers.WhisperModel}[settings.features]
    with loading(
        f"the speech network {settings.model} cannot be loaded",
        "give a folder that `save_pretrained` wrote with safetensors, or a hub id while the hub can be reached; "
        "preparation.speech.features=logmel needs neither",
    ):
        # Some are published in half precision, which sound in float32 cannot pass through.
        model = kind.from_pretrained(str(place), use_safetensors=True).float()
    model = model.get_encoder() if settings.features == "whisper" else model
    model = model.eval().requires_grad_(False).to("cuda" if torch.cuda.is_available() else "cpu")
    if settings.features == "whisper":
        return Whisper(model, settings.layers, settings.padding)
    return Wav2Vec2(model, settings.layers)


def _hidden(model: Any, shown: Floats, layers: str) -> Floats:
    """[1, ...] input -> [tokens, D]: the last layer, or the mean of all, each token standardised on its own.

    The caller holds `_COMPUTING`.
    """
    import torch
    from torch.nn.functional import layer_norm

    with torch.inference_mode():
        out = model(torch.from_numpy(shown).to(model.device), output_hidden_states=layers == "mean")
        states = out.hidden_states if layers == "mean" else [out.last_hidden_state]
        width = states[-1].shape[-1:]
        # Each layer counts the same: unnormalised, the later ones are many times as large as the first.
        mean = torch.stack([layer_norm(state[0].float(), width) for state in states]).mean(0)
        return layer_norm(mean, width).cpu().numpy()


@lru_cache(maxsize=2)
def _mel_filters(bins: int) -> Floats:
    """float32 [bins, 201], Slaney's scale and area normalisation, as whisper's own."""
    return mel_filters(AUDIO_RATE_HZ, 400, bins, 8000.0)
