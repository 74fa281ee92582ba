"""How alike two pictures are once one has been laid over the other.

The darker picture A is moved onto the brighter B by a scale and a shift along each axis (a crop, a
change of aspect), found by Gauss-Newton steps on the luma at two resolutions (Lucas and Kanade,
1981; Baker and Matthews, "Lucas-Kanade 20 Years On", 2004). Then A is brightened by a gain and an
offset, clipped at white as an editor would, and subtracted in colour. What is left is averaged over
windows of 3×3 pixels, a tenth of a side: noise and the remains of a shift cancel there, an object
that only one of the two shows does not. The worst window, in grey levels, is `rest`;

    similarity = 1 − rest / (12 √(20 + contrast)),  at least 0

where contrast is the lesser standard deviation of the two: the square root lies between what coding
leaves behind, which hardly grows with contrast, and what registration does, which grows with it.
At 0.9 the copies of the sample and of real photographs part from the rest: the curve is printed by
benchmarks/near_images.py. What was tried and told them apart less well: correlation (0.98 for two
frames of one movement), the mean of what is left instead of its worst window, dividing by local
gradients, linear sampling, a signature of 24×24.

Legend: P pairs, S pixels a side, 6 unknowns: scale and shift of x, of y, gain, offset.
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.data.signatures import SIDE
from pipeline.duplicates.planes import Signatures, planes

Floats = NDArray[np.float32]

BLOCK = 256
"""Pairs compared at a time: about 50 MB of memory."""
COARSE_STEPS, FINE_STEPS = 4, 4
LARGEST_STEP = 0.06
SCALES, SHIFT = (0.86, 1.17), 0.08
"""How far the frames of two pictures may differ: two crops of up to 7 % a side."""
GAINS, OFFSET = (0.8, 1.6), 25.0
WHITE = 247
"""Levels above which a pixel may have been clipped and says nothing of the gain."""
WINDOW = 3
CONTRAST, REST = 20.0, 12.0
"""The constants of the similarity above."""


def similarities(one: Signatures, two: Signatures) -> NDArray[np.float64]:
    """(P,) similarity, 0…1 in steps of 0.0001, of each row of `one` and the same row of `two`.

    The same with `one` and `two` exchanged. Memory is bounded by a block.
    """
    parts = [
        _similarities(one[i : i + BLOCK], two[i : i + BLOCK]) for i in range(0, len(one), BLOCK)
    ]
    return np.concatenate([np.zeros(0), *parts])


def _similarities(one: Signatures, two: Signatures) -> NDArray[np.float64]:
    exchange = _brighter(one, two)[:, None]
    dark_P, bright_P = np.where(exchange, two, one), np.where(exchange, one, two)
    a_PSS, b_PSS = (planes(side)[0].astype(np.float32) for side in (dark_P, bright_P))
    move_P4 = _register(a_PSS, b_PSS)
    x_PSS, y_PSS, inside_PSS = _sampling(move_P4, SIDE)
    colours_P3SS = _colours(dark_P)
    moved_P3SS = np.matmul(
        np.matmul(y_PSS[:, None], colours_P3SS), x_PSS.transpose(0, 2, 1)[:, None]
    )
    target_P3SS = _colours(bright_P)
    left_P3SS = np.subtract(target_P3SS, _relit(moved_P3SS, target_P3SS, inside_PSS))
    rest = _worst_window(left_P3SS, inside_PSS)
    contrast = np.minimum(_contrast(dark_P), _contrast(bright_P))
    alike: NDArray[np.float64] = 1 - rest / (REST * np.sqrt(CONTRAST + contrast))
    return np.maximum(alike, 0).round(4)


def _brighter(one: Signatures, two: Signatures) -> NDArray[np.bool_]:
    """Where `one` is the brighter, or where equally bright the later in the order of bytes."""
    light = [planes(side)[0].sum(axis=(1, 2), dtype=np.int64) for side in (one, two)]
    difference = one.astype(np.int16) - two
    first = (difference != 0).argmax(axis=1)[:, None]
    later = np.take_along_axis(difference, first, axis=1)[:, 0] > 0
    brighter: NDArray[np.bool_] = (light[0] > light[1]) | ((light[0] == light[1]) & later)
    return brighter


def _register(a_PSS: Floats, b_PSS: Floats) -> Floats:
    """(P, 4) scale and shift of x, then of y, that move A onto B; a side is 1, the middle 0."""
    move_P4 = np.tile(np.array([1, 0, 1, 0], np.float32), (len(a_PSS), 1))
    halved = (_pooled(a_PSS), _pooled(b_PSS))
    for a, b, steps in ((*halved, COARSE_STEPS), (a_PSS, b_PSS, FINE_STEPS)):
        for _ in range(steps):
            move_P4 = _step(a, b, move_P4)
    return move_P4


def _pooled(image_PSS: Floats) -> Floats:
    count, side, _ = image_PSS.shape
    pooled: Floats = image_PSS.reshape(count, side // 2, 2, side // 2, 2).mean(axis=(2, 4))
    return pooled


def _step(a_PSS: Floats, b_PSS: Floats, move_P4: Floats) -> Floats:
    """One Gauss-Newton step: the linear model of B by A's gradients, gain and offset."""
    count, side, _ = a_PSS.shape
    x_PSS, y_PSS, inside_PSS = _sampling(move_P4, side)
    moved = y_PSS @ a_PSS @ x_PSS.transpose(0, 2, 1)
    slope_x, slope_y = np.zeros_like(moved), np.zeros_like(moved)
    slope_x[:, :, 1:-1] = (moved[:, :, 2:] - moved[:, :, :-2]) * (side / 2)
    slope_y[:, 1:-1] = (moved[:, 2:] - moved[:, :-2]) * (side / 2)
    u_S = _centred(side)
    columns = (
        slope_x * u_S, slope_x, slope_y * u_S[:, None], slope_y,
        moved - 128, np.ones_like(moved),
    )  # fmt: skip
    model_P6Q = np.stack([column.reshape(count, -1) for column in columns], axis=1)
    weighted = model_P6Q * inside_PSS.reshape(count, 1, -1)
    normal = (weighted @ model_P6Q.transpose(0, 2, 1)).astype(np.float64)
    right = (weighted @ (b_PSS - 128).reshape(count, -1, 1)).astype(np.float64)
    # A weak pull to "no move, gain 1": a picture without structure says nothing of either.
    pull = inside_PSS.sum(axis=(1, 2))[:, None, None] * np.array([1, 1, 1, 1, 1, 0.01])
    right[:, 4] += pull[:, 0, 4:5]
    solved = np.linalg.solve(normal + pull * np.eye(6), right)[:, :, 0]
    change = solved[:, :4] / np.clip(solved[:, 4:5], 0.5, 2.0)
    change = np.clip(change, -LARGEST_STEP, LARGEST_STEP)
    scale, shift = move_P4[:, 0::2], move_P4[:, 1::2]
    after = np.empty_like(move_P4)
    after[:, 0::2] = np.clip(scale * (1 + change[:, 0::2]), *SCALES)
    after[:, 1::2] = np.clip(shift + scale * change[:, 1::2], -SHIFT, SHIFT)
    return after


def _centred(side: int) -> Floats:
    return ((np.arange(side) + 0.5) / side - 0.5).astype(np.float32)


def _sampling(move_P4: Floats, side: int) -> tuple[Floats, Floats, Floats]:
    """Matrices (P, S, S) that sample along x and y, and (P, S, S) 1 where both frames have pixels.

    Cubic (Keys, 1981): linear sampling blurs one of the two pictures and not the other.
    """
    weights, inside = [], []
    for scale, shift in ((move_P4[:, 0], move_P4[:, 1]), (move_P4[:, 2], move_P4[:, 3])):
        at_PS = (scale[:, None] * _centred(side) + shift[:, None] + 0.5) * side - 0.5
        within = (at_PS >= -1e-6) & (at_PS <= side - 1 + 1e-6)
        within[:, [0, -1]] = False  # the filter of the reduction is cut there
        inside.append(within)
        weights.append(_cubic(np.clip(at_PS, 0, side - 1), side))
    return (*weights, (inside[1][:, :, None] & inside[0][:, None, :]).astype(np.float32))  # type: ignore[return-value]


def _cubic(at_PS: Floats, side: int) -> Floats:
    """(P, S, side) weights of the four pixels around each place; the edge pixel goes on outside."""
    t = np.abs(at_PS[:, :, None] - np.arange(-1, side + 1, dtype=np.float32))
    near = (1.5 * t - 2.5) * t * t + 1
    far = ((-0.5 * t + 2.5) * t - 4) * t + 2
    spread = np.where(t < 1, near, np.where(t < 2, far, 0)).astype(np.float32)
    weights = spread[:, :, 1:-1].copy()
    weights[:, :, 0] += spread[:, :, 0]
    weights[:, :, -1] += spread[:, :, -1]
    return weights


def _colours(signatures: Signatures) -> Floats:
    """(P, 3, S, S) red, green, blue; JPEG's equations."""
    luma, blue, red = planes(signatures)
    y = luma.astype(np.float32)
    cb, cr = (_WIDER @ (plane.astype(np.float32) - 128) @ _WIDER.T for plane in (blue, red))
    colours = [y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb]
    return np.asarray(np.clip(np.stack(colours, axis=1), 0, 255), np.float32)


def _linear(side: int) -> Floats:
    """(2 side, side) weights that double an axis linearly."""
    at = np.clip((np.arange(2 * side) + 0.5) / 2 - 0.5, 0, side - 1)
    weights = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(side)))
    return np.asarray(weights, np.float32)


_WIDER = _linear(SIDE // 2)


def _luma(colours_P3SS: Floats) -> Floats:
    red, green, blue = (colours_P3SS[:, i] for i in range(3))
    luma: Floats = np.float32(0.299) * red + np.float32(0.587) * green + np.float32(0.114) * blue
    return luma


def _relit(a_P3SS: Floats, b_P3SS: Floats, inside_PSS: Floats) -> Floats:
    """A under the gain and offset that take its luma to B's, clipped to 0…255."""
    used = inside_PSS * ((a_P3SS.max(axis=1) <= WHITE) & (b_P3SS.max(axis=1) <= WHITE))
    count = used.sum(axis=(1, 2))
    a, b = _luma(a_P3SS), _luma(b_P3SS)
    mean_a, mean_b = ((plane * used).sum(axis=(1, 2)) / np.maximum(count, 1) for plane in (a, b))
    from_a, from_b = (a - mean_a[:, None, None]) * used, (b - mean_b[:, None, None]) * used
    square, product = (from_a * from_a).sum(axis=(1, 2)), (from_a * from_b).sum(axis=(1, 2))
    gain = np.clip((product + 4 * count + 1) / (square + 4 * count + 1), *GAINS)
    # Without structure two plain pictures of other brightness are other pictures, not copies.
    structure = square / (square + 4 * count + 1)
    offset = np.clip((mean_b - gain * mean_a) * structure, -OFFSET, OFFSET)
    relit = gain[:, None, None, None] * a_P3SS + offset[:, None, None, None]
    return np.asarray(np.clip(relit, 0, 255), np.float32)


def _worst_window(left_P3SS: Floats, inside_PSS: Floats) -> Floats:
    """(P,) the largest mean of what is left in a window, over luma and the colour differences."""
    left = left_P3SS * inside_PSS[:, None]
    luma = _luma(left)
    parts = np.stack([luma, 0.564 * (left[:, 2] - luma), 0.713 * (left[:, 0] - luma)], axis=1)
    pixels = _window_sums(inside_PSS)
    means = _window_sums(parts) / np.maximum(pixels, 1)[:, None]
    size = np.sqrt((means * means).sum(axis=1))
    worst: Floats = np.where(pixels >= WINDOW * WINDOW / 2, size, 0).max(axis=(1, 2))
    return worst


def _window_sums(image: Floats) -> Floats:
    """Sums over every WINDOW×WINDOW of the last two axes."""
    rows, columns = (size - WINDOW + 1 for size in image.shape[-2:])
    total = np.zeros((*image.shape[:-2], rows, columns), np.float32)
    for y in range(WINDOW):
        for x in range(WINDOW):
            total += image[..., y : y + rows, x : x + columns]
    return total


def _contrast(signatures: Signatures) -> NDArray[np.float64]:
    """Standard deviation of a picture over luma and both colour differences, in grey levels."""
    parts = [plane.reshape(len(plane), -1).astype(np.float64) for plane in planes(signatures)]
    deviation: NDArray[np.float64] = np.sqrt(sum(part.var(axis=1) for part in parts))
    return deviation
