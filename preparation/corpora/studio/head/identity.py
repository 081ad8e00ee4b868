"""Who a person is: every choice that stays the same through all of a speaker's clips."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from preparation.corpora.studio.settings import PopulationSettings
from preparation.corpora.studio.voice.synthesis import Voice

Colour = NDArray[np.float32]

KINDS = {"public": 0, "client": 1, "unseen": 2, "volunteer": 3}

# sRGB; from very light to very dark, with the hues between them that interpolation gives.
SKIN_TONES = np.array(
    [(238, 203, 182), (228, 185, 154), (208, 158, 122), (178, 124, 88), (134, 88, 61), (92, 59, 43)], np.float32
)
HAIR_COLOURS = np.array(
    [(26, 21, 20), (48, 33, 25), (82, 54, 34), (124, 86, 52), (186, 148, 96), (142, 66, 30), (150, 148, 146)],
    np.float32,
)
IRIS_COLOURS = np.array(
    [(70, 42, 24), (96, 62, 34), (120, 98, 54), (92, 116, 84), (88, 124, 150), (112, 132, 146)], np.float32
)
LIP_PAINTS = np.array([(178, 36, 62), (158, 30, 56), (202, 74, 98), (146, 38, 82), (188, 56, 60)], np.float32)
HAIR_STYLES = ("short", "short", "side", "buzz", "curly", "long", "long", "bob", "bald", "receding")


@dataclass(frozen=True)
class Identity:
    """A person. Lengths are millimetres, factors are relative to the mean face, colours linear RGB in [0, 1]."""

    name: str
    # shape
    eye_distance: float
    face_width: float
    jaw_width: float
    face_length: float
    nose_length: float
    nose_width: float
    nose_height: float
    brow_ridge: float
    cheek: float
    chin: float
    ear_size: float
    asymmetry: float
    # eyes
    eye_size: float
    eye_opening: float
    eye_tilt: float
    lid_fold: float
    lashes: float
    iris: Colour
    iris_size: float
    brow_thickness: float
    brow_height: float
    brow_arch: float
    brow_strength: float
    # mouth
    mouth_width: float
    upper_lip: float
    lower_lip: float
    cupid: float
    mouth_corner: float
    lips: Colour
    lip_gloss: float
    teeth: Colour
    # surface
    skin: Colour
    ruddiness: float
    freckles: float
    age: float
    # hair
    hair_style: str
    hair: Colour
    hair_line: float
    hair_volume: float
    beard: str
    beard_strength: float
    glasses: str
    glasses_colour: Colour
    # surroundings
    clothes: Colour
    collar: str
    background: str
    background_colours: Colour
    light_azimuth: float
    light_elevation: float
    light_strength: float
    light_colour: Colour
    fill: float
    camera_pitch: float
    camera_softness: float
    camera_noise: float
    # speech and motion
    articulation_gain: float
    smoothness_seconds: float
    tempo: float
    lip_lift: float
    spread_gain: float
    liveliness: float
    smile: float
    voice: Voice


def linear(srgb: NDArray[np.float32]) -> Colour:
    """8-bit sRGB values as linear light in [0, 1] (gamma 2, which the renderer inverts by a square root)."""
    return np.square(np.asarray(srgb, np.float32) / 255.0)


def _along(palette: NDArray[np.float32], position: float) -> NDArray[np.float32]:
    """A colour between neighbours of a palette; `position` in [0, 1]."""
    place = float(np.clip(position, 0.0, 1.0)) * (len(palette) - 1)
    low = min(int(place), len(palette) - 2)
    return palette[low] + (place - low) * (palette[low + 1] - palette[low])


def speaker_seed(seed: int, kind: str, number: int, clip: int | None = None) -> np.random.Generator:
    """The generator of a speaker, or of one of the speaker's clips: independent of everyone else's."""
    return np.random.default_rng([seed, KINDS[kind], number, 0 if clip is None else clip + 1])


def draw_identity(seed: int, kind: str, number: int, population: PopulationSettings) -> Identity:
    """Person `number` of a kind (one of `KINDS`).

    Whatever a population does not set is drawn from the same distributions for everyone.
    """
    rng = speaker_seed(seed, kind, number)
    # Choices that were added later have a stream of their own, so that people look as they did before.
    later = np.random.default_rng([seed, KINDS[kind], number, 0, 1])
    normal = rng.normal
    name = f"{kind[0]}{number:04d}"
    # Stratified over consecutive numbers (golden ratio), so that even eight people show all tones.
    tone = float((0.618034 * number + rng.uniform(-0.06, 0.06) + 0.13 * KINDS[kind]) % 1.0)
    skin_srgb = _along(SKIN_TONES, tone) * rng.uniform(0.96, 1.04, 3).astype(np.float32)
    feminine = float(rng.random())
    hair_place = rng.random() * (0.34 if tone > 0.55 else 1.0)
    hair_srgb = HAIR_COLOURS[min(int(hair_place * len(HAIR_COLOURS)), len(HAIR_COLOURS) - 1)]
    hair_srgb = hair_srgb * rng.uniform(0.85, 1.15) * rng.uniform(0.97, 1.03, 3).astype(np.float32)
    style = HAIR_STYLES[rng.integers(len(HAIR_STYLES))]
    if feminine > 0.55 and style in ("bald", "receding", "buzz"):
        style = "long"
    if feminine < 0.45 and style in ("long", "bob"):
        style = "short"
    beard = "none"
    if feminine < 0.45:
        beard = ("none", "stubble", "stubble", "full", "goatee", "moustache")[rng.integers(6)]
    iris_place = rng.random() * (0.35 if tone > 0.5 else 1.0)
    lips = _lip_colour(rng, skin_srgb, feminine, population)
    whiteness = population.teeth_brightness * rng.uniform(0.93, 1.05)
    warmth = float(np.clip(population.warmth + rng.uniform(-0.15, 0.15), 0.0, 1.0))
    gain = population.articulation_gain * (1.0 + population.articulation_variety * rng.uniform(-1.0, 1.0))
    f0 = float(np.exp(rng.normal(np.log(118.0 + 82.0 * feminine), 0.10)))
    tract = float(np.clip(1.10 - 0.19 * feminine + normal(0.0, 0.025), 0.84, 1.16))
    # Warm and bluish walls are commoner than green and violet ones.
    hue = float(rng.choice([0.08, 0.58]) + rng.normal(0.0, 0.09)) if rng.random() < 0.6 else float(rng.random())
    return Identity(
        name=name,
        eye_distance=62.0 + float(np.clip(normal(0.0, 1.6), -3.0, 3.0)),
        face_width=float(np.clip(normal(0.99, 0.05), 0.89, 1.09)),
        jaw_width=float(np.clip(normal(1.03 - 0.09 * feminine, 0.055), 0.87, 1.14)),
        face_length=float(np.clip(normal(1.0, 0.035), 0.93, 1.06)),
        nose_length=float(np.clip(normal(1.0, 0.05), 0.9, 1.12)),
        nose_width=float(np.clip(normal(0.95 + 0.22 * tone, 0.08), 0.82, 1.28)),
        nose_height=float(np.clip(normal(1.05 - 0.2 * tone, 0.12), 0.7, 1.3)),
        brow_ridge=float(rng.uniform(0.3, 1.3) * (1.2 - 0.7 * feminine)),
        cheek=float(rng.uniform(0.4, 1.4)),
        chin=float(rng.uniform(0.6, 1.3)),
        ear_size=float(rng.uniform(0.88, 1.12)),
        asymmetry=float(normal(0.0, 0.6)),
        eye_size=float(np.clip(normal(1.06 + 0.06 * feminine, 0.05), 0.96, 1.2)),
        eye_opening=float(np.clip(normal(0.98 + 0.05 * feminine, 0.07), 0.82, 1.10)),
        eye_tilt=float(normal(0.05, 0.05)),
        lid_fold=float(rng.uniform(0.2, 1.0)),
        lashes=float(np.clip(rng.uniform(0.25, 0.6) + 0.5 * feminine, 0.0, 1.0)),
        iris=linear(_along(IRIS_COLOURS, iris_place) * rng.uniform(0.85, 1.15)),
        iris_size=float(rng.uniform(0.97, 1.06)),
        brow_thickness=float(np.clip(normal(1.15 - 0.4 * feminine, 0.15), 0.55, 1.5)),
        brow_height=float(normal(0.0, 1.2)),
        brow_arch=float(rng.uniform(0.3, 1.0) * (0.6 + 0.7 * feminine)),
        brow_strength=float(rng.uniform(0.7, 1.0)),
        mouth_width=25.0 * float(np.clip(normal(1.0, 0.06), 0.88, 1.14)),
        upper_lip=float(np.clip(normal(5.6 + 1.8 * tone + 0.8 * feminine, 0.8), 4.0, 9.0)),
        lower_lip=float(np.clip(normal(7.8 + 1.8 * tone + 0.8 * feminine, 0.8), 6.0, 11.5)),
        cupid=float(rng.uniform(0.3, 1.1)),
        mouth_corner=float(normal(0.2, 0.7)),
        lips=lips,
        lip_gloss=float(rng.uniform(0.1, 0.5) + 0.4 * population.lip_vividness * rng.random()),
        teeth=np.clip(linear(np.array([236, 228, 210], np.float32)) * whiteness, 0.0, 1.1).astype(np.float32),
        skin=linear(np.clip(skin_srgb, 0, 255)),
        ruddiness=float(rng.uniform(0.2, 1.0)),
        freckles=float(max(0.0, rng.uniform(-1.2, 1.0)) * (tone < 0.35)),
        age=float(rng.uniform(0.0, 1.0) ** 1.5),
        hair_style=style,
        hair=linear(np.clip(hair_srgb, 0, 255)),
        hair_line=float(normal(0.0, 4.0)),
        hair_volume=float(rng.uniform(0.7, 1.3)),
        beard=beard,
        beard_strength=float(rng.uniform(0.5, 1.0)),
        glasses=_glasses(int(rng.integers(6)), population.glasses, later),
        glasses_colour=linear(np.array([(24, 22, 24), (70, 42, 26), (120, 112, 100), (40, 50, 90)])[rng.integers(4)]),
        clothes=linear(_wheel(rng.random(), 0.25 + 0.45 * rng.random(), rng.uniform(60, 200))),
        collar=("crew", "shirt", "turtleneck", "v")[rng.integers(4)],
        background=("gradient", "wall", "window", "shelf", "bokeh")[rng.integers(5)],
        background_colours=np.stack(
            [
                linear(_wheel(hue, rng.uniform(0.05, 0.32), rng.uniform(80, 195))),
                linear(_wheel(hue + rng.uniform(-0.15, 0.15), rng.uniform(0.05, 0.32), rng.uniform(55, 205))),
            ]
        ),
        light_azimuth=float(rng.choice([-1.0, 1.0]) * rng.uniform(12.0, 48.0)),
        light_elevation=float(rng.uniform(18.0, 42.0)),
        light_strength=float(population.light * rng.uniform(0.9, 1.1)),
        light_colour=np.array([1.0 + 0.16 * warmth, 1.0, 1.0 - 0.22 * warmth], np.float32),
        fill=float(rng.uniform(0.34, 0.54)),
        camera_pitch=float(population.camera_pitch * later.uniform(0.6, 1.4)),
        camera_softness=float(population.camera_softness * later.uniform(0.6, 1.4)),
        camera_noise=float(population.camera_noise * later.uniform(0.6, 1.4)),
        articulation_gain=float(gain),
        smoothness_seconds=float(rng.uniform(0.030, 0.044)),
        tempo=float(rng.uniform(0.86, 1.14)),
        lip_lift=float(rng.uniform(0.14, 0.24)),
        spread_gain=float(rng.uniform(0.7, 1.2)),
        liveliness=float(rng.uniform(0.5, 1.2)),
        smile=float(rng.uniform(-0.2, 0.7)),
        voice=Voice(
            f0, tract, float(rng.uniform(0.1, 0.9)), float(rng.uniform(0.2, 1.0)), float(rng.uniform(1.0, 3.0))
        ),
    )


def _glasses(drawn: int, share: float, rng: np.random.Generator) -> str:
    """The kind of glasses, or none. Half of the draws (`drawn` in 0-5) wear glasses; a random part of the others puts
    glasses on, or of the wearers takes them off, so that `share` of all people wear them."""
    kinds = ("round", "square", "thin")
    worn = kinds[drawn - 3] if drawn >= 3 else "none"
    change, other = rng.random(), kinds[int(rng.integers(3))]
    if worn == "none":
        return other if change < 2.0 * share - 1.0 else worn
    return "none" if change < 1.0 - 2.0 * share else worn


def _lip_colour(
    rng: np.random.Generator, skin_srgb: NDArray[np.float32], feminine: float, population: PopulationSettings
) -> Colour:
    """A lip colour between the skin's own red and a vivid one; the population and chance say how far.

    The vivid end is lipstick on feminine faces and flushed lips on the others.
    """
    natural = skin_srgb * np.array([0.88, 0.66, 0.68], np.float32) + np.array([6.0, 2.0, 4.0], np.float32)
    lipstick = LIP_PAINTS[rng.integers(len(LIP_PAINTS))]
    flushed = np.array([178.0, 76.0, 82.0], np.float32) * rng.uniform(0.92, 1.06, 3).astype(np.float32)
    vivid_end = lipstick if feminine > 0.45 else flushed
    vivid_end = vivid_end * (0.72 + 0.28 * skin_srgb.mean() / 180.0)
    amount = population.lip_vividness + population.lip_variety * float(rng.uniform(-1.0, 1.0))
    return linear(np.clip(natural + float(np.clip(amount, 0.0, 1.1)) * (vivid_end - natural), 0, 255))


def _wheel(hue: float, saturation: float, value: float) -> NDArray[np.float32]:
    """HSV to 8-bit sRGB; `hue` wraps at 1, `saturation` in [0, 1], `value` in [0, 255]."""
    offsets = np.array([0.0, 2.0 / 3.0, 1.0 / 3.0])
    ramp = np.clip(np.abs(((hue + offsets) % 1.0) * 6.0 - 3.0) - 1.0, 0.0, 1.0)
    return (value * (1.0 - saturation * (1.0 - ramp))).astype(np.float32)
