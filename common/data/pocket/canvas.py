"""A paint-by-number canvas: polygons filled with integer arithmetic only, so every machine gets the same bytes.

A canvas holds one palette number per fine pixel (`oversample` of them along each side of a final pixel). Shapes
are polygons in fixed-point coordinates, 16 steps a fine pixel. Nothing here rounds a float, so the picture cannot
depend on the processor, its fused multiply-add or a library's version. A `Pen` maps an object's own coordinates
(x to the right, y down, the object inside -100..100) onto the canvas: where, how large, turned, flipped.
"""

import math
from itertools import accumulate

import numpy as np

STEPS = 16  # fixed-point steps in a fine pixel
_SIN = tuple(round(1024 * math.sin(math.radians(d))) for d in range(360))
_RING = np.array([(_SIN[(d + 90) % 360], _SIN[d]) for d in range(0, 360, 18)], dtype=np.int64)  # radius 1024
# Catmull-Rom weights of the four neighbouring points, in 128ths, at t = 0, 1/4, 1/2, 3/4.
_CURVE = np.array([[0, 128, 0, 0], [-9, 111, 29, -3], [-8, 72, 72, -8], [-3, 29, 111, -9]], dtype=np.int64)


class Dice:
    """Whole random numbers from a RandomState, drawn in blocks because single draws are slow."""

    def __init__(self, rng: np.random.RandomState) -> None:
        self.rng = rng
        self._left: list[int] = []

    def between(self, low: int, high: int) -> int:
        """A whole number in low..high, both included."""
        if not self._left:
            self._left = self.rng.randint(0, 2**31 - 1, size=128, dtype=np.int64).tolist()
        return low + self._left.pop() % (high - low + 1)

    def chance(self, percent: int) -> bool:
        """True in `percent` of a hundred cases."""
        return self.between(0, 99) < percent

    def choice(self, options):
        """One of the options, each as likely."""
        return options[self.between(0, len(options) - 1)]

    def weighted(self, weights: dict):
        """One of the keys, as likely as its whole-number weight says."""
        total = sum(weights.values())
        if total < 1 or min(weights.values()) < 0:
            raise ValueError(f"weights must be whole numbers >= 0, one at least > 0; got {weights}")
        at = self.between(0, total - 1)
        return next(key for key, reached in zip(weights, accumulate(weights.values()), strict=True) if at < reached)

    def near(self, colour: tuple[int, int, int], spread: int = 14) -> tuple[int, int, int]:
        """The colour with each channel moved by at most `spread`."""
        return tuple(min(255, max(0, c + self.between(-spread, spread))) for c in colour)


def tone(colour: tuple[int, int, int], percent: int) -> tuple[int, int, int]:
    """The colour made darker (percent < 100) or mixed with white (percent > 100)."""
    if percent <= 100:
        return tuple(c * percent // 100 for c in colour)
    return tuple(c + (255 - c) * (percent - 100) // 100 for c in colour)


def mix(a: tuple[int, int, int], b: tuple[int, int, int], percent: int) -> tuple[int, int, int]:
    """`percent` of b and the rest of a."""
    return tuple((p * (100 - percent) + q * percent) // 100 for p, q in zip(a, b, strict=True))


def smooth(points: np.ndarray) -> np.ndarray:
    """A closed Catmull-Rom curve through the points, four per span (Catmull and Rom, 1974).

    Args:
        points: (n, 2) whole numbers.

    Returns:
        (4 n, 2) int64, every fourth row one of the given points.
    """
    ends = np.concatenate([points[-1:], points, points[:2]])
    n = len(points)
    near = np.stack([ends[:n], ends[1 : n + 1], ends[2 : n + 2], ends[3 : n + 3]])  # (4, n, 2)
    curve = _CURVE @ near.reshape(4, -1)  # (4 times, n * 2)
    return (curve.reshape(4, n, 2).transpose(1, 0, 2).reshape(-1, 2) + 64) >> 7


class Canvas:
    """A square picture of palette numbers."""

    def __init__(self, size: int, oversample: int = 4) -> None:
        self.size, self.oversample = size, oversample
        self.side = size * oversample
        self.number = np.zeros((self.side, self.side), dtype=np.uint8)
        self._covered = np.zeros((self.side, self.side), dtype=bool)
        self._within_object = False
        self._palette: dict[tuple[int, int, int], int] = {}

    def paint(self, colour: tuple[int, int, int]) -> int:
        """The palette number of a colour; a new one is mixed if need be."""
        if colour not in self._palette:
            if len(self._palette) == 256:
                raise ValueError("a canvas holds at most 256 colours")
            self._palette[colour] = len(self._palette)
        return self._palette[colour]

    def fill(self, points: np.ndarray, colour: tuple[int, int, int], only=None) -> None:
        """Fill a polygon by the even-odd rule.

        Args:
            points: (n, 2) int64, fixed-point x and y (16 steps a fine pixel).
            colour: red, green and blue, 0..255.
            only: a colour; fill only where the canvas shows it now (shading that stays inside a body).
        """
        x, y = points[:, 0], points[:, 1]
        xs, ys = x.tolist(), y.tolist()
        top, left = max(0, min(ys) // STEPS), max(0, min(xs) // STEPS)
        bottom, right = min(self.side, max(ys) // STEPS + 1), min(self.side, max(xs) // STEPS + 1)
        if top >= bottom or left >= right:
            return
        rows = np.arange(top, bottom) * STEPS + STEPS // 2  # the fine pixels' centres
        above = y[:, None] <= rows  # (edges, rows)
        below = np.concatenate([above[1:], above[:1]])
        edge, row = (above != below).nonzero()
        end = edge + 1
        end[end == len(xs)] = 0
        from_x, from_y = x[edge], y[edge]
        cut = from_x + (rows[row] - from_y) * (x[end] - from_x) // (y[end] - from_y)
        width = right - left
        first = np.minimum(np.maximum((cut + STEPS // 2) // STEPS - left, 0), width)  # first column right of the cut
        flips = np.bincount(row * (width + 1) + first, minlength=(bottom - top) * (width + 1))
        flips = flips.astype(np.uint8).reshape(bottom - top, width + 1)[:, :width]
        inside = (np.add.accumulate(flips, axis=1, dtype=np.uint8) & 1).view(bool)
        self._colour_in(top, left, inside, colour, only)

    def fill_box(self, left: int, top: int, right: int, bottom: int, colour, only=None) -> None:
        """What `fill` does for an upright rectangle, faster."""
        half = STEPS // 2  # a column starts right of the cut, a row on it: the same ties as in `fill`
        left, right = (min(self.side, max(0, (v + half) // STEPS)) for v in (left, right))
        top, bottom = (min(self.side, max(0, (v + half - 1) // STEPS)) for v in (top, bottom))
        if top < bottom and left < right:
            self._colour_in(top, left, np.ones((bottom - top, right - left), dtype=bool), colour, only)

    def _colour_in(self, top: int, left: int, inside: np.ndarray, colour, only) -> None:
        window = self.number[top : top + inside.shape[0], left : left + inside.shape[1]]
        if only is not None:
            inside &= window == self.paint(only)
        np.putmask(window, inside, self.paint(colour))
        if self._within_object:
            self._covered[top : top + inside.shape[0], left : left + inside.shape[1]] |= inside

    def start_object(self) -> None:
        """Forget what was covered: the shapes from here on are one object."""
        self._covered[:] = False
        self._within_object = True

    @property
    def covered(self) -> np.ndarray:
        """What the present or the last object covers, its outline not included: bool (side, side) of fine pixels."""
        return self._covered

    def finish_object(self, outline: tuple[int, int, int] | None, width: int = 1) -> tuple[int, int, int, int] | None:
        """Draw the outline around all shapes since `start_object`.

        Args:
            outline: its colour, or None for none.
            width: in fine pixels.

        Returns:
            (left, top, right, bottom) of the object in final pixels, right and bottom excluded; None if nothing shows.
        """
        covered, self._within_object = self._covered, False
        rows, columns = covered.any(axis=1).nonzero()[0], covered.any(axis=0).nonzero()[0]
        if not len(rows):
            return None
        if outline is not None:
            grown = covered.copy()
            for _ in range(width):
                wider = grown.copy()
                wider[1:] |= grown[:-1]
                wider[:-1] |= grown[1:]
                wider[:, 1:] |= grown[:, :-1]
                wider[:, :-1] |= grown[:, 1:]
                grown = wider
            np.putmask(self.number, grown & ~covered, self.paint(outline))
        k = self.oversample
        return int(columns[0]) // k, int(rows[0]) // k, int(columns[-1]) // k + 1, int(rows[-1]) // k + 1

    def picture(self) -> np.ndarray:
        """The colours, (side, side, 3) uint8, before downscaling."""
        palette = np.zeros((256, 3), dtype=np.uint8)
        palette[: len(self._palette)] = list(self._palette)
        return palette.take(self.number, axis=0)


class Pen:
    """Draws in an object's own coordinates: -100..100, x to the right, y down."""

    def __init__(
        self,
        canvas: Canvas,
        x: int = 0,
        y: int = 0,
        scale: int = 100,
        turn: int = 0,
        flip: bool = False,
        stretch: int = 100,
    ) -> None:
        """Place an object.

        Args:
            canvas: where to draw.
            x, y: the object's middle on the page, -100..100.
            scale: per cent of the page's width that 200 units take.
            turn: degrees, clockwise on the page.
            flip: mirror left and right (before turning).
            stretch: per cent of the width, the height unchanged.
        """
        self.canvas = canvas
        fixed = canvas.side * STEPS
        sin, cos = _SIN[turn % 360], _SIN[(turn + 90) % 360]
        self._upright = turn % 360 == 0
        wide = (-1 if flip else 1) * scale * stretch
        self._matrix = np.array(
            [
                [fixed * wide * cos // 2_000_000, fixed * wide * sin // 2_000_000],
                [-fixed * scale * sin // 20_000, fixed * scale * cos // 20_000],
            ],
            dtype=np.int64,
        )
        self._middle = np.array([fixed * (x + 100) // 200, fixed * (y + 100) // 200], dtype=np.int64)

    def _place(self, points) -> np.ndarray:
        return ((np.asarray(points, dtype=np.int64) @ self._matrix) >> 10) + self._middle

    def poly(self, points, colour, only=None) -> None:
        """A polygon with sharp corners."""
        self.canvas.fill(self._place(points), colour, only)

    def blob(self, points, colour, only=None) -> None:
        """A closed smooth shape through the points."""
        self.canvas.fill(smooth(self._place(points)), colour, only)

    def oval(self, x: int, y: int, rx: int, ry: int, colour, only=None, turn: int = 0) -> None:
        """An ellipse with half axes rx and ry, turned by some degrees."""
        sin, cos = _SIN[turn % 360], _SIN[(turn + 90) % 360]
        axes = np.array([[rx * cos, rx * sin], [-ry * sin, ry * cos]], dtype=np.int64)
        ring = (_RING @ axes) >> 16  # 16ths of a unit
        self.canvas.fill(((ring @ self._matrix) >> 14) + self._place([(x, y)]), colour, only)

    def box(self, left: int, top: int, right: int, bottom: int, colour, only=None) -> None:
        """A rectangle."""
        if self._upright:
            (x0, y0), (x1, y1) = self._place([(left, top), (right, bottom)]).tolist()
            self.canvas.fill_box(min(x0, x1), y0, max(x0, x1), y1, colour, only)
        else:
            self.poly([(left, top), (right, top), (right, bottom), (left, bottom)], colour, only)

    def limb(self, points, widths, colour, only=None) -> None:
        """A thick line through the points, `widths` wide at each of them."""
        for (x0, y0), (x1, y1), w0, w1 in zip(points, points[1:], widths, widths[1:], strict=False):
            dx, dy = x1 - x0, y1 - y0
            length = max(1, math.isqrt(dx * dx + dy * dy))
            quad = [
                (x0 - dy * w0 // (2 * length), y0 + dx * w0 // (2 * length)),
                (x1 - dy * w1 // (2 * length), y1 + dx * w1 // (2 * length)),
                (x1 + dy * w1 // (2 * length), y1 - dx * w1 // (2 * length)),
                (x0 + dy * w0 // (2 * length), y0 - dx * w0 // (2 * length)),
            ]
            self.poly(quad, colour, only)
        for (x, y), w in zip(points[1:-1], widths[1:-1], strict=False):
            self.oval(x, y, w // 2, w // 2, colour, only)
