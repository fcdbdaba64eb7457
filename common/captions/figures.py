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


def attended(picture: np.ndarray, words: Sequence[str], looks: np.ndarray, boxes: dict | None = None) -> Figure:
    """A picture once for each written word, brighter where the network looked when it wrote the word.

    Args:
        picture: (H, W, 3), values 0..255.
        words: of the caption; <START>, <END> and <NULL> are left out.
        looks: (at least as many as words, rows, columns) weights that sum to 1 for each word.
        boxes: {word: (left, top, right, bottom)} in pixels, drawn where that word is written.
    Raises:
        ValueError: no words, or fewer maps than words.
    """
    shown = [(word, look) for word, look in zip(words, looks, strict=False) if word not in MARKS]
    if not shown or len(looks) < len(words):
        raise ValueError(f"a map for each of at least one word is needed, got {len(words)} words, {len(looks)} maps")
    columns, height, width = 6, *picture.shape[:2]
    rows = -(-(len(shown) + 1) // columns)
    fig, axes = plt.subplots(rows, columns, figsize=(1.3 * columns, 1.5 * rows), squeeze=False)
    show_picture(axes.flat[0], picture, "the picture")
    for ax, (word, look) in zip(axes.flat[1:], shown, strict=False):
        show_picture(ax, picture.mean(axis=2), f"{word} ({look.max():.2f})")
        ax.images[-1].set_cmap("gray")
        ax.imshow(look, cmap="inferno", alpha=0.6, vmin=0, vmax=0.5, extent=(0, width, height, 0))
        if boxes and word in boxes:
            left, top, right, bottom = boxes[word]
            ax.add_patch(plt.Rectangle((left, top), right - left, bottom - top, fill=False, color="cyan", lw=1.5))
    for ax in axes.flat[len(shown) + 1 :]:
        ax.set_visible(False)
    return fig
