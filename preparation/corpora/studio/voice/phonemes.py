"""Thirty-seven phonemes: how each sounds (formants, noise) and what the mouth does while it sounds.

Vowel formants are the male means of Peterson & Barney (1952); consonant loci and noise bands are the usual
textbook values (Klatt 1980). The mouth columns are the visemes: the same row drives voice and lips.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Phoneme:
    """One row of the table.

    formants: F1..F3 in Hz of a vocal tract of mean length. voice, noise: amplitude in [0, 1].
    noise_hz: centre of the frication band. milliseconds: mean duration.
    opening: inner-lip gap in [0, 1] of the open vowel of "spa". spread: lips from rounded (-1) to wide (1).
    closure: 1 where the lips touch. tongue: 1 where the tongue tip rises to the teeth.
    burst: True for stops, whose noise sounds only at the release.
    """

    formants: tuple[float, float, float]
    voice: float
    noise: float
    noise_hz: float
    milliseconds: float
    opening: float
    spread: float
    closure: float = 0.0
    tongue: float = 0.0
    burst: bool = False


def _vowel(f1: float, f2: float, f3: float, voice: float, ms: float, opening: float, spread: float) -> Phoneme:
    return Phoneme((f1, f2, f3), voice, 0.0, 2500.0, ms, opening, spread)


def _consonant(
    formants: tuple[float, float, float],
    ms: float,
    opening: float,
    *,
    voice: float = 0.0,
    noise: float = 0.0,
    noise_hz: float = 3000.0,
    spread: float = 0.0,
    closure: float = 0.0,
    tongue: float = 0.0,
    burst: bool = False,
) -> Phoneme:
    return Phoneme(formants, voice, noise, noise_hz, ms, opening, spread, closure, tongue, burst)


SILENCE = Phoneme((500.0, 1500.0, 2500.0), 0.0, 0.0, 2500.0, 120.0, 0.0, 0.0, 0.6)

_ALVEOLAR = (320.0, 1750.0, 2650.0)
_LABIAL = (300.0, 950.0, 2250.0)
_VELAR = (300.0, 1900.0, 2350.0)

PHONEMES: dict[str, Phoneme] = {
    "AA": _vowel(730, 1090, 2440, 1.00, 150, 1.00, 0.0),
    "AE": _vowel(660, 1720, 2410, 0.92, 145, 0.86, 0.45),
    "AH": _vowel(640, 1190, 2390, 0.84, 105, 0.72, 0.0),
    "AO": _vowel(570, 840, 2410, 0.86, 140, 0.76, -0.55),
    "EH": _vowel(530, 1840, 2480, 0.76, 115, 0.62, 0.35),
    "ER": _vowel(490, 1350, 1690, 0.60, 125, 0.42, -0.3),
    "IH": _vowel(390, 1990, 2550, 0.56, 95, 0.42, 0.4),
    "IY": _vowel(270, 2290, 3010, 0.46, 125, 0.30, 0.9),
    "UH": _vowel(440, 1020, 2240, 0.54, 100, 0.40, -0.6),
    "UW": _vowel(300, 870, 2240, 0.44, 130, 0.26, -1.0),
    "M": _consonant((260.0, 1000.0, 2200.0), 85, 0.0, voice=0.16, closure=1.0),
    "N": _consonant((270.0, 1600.0, 2500.0), 75, 0.18, voice=0.20, tongue=1.0),
    "NG": _consonant((270.0, 1900.0, 2400.0), 75, 0.24, voice=0.20),
    "P": _consonant(_LABIAL, 95, 0.0, noise=0.20, noise_hz=900, closure=1.0, burst=True),
    "B": _consonant(_LABIAL, 85, 0.0, voice=0.07, noise=0.10, noise_hz=700, closure=1.0, burst=True),
    "T": _consonant(_ALVEOLAR, 85, 0.14, noise=0.24, noise_hz=4200, spread=0.2, tongue=1.0, burst=True),
    "D": _consonant(_ALVEOLAR, 75, 0.16, voice=0.08, noise=0.12, noise_hz=3800, tongue=1.0, burst=True),
    "K": _consonant(_VELAR, 90, 0.22, noise=0.22, noise_hz=2000, burst=True),
    "G": _consonant(_VELAR, 80, 0.22, voice=0.08, noise=0.12, noise_hz=1800, burst=True),
    "F": _consonant((340.0, 1100.0, 2100.0), 100, 0.07, noise=0.13, noise_hz=5200, closure=0.55),
    "V": _consonant((300.0, 1100.0, 2100.0), 80, 0.08, voice=0.16, noise=0.06, noise_hz=4800, closure=0.5),
    "TH": _consonant((320.0, 1400.0, 2500.0), 95, 0.20, noise=0.10, noise_hz=5600, tongue=1.0),
    "DH": _consonant((300.0, 1400.0, 2500.0), 65, 0.20, voice=0.18, noise=0.05, noise_hz=5000, tongue=1.0),
    "S": _consonant((320.0, 1700.0, 2600.0), 105, 0.12, noise=0.24, noise_hz=5600, spread=0.55),
    "Z": _consonant((290.0, 1700.0, 2600.0), 85, 0.13, voice=0.14, noise=0.16, noise_hz=5400, spread=0.5),
    "SH": _consonant((320.0, 1800.0, 2400.0), 110, 0.18, noise=0.26, noise_hz=3100, spread=-0.7),
    "CH": _consonant((320.0, 1800.0, 2400.0), 110, 0.16, noise=0.26, noise_hz=3200, spread=-0.6, burst=True),
    "JH": _consonant((290.0, 1800.0, 2400.0), 95, 0.16, voice=0.10, noise=0.18, noise_hz=3000, spread=-0.5, burst=True),
    "HH": _consonant((520.0, 1500.0, 2500.0), 65, 0.36, noise=0.10, noise_hz=1600),
    "L": _consonant((360.0, 1300.0, 2700.0), 75, 0.34, voice=0.36, tongue=1.0),
    "R": _consonant((330.0, 1150.0, 1600.0), 75, 0.28, voice=0.34, spread=-0.5),
    "W": _consonant((300.0, 650.0, 2200.0), 75, 0.14, voice=0.28, spread=-1.0),
    "Y": _consonant((270.0, 2200.0, 3000.0), 65, 0.24, voice=0.32, spread=0.7),
}

# A diphthong is a glide between two vowels; the share is the part of the time spent on the first.
DIPHTHONGS: dict[str, tuple[str, str, float]] = {
    "AY": ("AA", "IH", 0.6),
    "AW": ("AA", "UH", 0.6),
    "EY": ("EH", "IY", 0.5),
    "OW": ("AO", "UW", 0.5),
}
