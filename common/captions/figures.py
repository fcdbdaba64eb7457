"""Pictures with captions under them. The function draws and returns the figure; the notebook shows it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from common.plots import show_picture

MARKS = {"<START>", "<END>", "<NULL>"}


def plain(caption: str) -> str:
    """A caption without <START>, <END> and <NULL>."""
    return " ".join(word for word in caption.split() if word not in MARKS)


def captioned(
    pictures: Sequence[np.ndarray],
    captions: Sequence[Sequence[str]],
    names: Sequence[str],
    columns: int = 4,
    wrap: int = 30,
) -> Figure:
    """Pictures, each with several captions below it.

    Args:
        pictures: (H, W, 3) each, values 0..255.
        captions: for each picture as many strings as there are names; <START>, <END> and <NULL> are left out.
        names: what the captions are, for example ("written", "reference").
        columns: pictures in a row.
        wrap: characters in a line.
    Raises:
        ValueError: no pictures, or a picture with another number of captions.
    """
    if not len(pictures) or len(captions) != len(pictures) or any(len(of_one) != len(names) for of_one in captions):
        raise ValueError(f"{len(pictures)} pictures with {len(names)} captions each are needed, at least one picture")
    told = [[f"{name}: {plain(text)}" for name, text in zip(names, of_one, strict=True)] for of_one in captions]
    blocks = ["\n".join(textwrap.fill(text, wrap, subsequent_indent="   ") for text in of_one) for of_one in told]
    rows, lines = -(-len(pictures) // columns), max(block.count("\n") + 1 for block in blocks)
    fig, axes = plt.subplots(rows, columns, figsize=(2.4 * columns, (2.4 + 0.16 * lines) * rows), squeeze=False)
    for ax in axes.flat[len(pictures) :]:
        ax.set_visible(False)
    for ax, picture, block in zip(axes.flat, pictures, blocks, strict=False):
        show_picture(ax, picture)
        ax.set_xlabel(block, loc="left", fontsize=8.5)
    return fig
