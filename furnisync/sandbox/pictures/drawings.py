"""Draws furniture: simple shapes on a gradient, with grain so that a JPEG has a real size."""

from __future__ import annotations

import io
from random import Random
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

__all__ = ["aspect_of", "draw", "full_width_of", "grain", "jpeg"]

_ASPECTS = ((4, 3), (1, 1), (3, 4), (5, 4), (2, 3), (16, 9))
_FULL_WIDTHS = (2000, 1600, 2400, 1800, 3000)

# Each shape is a list of boxes in percent of the image: left, top, right, bottom.
_SHAPES: dict[str, tuple[tuple[int, int, int, int], ...]] = {
    "table": ((15, 45, 85, 52), (20, 52, 25, 88), (75, 52, 80, 88)),
    "chair": ((35, 15, 42, 55), (35, 55, 68, 61), (36, 61, 41, 90), (62, 61, 67, 90)),
    "shelf": (
        (25, 10, 75, 14),
        (25, 34, 75, 37),
        (25, 60, 75, 63),
        (25, 10, 28, 92),
        (72, 10, 75, 92),
    ),
    "sofa": ((10, 40, 90, 62), (6, 48, 16, 80), (84, 48, 94, 80), (12, 60, 88, 80)),
    "bed": ((10, 25, 16, 85), (10, 55, 90, 72), (84, 50, 90, 85), (17, 46, 34, 55)),
    "chest": ((22, 30, 78, 88), (25, 34, 75, 48), (25, 52, 75, 66), (25, 70, 75, 84)),
}


def aspect_of(number: int) -> tuple[int, int]:
    """Return the width to height ratio of drawing `number`."""
    return _ASPECTS[number % len(_ASPECTS)]


def full_width_of(number: int) -> int:
    """Return the width in pixels of drawing `number` in its full size."""
    return _FULL_WIDTHS[number % len(_FULL_WIDTHS)]


def draw(number: int, width: int, height: int) -> Image.Image:
    """Return drawing `number` in any size; each number has its own shape, place and colours."""
    random = Random(number * 7919 + 1)
    top, bottom, wood = (_colour(random) for _ in range(3))
    fall = np.linspace(0.0, 1.0, height)[:, None, None]
    rows = np.array(top) * (1 - fall) + np.array(bottom) * fall
    image = Image.fromarray(np.broadcast_to(rows, (height, width, 3)).astype(np.uint8), "RGB")
    pen = ImageDraw.Draw(image)
    shape = _SHAPES[sorted(_SHAPES)[number % len(_SHAPES)]]
    shift, scale = random.uniform(-0.1, 0.1), random.uniform(0.75, 1.1)
    for part, (left, up, right, down) in enumerate(shape):
        shade = tuple(max(0, c - 18 * part) for c in wood)
        box = [(0.5 + (v / 100 - 0.5) * scale) for v in (left, up, right, down)]
        xs = sorted((int((box[0] + shift) * width), int((box[2] + shift) * width)))
        ys = sorted((int(box[1] * height), int(box[3] * height)))
        pen.rectangle((xs[0], ys[0], xs[1], ys[1]), fill=shade)
    return image


def grain(image: Image.Image, strength: float, seed: int) -> Image.Image:
    """Return the image with grey noise of that strength."""
    pixels: Any = np.asarray(image, dtype=np.float32)
    noise = np.random.default_rng(seed).standard_normal(pixels.shape[:2], dtype=np.float32)
    return Image.fromarray(np.clip(pixels + noise[:, :, None] * strength, 0, 255).astype(np.uint8))


def jpeg(image: Image.Image, quality: int) -> bytes:
    """Return the image as a JPEG file."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _colour(random: Random) -> tuple[int, ...]:
    return tuple(random.randint(40, 240) for _ in range(3))
