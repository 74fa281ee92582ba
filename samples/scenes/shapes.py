"""Outlines of shapes: polygons over the square from -1 to 1, y downwards, filled or cut out."""

import math
from collections.abc import Callable

from PIL import Image, ImageDraw

Polygon = list[tuple[float, float]]
Outline = list[tuple[bool, Polygon]]
"""Polygons in drawing order; True fills, False cuts out."""

SUPERSAMPLE = 4


def _ellipse(x: float, y: float, rx: float, ry: float, points: int = 48) -> Polygon:
    turns = [2 * math.pi * i / points for i in range(points)]
    return [(x + rx * math.cos(a), y + ry * math.sin(a)) for a in turns]


def _star(points: int, inner: float, phase: float = -math.pi / 2) -> Polygon:
    radii = [
        (1.0 if i % 2 == 0 else inner, phase + math.pi * i / points) for i in range(2 * points)
    ]
    return [(r * math.cos(a), r * math.sin(a)) for r, a in radii]


def _heart() -> Polygon:
    turns = [2 * math.pi * i / 60 for i in range(60)]
    return [
        (
            math.sin(t) ** 3,
            -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 16
            - 0.12,
        )
        for t in turns
    ]


def _drop() -> Polygon:
    turns = [2 * math.pi * i / 60 for i in range(60)]
    return [(0.72 * math.sin(t) * math.sin(t / 2) ** 1.5, -math.cos(t)) for t in turns]


def _flower() -> Outline:
    petals = [2 * math.pi * i / 6 for i in range(6)]
    parts = [(True, _ellipse(0.6 * math.cos(a), 0.6 * math.sin(a), 0.38, 0.38)) for a in petals]
    return [*parts, (True, _ellipse(0, 0, 0.5, 0.5)), (False, _ellipse(0, 0, 0.24, 0.24))]


def _fish() -> Outline:
    return [
        (True, _ellipse(-0.22, 0, 0.76, 0.52)),
        (True, [(0.3, 0), (1.0, -0.6), (0.84, 0), (1.0, 0.6)]),
        (True, [(-0.4, -0.4), (0.05, -0.78), (0.2, -0.35)]),
        (False, _ellipse(-0.6, -0.12, 0.1, 0.1, 16)),
    ]


OUTLINES: dict[str, Callable[[], Outline]] = {
    "circle": lambda: [(True, _ellipse(0, 0, 0.92, 0.92))],
    "square": lambda: [(True, [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)])],
    "triangle": lambda: [(True, [(0, -0.95), (1, 0.8), (-1, 0.8)])],
    "star": lambda: [(True, _star(5, 0.42))],
    "heart": lambda: [(True, _heart())],
    "cross": lambda: [
        (True, [(-0.32, -0.95), (0.32, -0.95), (0.32, 0.95), (-0.32, 0.95)]),
        (True, [(-0.95, -0.32), (0.95, -0.32), (0.95, 0.32), (-0.95, 0.32)]),
    ],
    "ring": lambda: [(True, _ellipse(0, 0, 0.95, 0.95)), (False, _ellipse(0, 0, 0.52, 0.52))],
    "crescent": lambda: [
        (True, _ellipse(-0.05, 0, 0.98, 0.98)),
        (False, _ellipse(0.42, -0.05, 0.82, 0.82)),
    ],
    "flower": _flower,
    "drop": lambda: [(True, _drop())],
    "fish": _fish,
}


def mask(shape: str, *, side: int, degrees: float, mirror: bool) -> Image.Image:
    """A shape's coverage, 0 to 255, as a `side` × `side` picture of mode L, smooth at its edges."""
    full = side * SUPERSAMPLE
    canvas = Image.new("L", (full, full), 0)
    pen = ImageDraw.Draw(canvas)
    cos, sin, flip = (
        math.cos(math.radians(degrees)),
        math.sin(math.radians(degrees)),
        -1 if mirror else 1,
    )
    # A little smaller than the square, so that a turned corner stays inside.
    half = full / 2 * 0.92
    for fill, points in OUTLINES[shape]():
        turned = [
            (
                full / 2 + half * (cos * x * flip - sin * y),
                full / 2 + half * (sin * x * flip + cos * y),
            )
            for x, y in points
        ]
        pen.polygon(turned, fill=255 if fill else 0)
    return canvas.reduce(SUPERSAMPLE)
