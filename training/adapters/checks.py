"""Reading an adapter's folder as untrusted input: nothing in it reaches PEFT before everything is checked.

Only a plain LoRA adapter passes: float32 tensors that are finite, also in half precision, and exactly those of the
layers that its configuration names. Everything else is refused. `check_fits` then compares the adapter with the
backbone for which it is meant.
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from common.errors import CorruptFileError, PrivFedTalkError
from common.folders import ADAPTER_CONFIG, ADAPTER_RECORD, ADAPTER_WEIGHTS
from common.text.foreign import one_line
from training.adapters.record import read_record

if TYPE_CHECKING:
    from training.model.backbones.interface import Backbone

PEFT_PREFIX = "base_model.model."
"""PEFT's prefix before the base model's own names."""
MOST_BYTES = {ADAPTER_WEIGHTS: 2**31, ADAPTER_CONFIG: 2**20, ADAPTER_RECORD: 2**16}
MOST_HEADER_BYTES = 2**22
"""Largest header of the weights' file, which holds the names and shapes of its tensors."""
MOST_TARGETS = 64
LARGEST = float(np.finfo(np.float16).max)
"""Largest entry of A, B and s B A; a larger one overflows in half precision, which gives black frames."""

LAYER = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")
"""A layer's name, or the end of one."""
TENSOR = re.compile(rf"{re.escape(PEFT_PREFIX)}({LAYER.pattern})\.lora_([AB])\.weight")

FEATURES_OFF: dict[str, Any] = {
    "alora_invocation_tokens": None, "arrow_config": None, "auto_mapping": None, "base_model_name_or_path": None,
    "bias": "none", "corda_config": None, "ensure_weight_tying": False, "eva_config": None, "exclude_modules": None,
    "fan_in_fan_out": False, "init_lora_weights": True, "kasa_config": None, "layer_replication": None,
    "layers_pattern": None, "layers_to_transform": None, "loftq_config": {}, "lora_bias": False, "lora_dropout": 0.0,
    "lora_ga_config": None, "megatron_config": None, "megatron_core": "megatron.core", "modules_to_save": None,
    "monteclora_config": None, "peft_type": "LORA", "qalora_group_size": 16, "revision": None,
    "target_parameters": None, "task_type": None, "trainable_token_indices": None, "use_bdlora": None,
    "use_dora": False, "use_qalora": False, "use_rslora": False, "velora_config": None,
}  # fmt: skip
"""PEFT's settings of LoRA features that our adapters do not use, with the values that turn them off."""

Tensors = dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class LoraShape:
    """Content of `adapter_config.json`: rank, alpha, names (or name endings) of layers, and exceptions by layer."""

    rank: int
    alpha: float
    targets: tuple[str, ...]
    ranks: Mapping[str, int]
    alphas: Mapping[str, float]
    peft_version: str

    def rank_of(self, layer: str) -> int:
        return self.ranks.get(layer, self.rank)

    def scale_of(self, layer: str) -> float:
        """The factor s of B A, alpha / rank."""
        return self.alphas.get(layer, self.alpha) / self.rank_of(layer)

    def to_json(self) -> dict[str, Any]:
        """The configuration as PEFT reads it, normalised whoever wrote it."""
        values = {
            "r": self.rank,
            "lora_alpha": self.alpha,
            "target_modules": sorted(self.targets),
            "rank_pattern": {pattern_of(layer): rank for layer, rank in sorted(self.ranks.items())},
            "alpha_pattern": {pattern_of(layer): alpha for layer, alpha in sorted(self.alphas.items())},
            "inference_mode": True,
            "peft_version": self.peft_version,
        }
        return dict(sorted((FEATURES_OFF | values).items()))


@dataclass(frozen=True)
class CheckedAdapter:
    """An adapter that passed the checks: its shape, its tensors by PEFT's names, and its `privfedtalk.json`."""

    shape: LoraShape
    tensors: Tensors
    record: dict[str, Any]

    @property
    def layers(self) -> dict[str, tuple[int, int]]:
        """(Outputs, inputs) of each adapted layer."""
        names = {name.removeprefix(PEFT_PREFIX).rpartition(".lora_")[0] for name in self.tensors}
        return {
            layer: (
                self.tensors[f"{PEFT_PREFIX}{layer}.lora_B.weight"].shape[0],
                self.tensors[f"{PEFT_PREFIX}{layer}.lora_A.weight"].shape[1],
            )
            for layer in sorted(names)
        }


def pattern_of(layer: str) -> str:
    """The regular expression by which PEFT finds this layer only.

    PEFT treats names as patterns, and a plain name would also match layers whose names end in it.
    """
    return "^" + re.escape(layer)


def read_adapter(folder: Path) -> CheckedAdapter:
    """Read an adapter's folder without loading a model.

    Raises PrivFedTalkError if a file is missing, and CorruptFileError if one holds anything but a plain LoRA adapter
    and its record.
    """
    for name in (ADAPTER_WEIGHTS, ADAPTER_CONFIG, ADAPTER_RECORD):
        check_file(folder, name)
    record, shape = (
        read_record(_read_json(folder / ADAPTER_RECORD), folder),
        _read_shape(_read_json(folder / ADAPTER_CONFIG), folder),
    )
    tensors = _read_tensors(folder, shape)
    count = sum(tensor.size for tensor in tensors.values())
    if record.get("parameters", 0) > count:
        _refuse(folder, f"parameters is {record['parameters']}, and {ADAPTER_WEIGHTS} holds {count} numbers")
    return CheckedAdapter(shape, tensors, record)


def check_file(folder: Path, name: str) -> None:
    """Raise an error unless `name` is a regular file (no link, no pipe) of at most `MOST_BYTES`."""
    try:
        found = (folder / name).lstat()
    except OSError as error:
        raise PrivFedTalkError(
            f"{folder} is no adapter of PrivFedTalk's: it has no {name}",
            "name a folder that `privfedtalk adapter export` wrote, or one in a run's federation/METHOD/adapter",
        ) from error
    if not stat.S_ISREG(found.st_mode):
        _refuse(folder, f"{name} is no plain file")
    if found.st_size > MOST_BYTES[name]:
        _refuse(folder, f"{name} has {found.st_size} bytes, larger than {MOST_BYTES[name]}")


def check_fits(adapter: CheckedAdapter, backbone: Backbone, folder: Path) -> None:
    """Raise an error if the adapter does not fit `backbone`.

    Its tensors must match, in names and sizes, the layers of the backbone that its configuration names. Those must be
    all layers of one choice of `adapter.targets`. Its rank must not exceed the largest short side of these layers,
    since more rank adds only work.
    """
    shape, known = adapter.shape, {*backbone.attention_targets, *backbone.other_targets}
    if strange := [target for target in shape.targets if target not in known]:
        _refuse(folder, f"target_modules has {', '.join(strange)}, which this backbone's adapters do not change")
    sides = adapted_sides(backbone, shape.targets)
    found = adapter.layers
    for layer in sorted(sides.keys() | found.keys()):
        if sides.get(layer) != found.get(layer):
            have, want = (_sides(where.get(layer)) for where in (found, sides))
            _refuse(folder, f"layer {layer} is {have} in {ADAPTER_WEIGHTS} and {want} in the backbone")
    attention, every = (adapted_sides(backbone, names).keys() for names in (backbone.attention_targets, known))
    if sides.keys() not in (attention, every):
        missing = min(attention - sides.keys() or every - sides.keys())
        _refuse(folder, f"it adapts a part of the backbone alone: target_modules leaves {missing} out")
    check_rank(max(shape.rank_of(layer) for layer in sides), sides.values(), f"the adapter in {folder}")


def covers(targets: Iterable[str], layer: str) -> bool:
    """Whether PEFT adapts a layer of this name."""
    return any(layer == target or layer.endswith(f".{target}") for target in targets)


def adapted_sides(backbone: Backbone, targets: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """(Outputs, inputs) of each layer of the backbone that an adapter with these targets changes."""
    from torch import nn

    return {
        name: tuple(layer.weight.shape)
        for name, layer in backbone.named_modules()
        if isinstance(layer, nn.Linear) and covers(targets, name)
    }


def check_rank(rank: int, sides: Iterable[tuple[int, ...]], whose: str) -> None:
    """Raise PrivFedTalkError if the rank exceeds the largest short side of the layers; `sides`: (outputs, inputs)."""
    most = max(min(side) for side in sides)
    if rank > most:
        raise PrivFedTalkError(
            f"rank {rank} of {whose} is above {most}, the most that a layer's matrix has",
            f"train with training.adapter.rank={most} or less",
        )


def _sides(found: Sequence[int] | None) -> str:
    return "absent" if found is None else " x ".join(map(str, found))


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; NaN, infinity and duplicate keys are refused."""

    def refuse_constant(text: str) -> NoReturn:
        _refuse(path.parent, f"{path.name} holds {text}, which is no number")

    def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            _refuse(path.parent, f"{path.name} names a key twice")
        return made

    try:
        values = json.loads(path.read_bytes(), parse_constant=refuse_constant, object_pairs_hook=without_duplicates)
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(f"{path} cannot be read: {one_line(error)}", "get the adapter again") from error
    if not isinstance(values, dict):
        _refuse(path.parent, f"{path.name} holds no object")
    return values


def _read_shape(values: dict[str, Any], folder: Path) -> LoraShape:
    """The shape in `adapter_config.json`; any configuration but a plain LoRA is refused."""
    used = {"r", "lora_alpha", "target_modules", "rank_pattern", "alpha_pattern", "inference_mode", "peft_version"}
    for name, value in values.items():
        if name in used or (name == "auto_mapping" and _names_a_backbone(value)):
            continue
        if name not in FEATURES_OFF:
            _refuse(folder, f"{ADAPTER_CONFIG} has {one_line(name)}, which no adapter of PrivFedTalk's uses")
        if value != FEATURES_OFF[name] or isinstance(value, bool) != isinstance(FEATURES_OFF[name], bool):
            _refuse(folder, f"{name} is {one_line(value)}, which no adapter of PrivFedTalk's uses")
    rank, alpha = values.get("r"), values.get("lora_alpha")
    if type(rank) is not int:
        _refuse(folder, f"r is {one_line(rank)}, no whole number")
    version = values.get("peft_version", "")
    return LoraShape(
        _rank(rank, folder, "the rank r"),
        _alpha(alpha, folder, "lora_alpha"),
        _targets(values.get("target_modules"), folder),
        {layer: _rank(value, folder, "rank_pattern") for layer, value in _by_layer(values, "rank_pattern", folder)},
        {layer: _alpha(value, folder, "alpha_pattern") for layer, value in _by_layer(values, "alpha_pattern", folder)},
        version if isinstance(version, str) and re.fullmatch(r"[0-9A-Za-z.+-]{1,40}", version) else "unknown",
    )


def _names_a_backbone(value: Any) -> bool:
    """Whether `value` is PEFT's note of a backbone's class; older adapters name `training.backbone`. Never imported."""
    if not isinstance(value, dict) or value.keys() != {"base_model_class", "parent_library"}:
        return False
    library, name = str(value["parent_library"]), str(value["base_model_class"])
    return bool(re.fullmatch(r"training\.(model\.backbones|backbone)\.[a-z0-9_]+", library) and name.isidentifier())


def _targets(found: Any, folder: Path) -> tuple[str, ...]:
    names = found if isinstance(found, list) and 0 < len(found) <= MOST_TARGETS else []
    if not names or not all(isinstance(name, str) and LAYER.fullmatch(name) for name in names):
        _refuse(folder, f"target_modules is {one_line(found)}, no list of layers' names")
    if len(set(names)) < len(names):
        _refuse(folder, "target_modules names a layer twice")
    return tuple(sorted(names))


def _by_layer(values: dict[str, Any], key: str, folder: Path) -> list[tuple[str, Any]]:
    """(layer, value) pairs from a mapping by pattern; patterns must have the form of `pattern_of`."""
    found = values.get(key, {})
    if not isinstance(found, dict):
        _refuse(folder, f"{key} is {one_line(found)}, no mapping")
    pairs = []
    for pattern, value in found.items():
        layer = pattern.removeprefix("^").replace("\\.", ".")
        if not LAYER.fullmatch(layer) or pattern != pattern_of(layer):
            _refuse(folder, f"{key} has {one_line(pattern)}, not one layer's whole name")
        pairs.append((layer, value))
    return pairs


def _rank(value: Any, folder: Path, what: str) -> int:
    if type(value) is not int or not 1 <= value <= 2**20:
        _refuse(folder, f"{what} is {one_line(value)}, no rank")
    return value


def _alpha(value: Any, folder: Path, what: str) -> float:
    if type(value) not in (int, float) or not 0 < value <= float(np.finfo(np.float32).max):
        _refuse(folder, f"{what} is {one_line(value)}, no positive number of single precision")
    return float(value)


def _read_tensors(folder: Path, shape: LoraShape) -> Tensors:
    """The tensors; refused unless they are finite A and B, of the configured ranks, of layers that `shape` names."""
    path = folder / ADAPTER_WEIGHTS
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
    if header > MOST_HEADER_BYTES:
        _refuse(folder, f"the header of {ADAPTER_WEIGHTS} is larger than {MOST_HEADER_BYTES} bytes")
    try:
        with safe_open(path, framework="numpy") as file:
            if (file.metadata() or {}) not in ({}, {"format": "pt"}):
                _refuse(folder, f"{ADAPTER_WEIGHTS} holds metadata beside its tensors")
            names = list(file.keys())
            kinds = {name: (file.get_slice(name).get_dtype(), file.get_slice(name).get_shape()) for name in names}
            _check_kinds(kinds, shape, folder)
            tensors = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, ValueError, OSError) as error:
        raise CorruptFileError(f"{path} cannot be read: {one_line(error)}", "get the adapter again") from error
    if strange := [name for name, tensor in tensors.items() if not np.isfinite(tensor).all()]:
        _refuse(folder, f"{strange[0]} is not finite")
    for name in (name for name in tensors if ".lora_A." in name):
        layer = name.removeprefix(PEFT_PREFIX).rpartition(".lora_")[0]
        a, b = tensors[name], tensors[name.replace(".lora_A.", ".lora_B.")]
        largest = max(float(np.abs(a).max()), float(np.abs(b).max()), _largest_update(shape.scale_of(layer), a, b))
        if not largest <= LARGEST:
            _refuse(folder, f"the update of {layer} is not finite in half precision, it has {largest:.3g}")
    return tensors


def _check_kinds(kinds: Mapping[str, tuple[str, list[int]]], shape: LoraShape, folder: Path) -> None:
    """Check the names, types and shapes of all tensors, before any of them is read."""
    layers = set()
    for name, (dtype, size) in kinds.items():
        found = TENSOR.fullmatch(name)
        if found is None:
            _refuse(folder, f"{ADAPTER_WEIGHTS} holds a tensor {one_line(name)}, which is no lora_A and no lora_B")
        layer, which = found[1], found[3]
        layers.add(layer)
        partner = f"{PEFT_PREFIX}{layer}.lora_{'B' if which == 'A' else 'A'}.weight"
        if partner not in kinds or not covers(shape.targets, layer):
            _refuse(folder, f"{name} has no partner, or target_modules does not name its layer")
        rank = shape.rank_of(layer)
        if dtype != "F32" or len(size) != 2 or size["AB".index(which)] != rank or 0 in size:
            _refuse(folder, f"{name} is {dtype} {size}, not F32 of rank {rank}")
    if not layers:
        _refuse(folder, f"{ADAPTER_WEIGHTS} holds no tensor")
    if strange := sorted({*shape.ranks, *shape.alphas} - layers):
        _refuse(folder, f"rank_pattern or alpha_pattern names {strange[0]}, of which {ADAPTER_WEIGHTS} holds nothing")


def _largest_update(scale: float, a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    """A bound on the entries of s B A: a quick one if it is at most `LARGEST`, else the exact maximum."""
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    # Cauchy-Schwarz: no entry exceeds the norm of B's longest row times that of A's longest column.
    bound = scale * float(np.linalg.norm(wide_b, axis=1).max() * np.linalg.norm(wide_a, axis=0).max())
    return bound if bound <= LARGEST else scale * float(np.abs(wide_b @ wide_a).max())


def _refuse(folder: Path, why: str) -> NoReturn:
    raise CorruptFileError(f"the adapter in {folder} is refused: {why}", "get it again from its maker, or use another")
