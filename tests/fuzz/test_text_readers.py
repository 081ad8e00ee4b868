from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from common.folders import ADAPTER_CONFIG, ADAPTER_RECORD, ADAPTER_WEIGHTS
from pipelines.configuration.reader import build, override, read_assignments, read_yaml
from pipelines.configuration.tree import Configuration
from preparation.clients import consent
from preparation.corpora.hdtf.tables import read_tables
from preparation.corpora.lists import read_lists
from preparation.corpora.lrs3 import read_sidecar
from tests.fuzz.bounded import ends, inputs, result_of
from tests.fuzz.made_text import CELLS, Text, texts
from training.adapters.checks import PEFT_PREFIX, read_adapter

Reader = Callable[[Path], Any]


def hdtf(path: Path) -> Any:
    path.rename(path.with_name("RD_annotion_time.txt"))
    return read_tables(path.parent)


def profile(path: Path) -> Any:
    return build(Configuration, read_yaml(path), source=path.name)


def adapter(path: Path) -> Any:
    """An adapter of one layer with this text as its configuration."""
    path.rename(path.with_name(ADAPTER_CONFIG))
    names = {"A": (4, 2), "B": (2, 4)}
    tensors = {f"{PEFT_PREFIX}to_q.lora_{side}.weight": np.ones(shape, np.float32) for side, shape in names.items()}
    save_file(tensors, path.with_name(ADAPTER_WEIGHTS), metadata={"format": "pt"})
    path.with_name(ADAPTER_RECORD).write_text(json.dumps({"base_sha256": "0" * 64, "parameters": 16}), encoding="utf-8")
    return read_adapter(path.parent)


READERS: dict[str, tuple[Reader, tuple[str, ...], tuple[str, ...]]] = {
    "consent table": (
        consent.read_table,
        ("client", "who", "scope", "expires"),
        ("client,who,scope,expires\nanna,Anna Berg,training;generation,2027-12-31\nbob,Bob,,\n",),
    ),
    "list of clips": (
        lambda path: read_lists([path]),
        ("path", "offset_sec"),
        ("pretrain/-FOCpMAww28/00002\ntest/abc/00001.mp4\n", "path,offset\ntrainval/abc/00001,0.2\n"),
    ),
    "sidecar": (
        read_sidecar,
        ("FRAME", "X", "Y", "W", "H"),
        (
            "Text:  SO IT IS\nConf:  4\nRef:  abc\n\nFRAME X Y W H\n000001 0.4 0.2 0.1 0.1\n\n"
            "WORD START END ASDSCORE\nSO 0.1 0.2 3\n",
        ),
    ),
    "HDTF's table": (hdtf, (), ("Radio11.mp4 00:30-01:00 01:30-02:30\nRadio12.mp4 0:00:10-0:01:00\n",)),
    "profile": (
        profile,
        (),
        ("run: demo\nseed: 3\ncorpus:\n  kind: folder\n  root: clips\ntraining:\n  privacy: {}\n",),
    ),
    "adapter": (adapter, (), ('{"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["to_q"]}',)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_every_made_text_is_read_or_refused(name: str) -> None:
    reader, head, seeds = READERS[name]

    @settings(
        max_examples=inputs("texts", 300, tests=len(READERS) + 1),
    )
    @given(texts(head, seeds))
    def holds(text: Text) -> None:
        with tempfile.TemporaryDirectory() as folder, ends():
            path = Path(folder) / "people's.txt"
            path.write_bytes(text.bytes())
            result_of(lambda: reader(path))

    holds()


@pytest.mark.slow
@settings(max_examples=inputs("texts", 300, tests=len(READERS) + 1))
@given(
    st.sampled_from(("corpus.root", "preparation.clients.volunteers", "seed", "training.federation.rounds", "x.y")),
    CELLS,
)
def test_every_assignment_is_read_or_refused(key: str, value: str) -> None:
    with ends():
        overrides = result_of(lambda: read_assignments([f"{key}={value}"]))
        if overrides is not None:
            values = override({"corpus": {"kind": "folder", "root": "clips"}}, overrides)
            result_of(lambda: build(Configuration, values, source="command line"))
