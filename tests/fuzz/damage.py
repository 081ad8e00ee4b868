"""What becomes of a file on its way: cut, zeroed, shuffled, flipped bytes."""

from __future__ import annotations

import random
from dataclasses import dataclass

from hypothesis import strategies as st

DAMAGES = ("cut", "zero", "noise", "flip", "drop", "double", "swap", "number", "prefix")


@dataclass(frozen=True)
class Damage:
    """What happens to the bytes: `place` in 0..1 of the file, `length` bytes, `seed` of what is random in it."""

    kind: str
    place: float
    length: int
    seed: int


def damages() -> st.SearchStrategy[Damage]:
    return st.builds(
        Damage,
        kind=st.sampled_from(DAMAGES),
        place=st.floats(0, 1),
        length=st.sampled_from((1, 1, 4, 64, 1000)),
        seed=st.integers(0, 2**16),
    )


def damaged(whole: bytes, damage: Damage) -> bytes:
    """The bytes after what `damage` says."""
    chance = random.Random(damage.seed)
    at = int(damage.place * len(whole))
    end = min(len(whole), at + damage.length)
    match damage.kind:
        case "cut":
            return whole[:at]
        case "zero":
            return whole[:at] + bytes(end - at) + whole[end:]
        case "noise":
            return whole[:at] + chance.randbytes(end - at) + whole[end:]
        case "flip":
            changed = bytearray(whole)
            for _ in range(damage.length):
                if changed:
                    changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
            return bytes(changed)
        case "drop":
            return whole[:at] + whole[end:]
        case "double":
            return whole[:end] + whole[at:]
        case "swap":
            return whole[at:] + whole[:at]
        case "number":  # headers hold lengths and counts
            number = chance.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000, 0x00010000)).to_bytes(4)
            return whole[:at] + number + whole[at + 4 :]
        case _:
            return chance.randbytes(damage.length) + whole
