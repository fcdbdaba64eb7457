"""The pictures that several notebooks draw. Every function draws and returns the figure; the notebook shows it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from common.search import Trial


def show_picture(ax: Axes, picture: np.ndarray, title: str = "", color: str = "black") -> None:
    """One picture without ticks.

    Args:
        ax: where to draw.
        picture: (H, W, 3) or (H, W), values 0..255 of any dtype.
        title: above the picture.
        color: of the title.
    """
    ax.imshow(np.clip(picture, 0, 255).astype(np.uint8))
    ax.set_title(title, color=color, fontsize="small")
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def class_grid(X: np.ndarray, y: np.ndarray, names: Sequence[str], per_class: int = 7, seed: int = 0) -> Figure:
    """A few random pictures of every class, one class a column.

    Args:
        X: pictures, (N, H, W, 3), values 0..255.
        y: labels, (N,).
        names: of the classes.
        per_class: pictures in a column.
        seed: of the choice.
    """
    rng = np.random.RandomState(seed)
    fig, axes = plt.subplots(per_class, len(names), figsize=(0.8 * len(names), 0.82 * per_class))
    for label, name in enumerate(names):
        members = np.flatnonzero(y == label)
        chosen = rng.choice(members, per_class, replace=len(members) < per_class)
        for row, index in enumerate(chosen):
            show_picture(axes[row, label], X[index], name if row == 0 else "")
    return fig


def neighbor_grid(
    queries: np.ndarray,
    query_labels: np.ndarray,
    pictures: np.ndarray,
    labels: np.ndarray,
    neighbors: np.ndarray,
    names: Sequence[str],
) -> Figure:
    """Each query with its nearest training pictures; titles are green where the class is the query's, else red.

    Args:
        queries, query_labels: (Q, H, W, 3) and (Q,).
        pictures, labels: the training set, (N, H, W, 3) and (N,).
        neighbors: indices into the training set, nearest first, (Q, k).
        names: of the classes.
    """
    count, k = neighbors.shape
    widths = {"width_ratios": [1.15] + [1] * k}
    fig, axes = plt.subplots(count, k + 1, figsize=(1.05 * (k + 1.15), 1.2 * count), squeeze=False, gridspec_kw=widths)
    for row in range(count):
        show_picture(axes[row, 0], queries[row], f"query: {names[query_labels[row]]}")
        for column, index in enumerate(neighbors[row], start=1):
            right = labels[index] == query_labels[row]
            color = "tab:green" if right else "tab:red"
            show_picture(axes[row, column], pictures[index], names[labels[index]], color)
    return fig


def cross_validation(accuracies: dict[int, list[float]], parameter: str = "k") -> Figure:
    """Every fold's accuracy, and their mean with one standard deviation, against the parameter.

    Args:
        accuracies: {value: [accuracy of each fold]}.
        parameter: name of the x axis.
    """
    values = sorted(accuracies)
    folds = np.array([accuracies[value] for value in values])  # (values, folds)
    fig, ax = plt.subplots()
    ax.plot(np.repeat(values, folds.shape[1]), folds.ravel(), "o", color="tab:blue", alpha=0.4, label="one fold")
    ax.errorbar(values, folds.mean(axis=1), folds.std(axis=1), color="tab:orange", capsize=3, label="mean ± std")
    ax.set(xscale="log", xlabel=parameter, ylabel="validation accuracy", title=f"Cross-validation over {parameter}")
    ax.set_xticks(values, [str(value) for value in values])
    ax.minorticks_off()
    ax.legend()
    return fig


def decision_regions(
    ax: Axes,
    predict: Callable[[np.ndarray], np.ndarray],
    X: np.ndarray,
    y: np.ndarray,
    title: str = "",
    cells: int = 200,
) -> None:
    """Colour the plane by the predicted class and draw the training points on it.

    Args:
        ax: where to draw.
        predict: (N, 2) points -> (N,) labels below 10.
        X: training points, (N, 2).
        y: their labels, (N,).
        title: above the picture.
    """
    low, high = X.min(axis=0) - 0.5, X.max(axis=0) + 0.5
    xs, ys = np.linspace(low[0], high[0], cells), np.linspace(low[1], high[1], cells)
    plane = np.stack(np.meshgrid(xs, ys), axis=-1)  # (cells, cells, 2)
    regions = predict(plane.reshape(-1, 2)).reshape(cells, cells)
    colors = {"cmap": "tab10", "vmin": -0.5, "vmax": 9.5}
    ax.imshow(regions, extent=(low[0], high[0], low[1], high[1]), origin="lower", alpha=0.35, aspect="auto", **colors)
    ax.scatter(X[:, 0], X[:, 1], c=y, edgecolors="black", s=40, **colors)
    ax.set(xlabel="$x_1$", ylabel="$x_2$", title=title)


def confusion(y: np.ndarray, predicted: np.ndarray, names: Sequence[str]) -> Figure:
    """Where each true class went, in per cent of its pictures.

    Args:
        y, predicted: true and predicted labels, (N,).
        names: of the classes.
    """
    from sklearn.metrics import ConfusionMatrixDisplay

    fig, ax = plt.subplots(figsize=(6.2, 5.6))
    ConfusionMatrixDisplay.from_predictions(
        y,
        predicted,
        labels=range(len(names)),
        display_labels=names,
        normalize="true",
        values_format=".0%",
        ax=ax,
        colorbar=False,
        cmap="Blues",
        text_kw={"fontsize": "x-small"},
        xticks_rotation=45,
    )
    ax.set_title("Share of each true class that was given each label")
    ax.spines[:].set_visible(False)
    return fig


def heat_map(trials: Sequence[Trial], x: str, y: str, score: str = "val", title: str = "") -> Figure:
    """One score of a grid search over two hyper-parameters.

    Args:
        trials: from `common.search.search` on a full grid.
        x, y: names of the parameters on the axes.
        score: which score to show, as a fraction; printed in per cent.
        title: above the picture, by default the score's name.
    """
    columns, rows = (sorted({trial.params[name] for trial in trials}) for name in (x, y))
    values = np.full((len(rows), len(columns)), np.nan)
    for trial in trials:
        values[rows.index(trial.params[y]), columns.index(trial.params[x])] = trial.scores[score]
    fig, ax = plt.subplots(figsize=(1.6 + 0.8 * len(columns), 1.2 + 0.5 * len(rows)))
    shown = ax.imshow(values, origin="lower", aspect="auto")
    middle = (np.nanmin(values) + np.nanmax(values)) / 2
    for (row, column), value in np.ndenumerate(values):
        color = "black" if value > middle else "white"
        ax.text(column, row, "-" if np.isnan(value) else f"{100 * value:.1f}", ha="center", va="center", color=color)
    ax.set_xticks(range(len(columns)), [f"{v:.2g}" for v in columns])
    ax.set_yticks(range(len(rows)), [f"{v:.2g}" for v in rows])
    ax.set(xlabel=x, ylabel=y, title=title or f"{score} accuracy (%)")
    ax.spines[:].set_visible(False)
    fig.colorbar(shown).set_label(f"{score} accuracy")
    return fig


def training_curves(histories: dict[str, Sequence[float]], ylabel: str, xlabel: str = "iteration") -> Figure:
    """Several histories on one pair of axes.

    Args:
        histories: {label: values}, one value a step.
        ylabel, xlabel: of the axes.
    """
    fig, ax = plt.subplots()
    for label, values in histories.items():
        ax.plot(values, label=label)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    if len(histories) > 1:
        ax.legend()
    return fig


def weight_grid(weights: np.ndarray, titles: Sequence[str] = (), columns: int = 10) -> Figure:
    """Weights as pictures, each stretched on its own to the range of a screen.

    Args:
        weights: (N, H, W, 3).
        titles: one for each picture, or none.
        columns: pictures in a row.
    """
    rows = -(-len(weights) // columns)
    fig, axes = plt.subplots(rows, columns, figsize=(0.95 * columns, (1.1 if titles else 0.95) * rows), squeeze=False)
    for ax in axes.flat[len(weights) :]:
        ax.set_visible(False)
    for index, (ax, picture) in enumerate(zip(axes.flat, weights, strict=False)):
        low, high = picture.min(), picture.max()
        stretched = 255 * (picture - low) / max(high - low, np.finfo(float).tiny)
        show_picture(ax, stretched, titles[index] if titles else "")
    return fig


# The courses' grids: arrays, not figures ------------------------------------------------------------------------


def visualize_grid(Xs: np.ndarray, ubound: float = 255.0, padding: int = 1) -> np.ndarray:
    """Pictures side by side in one large picture, as square as their number allows; each is stretched on its own.

    CS231n's function of this name; `weight_grid` draws a figure.

    Args:
        Xs: pictures or filters, (N, H, W, C).
        ubound: the smallest number of each picture becomes 0, the largest ubound; a picture of one number is 0.
        padding: black pixels between two pictures.
    Returns:
        (H', W', C) float64 with H' = rows H + (rows - 1) padding, W' alike; places without a picture are 0.
    Raises:
        ValueError: Xs has not four axes or is empty, or padding is negative.
    """
    Xs = _pictures(Xs)
    if padding < 0:
        raise ValueError(f"padding must be at least 0, got {padding}")
    low, high = Xs.min(axis=(1, 2, 3), keepdims=True), Xs.max(axis=(1, 2, 3), keepdims=True)
    stretched = ubound * (Xs - low) / np.where(high > low, high - low, 1)
    return _side_by_side(stretched, _square(len(Xs)), padding, 0)


def vis_grid(Xs: np.ndarray) -> np.ndarray:
    """Pictures (N, H, W, C) side by side, with one scale for all: the smallest number becomes 0, the largest 1.

    CS231n's function of this name. Places without a picture, and the line behind each, have the smallest number.

    Returns:
        (A (H + 1), A (W + 1), C) float64 with A = sqrt(N), rounded up.
    Raises:
        ValueError: Xs has not four axes or is empty.
    """
    Xs = _pictures(Xs)
    grid = _side_by_side(Xs, _square(len(Xs)), 1, Xs.min())
    return _to_unit(np.pad(grid, ((0, 1), (0, 1), (0, 0)), constant_values=Xs.min()))


def vis_nn(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Rows of pictures, such as a query and its nearest neighbours, in one large picture with one scale for all.

    CS231n's function of this name.

    Args:
        rows: equally long sequences of pictures (H, W, C).
    Returns:
        (rows (H + 1), columns (W + 1), C) float64, from 0 to 1; a line behind each picture.
    Raises:
        ValueError: the rows differ in length, or the pictures in shape.
    """
    rows = np.asarray(rows, np.float64)
    if rows.ndim != 5 or not rows.size:
        raise ValueError(f"rows must hold equally many pictures (H, W, C) each, got the shape {rows.shape}")
    grid = _side_by_side(rows.reshape(-1, *rows.shape[2:]), rows.shape[:2], 1, rows.min())
    return _to_unit(np.pad(grid, ((0, 1), (0, 1), (0, 0)), constant_values=rows.min()))


def _pictures(Xs: np.ndarray) -> np.ndarray:
    Xs = np.asarray(Xs, np.float64)  # unsigned bytes would wrap around in differences
    if Xs.ndim != 4 or not Xs.size:
        raise ValueError(f"Xs must hold pictures (N, H, W, C), at least one, got the shape {Xs.shape}")
    return Xs


def _square(number: int) -> tuple[int, int]:
    side = int(np.ceil(np.sqrt(number)))
    return side, side


def _side_by_side(Xs: np.ndarray, shape: tuple[int, int], padding: int, background: float) -> np.ndarray:
    """Pictures (N, H, W, C) in rows and columns of that number."""
    (rows, columns), (_, H, W, C) = shape, Xs.shape
    grid = np.full((rows * (H + padding) - padding, columns * (W + padding) - padding, C), float(background))
    for n, picture in enumerate(Xs):
        top, left = n // columns * (H + padding), n % columns * (W + padding)
        grid[top : top + H, left : left + W] = picture
    return grid


def _to_unit(grid: np.ndarray) -> np.ndarray:
    low, high = grid.min(), grid.max()
    return (grid - low) / (high - low if high > low else 1)
