"""Filter what native libraries write to the terminal: chatter is dropped, everything else is passed on.

MediaPipe writes its start-up lines before it looks at any log level, so environment variables do not silence them.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

CHATTER = re.compile(
    rb"^(?:[IW]\d{4} [\d:.]+ |INFO: |WARNING: (?:Logging|All log messages) before )[^\n]*(?:\n|$)", re.MULTILINE
)
"""Information and warnings of glog and TensorFlow Lite; their errors begin with E or F, or with `ERROR:`."""


@contextmanager
def without_chatter() -> Iterator[None]:
    """Hold back what reaches standard error inside the block, and pass on all but `CHATTER` when it ends.

    For short blocks: the filter holds for the whole process, so lines of other threads come late. A block that raises
    passes everything on, because the chatter may explain the error.
    """
    with _held_back() as held:
        try:
            yield
        except BaseException:
            held.dropped = None
            raise


@contextmanager
def without_native_words() -> Iterator[None]:
    """Drop what reaches standard error inside the block, for libraries that write there what they also raise.

    For the shortest blocks: lines of other threads are dropped too.
    """
    with _held_back() as held:
        held.dropped = re.compile(rb".*", re.DOTALL)
        yield


@dataclass
class _Held:
    """Which of the held-back output is dropped at the end; None: nothing."""

    dropped: re.Pattern[bytes] | None = CHATTER


@contextmanager
def _held_back() -> Iterator[_Held]:
    """Hold back what reaches standard error; at the end all but `dropped` is passed on."""
    sys.stderr.flush()
    terminal = os.dup(2)
    held = _Held()
    with tempfile.TemporaryFile() as output:
        os.dup2(output.fileno(), 2)
        try:
            yield held
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)
            output.seek(0)
            _write(output.read() if held.dropped is None else held.dropped.sub(b"", output.read()))


def _write(content: bytes) -> None:
    while content:
        content = content[os.write(2, content) :]
