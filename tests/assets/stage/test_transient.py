"""What passes is tried again after growing waits; what does not fails at once, as the error that it is."""

# No postponed annotations here: Dagster looks at the type of `context` itself.
import errno
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import dagster as dg
import pytest

from assets.stage import transient
from assets.stage.transient import retried
from common.errors import PrivFedTalkError
from common.files import unwritable
from pipelines.definitions import defs

PASSING = [OSError(errno.EIO, "input/output error"), ConnectionResetError(), TimeoutError(), BrokenProcessPool()]
LASTING = [OSError(errno.ENOSPC, "disk full"), FileNotFoundError("gone"), ValueError("NaN"), PrivFedTalkError("a", "b")]


def attempts(error: Exception, failures: int, monkeypatch: pytest.MonkeyPatch) -> tuple[int, bool, list[float]]:
    """How often an asset whose first `failures` attempts raise is run, whether it succeeds, and the waits."""
    monkeypatch.setattr(transient, "FIRST_WAIT_SECONDS", 0.01)
    calls: list[int] = []

    @dg.asset
    @retried
    def shaky(context: dg.AssetExecutionContext) -> int:
        calls.append(context.retry_number)
        if len(calls) <= failures:
            raise error
        return len(calls)

    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([shaky], instance=instance, raise_on_error=False)
        events = instance.all_logs(result.run_id, of_type=dg.DagsterEventType.STEP_UP_FOR_RETRY)
    waits = [event.get_dagster_event().step_retry_data.seconds_to_wait for event in events]
    return len(calls), result.success, waits


@pytest.mark.parametrize("error", PASSING)
def test_a_transient_error_is_tried_again_with_growing_waits(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    count, done, waits = attempts(error, 2, monkeypatch)
    assert (count, done) == (3, True)
    assert waits == pytest.approx([0.01, 0.04])
    assert attempts(error, 99, monkeypatch)[:2] == (4, False)


@pytest.mark.parametrize("error", LASTING)
def test_everything_else_fails_at_once(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    assert attempts(error, 1, monkeypatch) == (1, False, [])


def test_the_cause_counts() -> None:
    """A disk that hangs is named for people; it is transient all the same, and a full one is not."""
    hanging, full = (OSError(number, "x") for number in (errno.EIO, errno.ENOSPC))
    told = []
    for cause in (hanging, full):
        try:
            raise unwritable(Path("x"), cause) from cause
        except PrivFedTalkError as error:
            told.append(transient.transient(error))
    assert told == [True, False]


def test_every_asset_is_watched() -> None:
    for definition in defs.assets or []:
        body = definition.op.compute_fn.decorated_fn
        assert hasattr(body, "__wrapped__"), definition.key


def test_a_circle_of_causes_has_an_end() -> None:
    first, second = ValueError("first"), KeyError("second")
    first.__cause__, second.__cause__ = second, first
    assert not transient.transient(first)
