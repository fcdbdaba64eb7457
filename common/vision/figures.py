"""The figures of the notebooks about pixel gradients: grids of pictures and maps, and small animations."""

from __future__ import annotations

import io
from collections.abc import Sequence

import imageio.v3 as imageio
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from common.plots import show_picture
from common.validate import checked_sizes


def grid(
    rows: Sequence[Sequence[np.ndarray]],
    columns: Sequence[str] = (),
    names: Sequence[str] = (),
    *,
    titles: Sequence[Sequence[str]] | None = None,
    inches: float = 1.5,
) -> Figure:
    """Pictures and maps in rows.

    Args:
        rows: of pictures (H, W, 3), values 0..255, and of maps (H, W), drawn from black (0) to white.
        columns: titles of the columns.
        names: of the rows, at their left.
        titles: one for each picture, instead of `columns`.
        inches: width of a picture.
    """
    count = max(len(row) for row in rows)
    size = (inches * count, (inches + 0.05) * len(rows) + 0.25)
    fig, axes = plt.subplots(len(rows), count, figsize=size, squeeze=False)
    for r, row in enumerate(rows):
        for c, ax in enumerate(axes[r]):
            ax.set_axis_off()
            if c >= len(row):
                continue
            title = titles[r][c] if titles else columns[c] if r == 0 and columns else ""
            _draw(ax, row[c], title)
        if names:
            axes[r, 0].text(-0.06, 0.5, names[r], rotation=90, transform=axes[r, 0].transAxes, ha="right", va="center")
    return fig


def _draw(ax: plt.Axes, picture: np.ndarray, title: str) -> None:
    """A picture as it is; a map with its brightest hundredth white, so that single pixels do not darken the rest."""
    if picture.ndim == 3:
        show_picture(ax, picture, title)
    else:
        ax.imshow(picture, cmap="hot", vmin=0, vmax=np.percentile(picture, 99) or 1)
        ax.set_title(title, fontsize="small")
    ax.images[-1].set_interpolation("antialiased")  # the nearest pixels alone would turn fine detail into false grain
    ax.set_axis_off()


def gif(frames: Sequence[np.ndarray], size: int = 112, milliseconds: int = 150, colors: int = 64) -> bytes:
    """An animation that stops at its last frame for a second and starts again.

    Args:
        frames: (H, W, 3) uint8, of any sizes.
        size: width and height that they are scaled to.
        milliseconds: that a frame is shown.
        colors: of the palette; fewer make a smaller file.
    Returns:
        The content of a .gif file.
    Raises:
        ValueError: no frames.
    """
    checked_sizes(size=size, milliseconds=milliseconds, colors=colors)
    if not len(frames):
        raise ValueError("frames holds no picture")
    scaled = [Image.fromarray(frame).resize((size, size), Image.Resampling.BICUBIC) for frame in frames]
    palette = scaled[-1].quantize(colors)  # one for all frames; the last picture has the richest colours
    stack = [np.array(frame.quantize(palette=palette, dither=Image.Dither.NONE).convert("RGB")) for frame in scaled]
    stack += [stack[-1]] * (1000 // milliseconds)  # Pillow stores equal frames once
    target = io.BytesIO()
    imageio.imwrite(target, np.stack(stack), extension=".gif", duration=milliseconds, loop=0)
    return target.getvalue()
