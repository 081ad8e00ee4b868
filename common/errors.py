"""The one family of errors that a user may see."""

from __future__ import annotations


class PrivFedTalkError(Exception):
    """Something the user can mend: the message names the value and the file, `remedy` says what to do."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(f"{message}\n  remedy: {remedy}")
        self.reason = message
        self.remedy = remedy

    def __reduce__(self) -> tuple[type[PrivFedTalkError], tuple[str, str]]:
        # An exception is pickled with its one printed text; a worker's error would come home as another one.
        return type(self), (self.reason, self.remedy)


class MissingWeightError(PrivFedTalkError):
    """A pretrained network is needed and its file is not there."""


class CorruptFileError(PrivFedTalkError):
    """A file exists but its content does not hold what its name or index promises."""


class UnwritableError(PrivFedTalkError):
    """A result cannot be written (a full disk, a folder of someone else's): no clip's fault, so the work stops."""
