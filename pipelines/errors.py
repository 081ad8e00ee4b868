"""Errors that only this floor knows."""

from __future__ import annotations

from preparation.errors import PrivFedTalkError


class FailedCheckError(PrivFedTalkError):
    """A blocking asset check said no; what was made so far stands, and the message says what is wrong."""
