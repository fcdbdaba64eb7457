"""The figures of the notebook about autograd and residual networks. Each function draws; the notebook shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from common import plots
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


def classifier(
    predict: Callable[[np.ndarray], np.ndarray],
    points: np.ndarray,
    labels: np.ndarray,
    losses: Mapping[str, Sequence[float]],
) -> Figure:
    """What a classifier of points has learned, and two trainings of it that should be one.

    Args:
        predict, points, labels: as in `common.plots.decision_regions`.
        losses: {who: loss of each step} of both.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2))
    plots.decision_regions(left, predict, points, labels, "What the network has learned")
    styles = {"linewidth": 4, "alpha": 0.4}, {"linestyle": "--", "color": "black"}
    for (name, values), style in zip(losses.items(), styles, strict=True):
        right.plot(values, label=name, **style)
    right.axhline(np.log(2), color="tab:gray", linestyle=":", label="ln 2: no knowledge")
    right.set(title="The same training twice", xlabel="step", ylabel="loss", ylim=(0, None))
    right.legend()
    return fig


def comparison(losses: Mapping[str, np.ndarray], notes: Mapping[str, np.ndarray], smooth: int = 10) -> Figure:
    """Training loss of each step, validation loss and accuracy of each epoch; dotted: no knowledge of ten classes.

    Args:
        losses: {kind: (seeds, steps)}.
        notes: {kind: (seeds, epochs, 3)}: training loss, validation loss, validation accuracy.
        smooth: so many steps are averaged.
    """
    window = np.ones(smooth) / smooth
    means = {kind: np.array([np.convolve(run, window, "valid") for run in runs]) for kind, runs in losses.items()}
    fig, axes = plt.subplots(1, 3, figsize=(11, 3.3))
    curves(axes[0], means, f"training loss (mean of {smooth} steps)", "Training")
    curves(axes[1], {kind: values[:, :, 1] for kind, values in notes.items()}, "validation loss", "Validation", "epoch")
    accuracy = {kind: 100 * values[:, :, 2] for kind, values in notes.items()}
    curves(axes[2], accuracy, "validation accuracy (%)", "Validation", "epoch")
    for ax, chance in zip(axes, (np.log(10), np.log(10), 10), strict=True):
        ax.axhline(chance, color="tab:gray", linestyle=":")
    axes[0].legend(fontsize="small")
    return fig


def panels(columns: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Norm of the gradient (above) and agreement (below) by depth, a column for each moment of a training.

    Args:
        columns: {title: {kind: (2, seeds, layers)}}.
    """
    fig, axes = plt.subplots(2, len(columns), figsize=(9.5, 6), sharex=True, sharey="row", squeeze=False)
    for column, (title, kinds) in enumerate(columns.items()):
        for row, what in enumerate(("norm of the weight gradient", "cosine of two gradients")):
            chosen = {kind: values[row] for kind, values in kinds.items()}
            by_depth(axes[row, column], chosen, "" if column else what, "" if row else title)
        axes[0, column].set(xlabel="", yscale="log")
        axes[0, column].legend(fontsize="small", loc="upper right")
    return fig
