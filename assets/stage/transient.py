"""Retries after transient errors: three, each after a longer wait. Other errors are not retried.

A network disk that hangs, a download cut off, a worker that the memory killer took: the second attempt may well
succeed. A broken file, a full disk, a wrong setting or a bug will fail again, and waiting would only hide it.
"""

from __future__ import annotations

import errno
import functools
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor
from typing import ParamSpec, TypeVar

import dagster as dg

P = ParamSpec("P")
T = TypeVar("T")

MOST_RETRIES = 3
FIRST_WAIT_SECONDS, LONGER_BY = 10.0, 4.0
"""Waits of 10, 40 and 160 s: a file server that restarts is back by then."""

PASSING = {
    errno.EIO, errno.EAGAIN, errno.EBUSY, errno.ESTALE, errno.ETIMEDOUT, errno.ENETUNREACH, errno.EHOSTUNREACH,
    errno.ECONNRESET, errno.ECONNREFUSED,
}  # fmt: skip
PASSING_NAMES = {"RayActorError", "WorkerCrashedError", "NodeDiedError", "OutOfMemoryError"}
"""Error classes of Ray and torch, which are not imported for this: a lost machine, and a full accelerator."""


def retried(body: Callable[P, T]) -> Callable[P, T]:
    """The body of an asset, which asks Dagster to run it again after a while if a transient error ends it."""

    @functools.wraps(body)
    def watched(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return body(*args, **kwargs)
        except Exception as error:
            number = dg.OpExecutionContext.get().retry_number
            if number >= MOST_RETRIES or not transient(error):
                raise
            raise dg.RetryRequested(MOST_RETRIES, FIRST_WAIT_SECONDS * LONGER_BY**number) from error

    return watched


def transient(error: BaseException) -> bool:
    """Whether an error, or what it was raised from, may be gone at the next attempt."""
    return any(
        isinstance(cause, ConnectionError | TimeoutError | BrokenExecutor)
        or (isinstance(cause, OSError) and cause.errno in PASSING)
        or type(cause).__name__ in PASSING_NAMES
        for cause in _causes(error)
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen = set[int]()
    while error is not None and id(error) not in seen:  # causes may go round in a circle
        seen.add(id(error))
        yield error
        error = error.__cause__
