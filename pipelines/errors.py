"""Errors of this floor, and the circles that Dagster leaves in the causes of errors."""

from __future__ import annotations

from common.errors import PrivFedTalkError


class FailedCheckError(PrivFedTalkError):
    """A blocking asset check failed. What was made so far is kept; the message says what is wrong."""


def break_circles(error: BaseException) -> None:
    """Cut, in place, each link among the causes and contexts of `error` that leads back to an error before it.

    Dagster raises an asset's error again while it handles its own wrapper of that error. The error's context is then
    the wrapper, whose cause is the error, and code that follows the causes never ends.
    """
    on_the_way, seen = set[int](), set[int]()
    waiting = [(error, True)]
    while waiting:
        one, entered = waiting.pop()
        if not entered:
            on_the_way.discard(id(one))
        elif id(one) not in seen:
            seen.add(id(one))
            on_the_way.add(id(one))
            waiting.append((one, False))
            waiting += [(linked, True) for linked in _kept_links(one, on_the_way)]


def _kept_links(error: BaseException, on_the_way: set[int]) -> list[BaseException]:
    """The error's cause and context, without those that lead back, which are cut."""
    hidden = error.__suppress_context__
    for link in ("__cause__", "__context__"):
        if _reaches(getattr(error, link), on_the_way):
            setattr(error, link, None)
    error.__suppress_context__ = hidden and error.__cause__ is not None
    return [linked for linked in (error.__cause__, error.__context__) if linked is not None]


def _reaches(error: BaseException | None, ends: set[int]) -> bool:
    waiting, seen = [error], set[int]()
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        if id(one) in ends:
            return True
        seen.add(id(one))
        waiting += [one.__cause__, one.__context__]
    return False
