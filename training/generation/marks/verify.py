"""Reading a clip's marks: is it synthetic, and by which model?

The two marks differ in strength. A valid manifest is bound to the file by a signature: the file is unchanged since it
was signed. A watermark is bound to nothing: anybody with a marked clip can copy the mark to another clip, or remove it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from common.errors import CorruptFileError, PrivFedTalkError
from preparation.media.video import open_video
from training.generation.marks.manifest import ReadManifest, read_manifest
from training.generation.marks.watermark import Found, detect
from training.settings.marks import KEY

Evidence = Literal["manifest", "hint", "none"]


@dataclass(frozen=True)
class Verdict:
    """The marks found in a clip, and what follows from them."""

    watermark: Found
    manifest: ReadManifest | None

    @property
    def evidence(self) -> Evidence:
        """`manifest` if a valid one says that the clip is synthetic, else `hint` if a watermark shows, else `none`."""
        if self.manifest is not None and self.manifest.valid and self.manifest.synthetic:
            return "manifest"
        return "hint" if self.watermark.detected else "none"

    @property
    def marked(self) -> bool:
        """Whether a valid manifest or a watermark says that the clip is synthetic."""
        return self.evidence != "none"

    @property
    def agree(self) -> bool | None:
        """Whether watermark and manifest name the same model; None if one of them names none."""
        if self.manifest is None or self.manifest.maker is None or self.watermark.payload is None:
            return None
        return self.watermark.payload == self.manifest.maker.payload()

    def to_json(self) -> dict[str, Any]:
        payload = self.watermark.payload
        return {
            "marked": self.marked,
            "evidence": self.evidence,
            "agree": self.agree,
            "watermark": {
                "detected": self.watermark.detected,
                "score": round(self.watermark.score, 3),
                "false_positive_rate": self.watermark.false_positive_rate,
                "frames": self.watermark.frames,
                "model_sha256_begins": None if payload is None else payload[:3].hex(),
                "adapter_sha256_begins": None if payload is None else payload[3:].hex(),
            },
            "manifest": None if self.manifest is None else asdict(self.manifest),
        }


def verify(path: Path, key: str = KEY) -> Verdict:
    """Read both marks of a clip; raises PrivFedTalkError if the file is missing or holds no pictures."""
    if not path.is_file():
        raise PrivFedTalkError(f"there is no file {path}", "check the path")
    frames = open_video(path).frames()
    first = next(frames, None)
    if first is None:
        raise CorruptFileError(f"{path.name} holds no picture", "give a clip")
    return Verdict(detect(chain([first], frames), key), read_manifest(path))
