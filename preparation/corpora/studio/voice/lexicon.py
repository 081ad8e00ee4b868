"""Forty words and the random sentences made of them."""

from __future__ import annotations

import numpy as np

LEXICON: dict[str, str] = {
    "about": "AH B AW T",
    "again": "AH G EH N",
    "apple": "AE P AH L",
    "back": "B AE K",
    "beautiful": "B Y UW T AH F AH L",
    "boat": "B OW T",
    "change": "CH EY N JH",
    "city": "S IH T IY",
    "cloud": "K L AW D",
    "father": "F AA DH ER",
    "five": "F AY V",
    "garden": "G AA R D AH N",
    "good": "G UH D",
    "happy": "HH AE P IY",
    "house": "HH AW S",
    "idea": "AY D IY AH",
    "job": "JH AA B",
    "keep": "K IY P",
    "little": "L IH T AH L",
    "lovely": "L AH V L IY",
    "map": "M AE P",
    "maybe": "M EY B IY",
    "money": "M AH N IY",
    "music": "M Y UW Z IH K",
    "never": "N EH V ER",
    "open": "OW P AH N",
    "people": "P IY P AH L",
    "problem": "P R AA B L AH M",
    "question": "K W EH S CH AH N",
    "river": "R IH V ER",
    "shoe": "SH UW",
    "something": "S AH M TH IH NG",
    "talk": "T AO K",
    "they": "DH EY",
    "time": "T AY M",
    "today": "T AH D EY",
    "voice": "V AO IH S",
    "warm": "W AO R M",
    "we": "W IY",
    "world": "W ER L D",
    "yellow": "Y EH L OW",
    "zoo": "Z UW",
}

_WORDS = tuple(LEXICON)
_WIDE_VOWELS = {"AA", "AE", "AO", "AY", "AW"}
_WIDE_WORDS = tuple(word for word in _WORDS if _WIDE_VOWELS & set(LEXICON[word].split()))


def next_word(rng: np.random.Generator, said: tuple[str, ...]) -> str:
    """A random word that is not among the last three; the second word always opens the mouth wide, so that no sentence
    is spoken with nearly closed lips."""
    choice = _WIDE_WORDS if len(said) == 1 else _WORDS
    while True:
        word = choice[rng.integers(len(choice))]
        if word not in said[-3:]:
            return word
