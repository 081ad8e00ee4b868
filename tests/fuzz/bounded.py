"""What holds for every reader of foreign files: it ends soon, with a result or an error for people."""

from __future__ import annotations

import faulthandler
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from common.errors import PrivFedTalkError

INPUTS = int(os.environ.get("FUZZED_INPUTS", "0"))
"""How many inputs all fuzz tests together read; 0: what each says."""
SHARE = {"media": 0.5, "pictures": 0.15, "texts": 0.35}
LONGEST_SECONDS = 20.0
"""An input takes milliseconds; a machine may be busy."""
HUNG_SECONDS = 120.0
"""After this the process ends with the place where it hangs: inside a library nothing else can interrupt it."""


def inputs(kind: str, usual: int, tests: int = 1) -> int:
    """How many inputs one of `tests` tests of a kind reads."""
    return round(INPUTS * SHARE[kind] / tests) if INPUTS else usual


@contextmanager
def ends() -> Iterator[None]:
    """The body ends in bounded time; a hang ends the process with a traceback."""
    faulthandler.dump_traceback_later(HUNG_SECONDS, exit=True)
    begun = time.monotonic()
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
    assert time.monotonic() - begun < LONGEST_SECONDS


def result_of(reader: Callable[[], Any]) -> Any:
    """What a reader gives; None where it refuses with an error for people, which has a reason and a remedy."""
    try:
        return reader()
    except PrivFedTalkError as error:
        assert error.reason and error.remedy
        return None
