"""`privfedtalk`, one step of which never ends: for tests that interrupt it there.

    SLOWED=step MARK=file python slowed_command.py ARGUMENTS...

The step first makes the file. Some steps sleep, which a signal ends; others compute inside a library, which it does
not. Worker processes import this file as well, so the step is slow in them, too.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOREVER_SECONDS = 300


def sleep() -> None:
    time.sleep(FOREVER_SECONDS)


def compute() -> None:
    """Minutes within one call of a library, which no signal ends."""
    hashlib.pbkdf2_hmac("sha512", b"", b"", 500_000_000)


STEPS: dict[str, tuple[str, str, Callable[[], None]]] = {
    "studio": ("preparation.corpora.studio.corpus", "film", compute),
    "manifest": ("preparation.corpora.manifest", "_listed", compute),
    "crops": ("preparation.pipeline", "prepare_clip", sleep),
    "vae": ("training.model.halves", "backward", sleep),
    "shards": ("preparation.shards.samples", "encode_frames", compute),
    "rulers": ("training.model.frozen.rulers", "open_gradients", compute),
    "backbone": ("training.learning.pretraining", "_update_average", compute),
    "federation": ("training.execution.worker", "carry_out", sleep),
    "here": ("training.execution.here", "carry_out", compute),
    "evaluation": ("evaluation.measuring.protocol", "measure_clip", compute),
    "report": ("evaluation.report.page", "write_report", compute),
    "membership": ("evaluation.attacks.membership", "attack_membership", compute),
    "generate": ("training.generation.talker", "embed", compute),
}
"""Step → (module, function that is replaced, how it never ends)."""


def slow_down(step: str, mark: Path) -> None:
    module, name, forever = STEPS[step]

    def never_ending(*_: Any, **__: Any) -> None:
        mark.touch()
        forever()

    setattr(importlib.import_module(module), name, never_ending)


if os.environ.get("SLOWED"):
    slow_down(os.environ["SLOWED"], Path(os.environ["MARK"]))

if __name__ == "__main__":
    from pipelines.cli import app

    sys.argv[0] = "privfedtalk"
    app()
