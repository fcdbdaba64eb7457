"""The figures of the notebook about autograd and residual networks. Each function draws; the notebook shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from common.pytorch.scalar import Value, ordered

BOX = {"boxstyle": "round,pad=0.4", "facecolor": "white", "edgecolor": "tab:blue"}
BACKGROUND = {"facecolor": "white", "edgecolor": "none", "pad": 1}
ARROW = {"arrowstyle": "-|>", "color": "tab:gray", "shrinkA": 30, "shrinkB": 30}


def graph(result: Value, names: Mapping[Value, str], inches: float = 1.75) -> Figure:
    """The values that a result was made from, left to right, with numbers, gradients, and slopes on the arrows.

    Args:
        result: after `backward`.
        names: of values; others are shown with the operation that made them.
        inches: width of a column.
    """
    order, column = ordered(result), {}
    for value in order:
        column[value] = 1 + max((column[parent] for parent in value.parents), default=-1)
    columns = [[value for value in order if column[value] == i] for i in range(column[result] + 1)]
    place = {value: (i, len(c) / 2 - k + (i % 2) * 0.35) for i, c in enumerate(columns) for k, value in enumerate(c)}
    fig, ax = plt.subplots(figsize=(inches * len(columns), 1.2 * max(map(len, columns)) + 0.6))
    for value in order:
        for k, (parent, slope) in enumerate(zip(value.parents, value.slopes, strict=True)):
            bent = ARROW | {"connectionstyle": f"arc3,rad={0.12 * (2 * k - 1)}"}
            ax.annotate("", place[value], place[parent], arrowprops=bent)
            (x0, y0), (x1, y1) = place[parent], place[value]
            text = {"ha": "center", "va": "center", "color": "tab:orange", "fontsize": "small", "bbox": BACKGROUND}
            ax.text((x0 + x1) / 2, (y0 + y1) / 2 + 0.16 * (1 - 2 * k), f"$\\times${slope:.3g}", **text)
        made = f" = {value.label}" if value.parents and value in names else ""
        title = names.get(value, value.label) + made
        words = f"{title}\ndata {value.data:.3g}\ngrad {value.grad:.3g}"
        ax.text(*place[value], words, ha="center", va="center", fontsize="small", bbox=BOX)
    ax.set(
        xlim=(-0.5, len(columns) - 0.5),
        ylim=(min(y for _, y in place.values()) - 0.6, max(map(len, columns)) / 2 + 0.95),
    )
    ax.axis("off")
    return fig


def by_depth(
    ax: Axes, profiles: Mapping[str, np.ndarray], ylabel: str, title: str = "", marks: Sequence[str] = "o^sD"
) -> None:
    """One number a layer for several kinds of networks: each seed a thin line, their median a thick one.

    Args:
        ax: where to draw.
        profiles: {kind: (seeds, layers)}.
        ylabel: what is measured.
        title: above the picture.
        marks: markers of the medians, one for each kind.
    """
    for i, (kind, values) in enumerate(profiles.items()):
        layers = np.arange(1, values.shape[1] + 1)
        ax.plot(layers, values.T, color=f"C{i}", alpha=0.35, linewidth=0.8)
        ax.plot(layers, np.median(values, axis=0), marks[i] + "-", color=f"C{i}", markersize=4, label=kind)
    ax.set(xlabel="layer, from the pictures to the scores", ylabel=ylabel, title=title)


def curves(ax: Axes, runs: Mapping[str, np.ndarray], ylabel: str, title: str = "", xlabel: str = "step") -> None:
    """Histories of several kinds of networks: each seed a thin line, their mean a thick one.

    Args:
        ax: where to draw.
        runs: {kind: (seeds, steps)}.
        ylabel, xlabel: of the axes.
        title: above the picture.
    """
    for i, (kind, values) in enumerate(runs.items()):
        steps = np.arange(1, values.shape[1] + 1)
        ax.plot(steps, values.T, color=f"C{i}", alpha=0.35, linewidth=0.8)
        ax.plot(steps, values.mean(axis=0), color=f"C{i}", linewidth=2, linestyle=("-", "--", ":")[i % 3], label=kind)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
