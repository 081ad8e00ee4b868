"""What every settings class of every floor shares: unknown keys are refused, values never change."""

from __future__ import annotations

import hashlib
import json

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """A frozen, validated group of parameters; defaults live in code, files hold only differences."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    def fingerprint(self) -> str:
        """Sixteen hex digits that change whenever a value changes (of this group or one inside it)."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
