"""A procedural alphabet: the embedded dataset, unlimited classes of handwriting-like characters from NumPy alone."""

from dataclasses import dataclass

import numpy as np

from minimeta.data.episodes import ImageClasses
from minimeta.data.errors import DataError

PARTS = {"train": 1000, "val": 100, "test": 200}  # default numbers of classes

STROKES = 4  # of a character, at most
SAMPLES = 24  # points along a stroke
BLOCK = 32  # classes rendered at once: bounds memory and suits the processor's cache


@dataclass(frozen=True)
class Hand:
    """How much the drawings of one character differ: standard deviations, lengths in units of the image side.

    The defaults keep raw pixels a poor guide (nearest neighbour: about 63% at 5-way 1-shot) and shape a good one.
    """

    wobble: float = 0.02  # of a control point
    turn: float = 0.1  # radians
    slant: float = 0.12
    stretch: float = 0.1  # of the log of width, and of height
    shift: float = 0.05
    pen: float = 0.028  # radius of the stroke, the mean
    pressure: float = 0.12  # of the log of that radius


HAND = Hand()


def load(
    part: str, *, classes: int | None = None, drawings: int = 20, size: int = 28, seed: int = 0, hand: Hand = HAND
) -> ImageClasses:
    """Characters 0..classes-1 of `part`: "train", "val", "trainval" (both) or "test".

    Images are uint8 [classes, drawings, size, size, 1], ink 255. Character k is a pure function of (seed, part, k), so
    parts are disjoint and asking for more classes or drawings changes none of the others. Raises DataError for an
    unknown part and for numbers under 1.

    >>> glyphs = load("test", classes=3, drawings=2)
    >>> glyphs.images.shape, glyphs.images.dtype, glyphs.names[0]
    ((3, 2, 28, 28, 1), dtype('uint8'), 'test-00000')
    """
    for label, value in (("classes", classes), ("drawings", drawings), ("size", size)):
        if value is not None and value < 1:
            raise DataError(f"glyphs: {label} must be at least 1, got {value}")
    members = _members(part, classes)
    images = np.empty((len(members), drawings, size, size, 1), np.uint8)
    for first in range(0, len(members), BLOCK):
        block = members[first : first + BLOCK]
        shapes, variations = zip(*(_numbers(seed, name, k, drawings) for name, k in block), strict=True)
        strokes, visible = _characters(np.stack(shapes))
        variation = np.stack(variations)
        curves = _vary(strokes, variation, hand)
        radius = hand.pen * np.exp(hand.pressure * variation[..., -1])
        images[first : first + BLOCK, ..., 0] = _ink(curves, visible, radius, size)
    return ImageClasses("glyphs", part, images, tuple(f"{name}-{k:05d}" for name, k in members))


def _members(part: str, classes: int | None) -> list[tuple[str, int]]:
    """(part, k) of each class."""
    if part in PARTS:
        return [(part, k) for k in range(PARTS[part] if classes is None else classes)]
    if part != "trainval":
        raise DataError(f"glyphs has no part {part!r}: choose from train, val, trainval, test")
    both = _members("train", None) + _members("val", None)
    if classes is not None and classes > len(both):
        raise DataError(f"glyphs: trainval has {len(both)} classes, got classes={classes}; train has no limit")
    return both[:classes]


def _numbers(seed: int, part: str, k: int, drawings: int) -> tuple[np.ndarray, np.ndarray]:
    """The random numbers of character k: its shape [STROKES + 1, 8] in 0..1, its drawings [drawings, ...] normal."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(list(PARTS).index(part), k)))
    return rng.random((STROKES + 1, 8)), rng.standard_normal((drawings, STROKES * 4 * 2 + 7))


def _characters(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cubic strokes [classes, STROKES, 4, 2] centred on 0, and which of them exist [classes, STROKES]."""
    count = 2 + np.floor(numbers[:, STROKES, 0] * 3)
    visible = np.arange(STROKES) < count[:, None]
    strokes = np.zeros((len(numbers), STROKES, 4, 2))
    for s in range(STROKES):
        x, y, heading, length, bend, twist, joins, where = numbers[:, s].T
        start = np.stack([x, y], axis=-1)
        if s:  # letters hang together: most strokes leave from a point of the stroke before
            joint = _bezier(strokes[:, s - 1], where[:, None])[:, 0]
            start = np.where((joins < 0.65)[:, None], joint, start)
        angle = 2 * np.pi * heading[:, None] + np.stack([0 * bend, 4 * (bend - 0.5), 4 * (bend + twist - 1)], axis=-1)
        steps = (0.2 + 0.25 * length)[:, None, None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
        strokes[:, s, 0] = start
        strokes[:, s, 1:] = start[:, None] + steps.cumsum(axis=1)
    return _fit(strokes, visible), visible


def _fit(strokes: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Strokes moved and scaled so that the character fills the middle of the image."""
    ink = _bezier(strokes, np.linspace(0, 1, SAMPLES))
    shown = visible[:, :, None, None]
    low = ink.min(axis=(1, 2), where=shown, initial=np.inf)
    high = ink.max(axis=(1, 2), where=shown, initial=-np.inf)
    extent = high - low
    # a flat character stays flat, yet not so flat that its parts run into one another
    extent = np.maximum(extent, 0.7 * extent.max(axis=1, keepdims=True))
    fitted: np.ndarray = (strokes - ((low + high) / 2)[:, None, None]) * (0.72 / extent)[:, None, None]
    return fitted


def _bezier(points: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Cubic Bezier curves [..., n, 2] through control points [..., 4, 2] at parameters t [..., n]."""
    u = 1 - t
    curves: np.ndarray = np.stack([u**3, 3 * t * u**2, 3 * t**2 * u, t**3], axis=-1) @ points
    return curves


def _vary(strokes: np.ndarray, variation: np.ndarray, hand: Hand) -> np.ndarray:
    """Curves [classes, drawings, STROKES, SAMPLES, 2] in image coordinates 0..1, one variation per drawing."""
    classes, drawings = variation.shape[:2]
    wobble = variation[..., : STROKES * 4 * 2].reshape(classes, drawings, STROKES, 4, 2)
    turn, slant, width, height, x, y, _ = np.moveaxis(variation[..., STROKES * 4 * 2 :], -1, 0)
    points = strokes[:, None] + hand.wobble * wobble
    curves = _bezier(points, np.linspace(0, 1, SAMPLES)).reshape(classes, drawings, -1, 2)
    cos, sin = np.cos(hand.turn * turn), np.sin(hand.turn * turn)
    one, zero = np.ones_like(turn), np.zeros_like(turn)
    # rows are points, so each matrix acts from the right: stretch, then slant, then turn
    stretch = _matrix(np.exp(hand.stretch * width), zero, zero, np.exp(hand.stretch * height))
    curves = curves @ (stretch @ _matrix(one, zero, hand.slant * slant, one) @ _matrix(cos, sin, -sin, cos))
    curves += 0.5 + hand.shift * np.stack([x, y], axis=-1)[:, :, None]
    placed: np.ndarray = curves.reshape(classes, drawings, STROKES, SAMPLES, 2)
    return placed


def _matrix(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    """[..., 2, 2] from its four entries."""
    return np.stack([np.stack([a, b], axis=-1), np.stack([c, d], axis=-1)], axis=-2)


def _ink(curves: np.ndarray, visible: np.ndarray, radius: np.ndarray, size: int) -> np.ndarray:
    """Images uint8 [classes, drawings, size, size]: a Gaussian brush drawn along the curves, then thresholded softly.

    A Gaussian is a product of one factor in x and one in y, so that all dabs of the brush make one matrix product.
    """
    dabs = ((curves[..., 1:, :] + curves[..., :-1, :]) / 2).reshape(*radius.shape, -1, 2).astype(np.float32)
    length = np.linalg.norm(np.diff(curves, axis=-2), axis=-1) * visible[:, None, :, None]
    # weights by length make the density along any stroke 1, however fast the pen moves
    weight = length.reshape(*radius.shape, -1) / (np.sqrt(2 * np.pi) * radius[..., None])
    centres = ((np.arange(size) + 0.5) / size).astype(np.float32)
    offset = (centres - dabs[..., None]) / radius[..., None, None, None].astype(np.float32)
    brush = np.exp(-0.5 * offset * offset)
    across, down = brush[..., 0, :], brush[..., 1, :] * weight[..., None].astype(np.float32)
    density = np.swapaxes(down, -1, -2) @ across
    images: np.ndarray = np.round(255 * np.clip(2.5 * density - 0.75, 0, 1)).astype(np.uint8)
    return images
