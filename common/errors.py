"""The one family of errors that a user may see."""

from __future__ import annotations

INTERRUPTED = 130
"""The exit code of a command that Ctrl-C ended, as shells have it."""


class PrivFedTalkError(Exception):
    """An error that the user can fix: the message names the value and the file, `remedy` says what to do."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(f"{message}\n  remedy: {remedy}")
        self.reason = message
        self.remedy = remedy

    def __reduce__(self) -> tuple[type[PrivFedTalkError], tuple[str, str]]:
        # By default an exception is rebuilt from its printed text alone, which `__init__` refuses: a worker process
        # could not return it.
        return type(self), (self.reason, self.remedy)


class MissingWeightError(PrivFedTalkError):
    """The file of a pretrained network that is needed is missing."""


class CorruptFileError(PrivFedTalkError):
    """A file exists, but its content is not what its name or index promises."""


class UnwritableError(PrivFedTalkError):
    """A result cannot be written (a full disk, another user's folder). No clip causes this, so the work stops."""
