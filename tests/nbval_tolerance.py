"""How nbval compares a notebook's text: words exactly, numbers with a tolerance, pictures and stderr not at all.

Two numbers agree when they differ by at most one unit of the last printed digit, or by no more than the notebook's
tolerance. Whole numbers are counts and shapes: by default they must agree exactly, and those below 20 always.

The rows of assignments 1 and 2 were measured: their notebooks ran with the products of a processor without AVX
(OPENBLAS_CORETYPE=Nehalem, ATEN_CPU_CAPABILITY=default, MKL_CBWR=COMPATIBLE, DNNL_MAX_CPU_ISA=SSE41) and were compared
with the committed outputs. Where nothing differed beyond the last printed digit there is no row. Where nets are
trained, other last bits grow into other accuracies. Of the later assignments, lstm_captioning, network_visualization
and pytorch_autograd_and_nn (but for the verdicts on its trained nets, whose numbers are not compared) were measured: no
difference, no row. A row that was not says so.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import NamedTuple

NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.]*\w)")
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class Tolerance(NamedTuple):
    """How far two numbers may be apart, and why."""

    relative: float
    absolute: float
    reason: str


DEFAULT = Tolerance(1e-4, 0.0, "another BLAS, other last bits")
OVERRIDES: dict[str, Tolerance] = {
    "assignment1/two_layer_net": Tolerance(0.02, 2e-3, "accuracies of trained nets; 0.613 became 0.620"),
    "assignment1/features": Tolerance(0.05, 2e-3, "accuracies of trained nets; 0.892 became 0.861"),
    "assignment2/batch_normalization": Tolerance(0.05, 0.05, "best accuracies of 1,000 pictures; 0.32 became 0.35"),
    "assignment2/dropout": Tolerance(0.06, 2e-3, "gaps between accuracies; 0.281 became 0.292"),
    "assignment2/pytorch": Tolerance(0.02, 2e-3, "none differed, but not all kernels could be varied"),
    "assignment3/rnn_captioning": Tolerance(0.06, 0.03, "not measured; shares of as few as 54 captions"),
    "assignment3/lstm_captioning": Tolerance(0.06, 0.03, "trained captioners; a share of 0.448 became 0.449"),
    "assignment3/image_generation": Tolerance(0.06, 0.03, "not measured; many steps along pixel gradients"),
    "assignment4/attention_captioning": Tolerance(0.06, 0.03, "not measured; trained captioners"),
    "assignment4/style_transfer": Tolerance(0.06, 0.03, "not measured; many steps along pixel gradients"),
}


class Text(str):
    """A string that equals another when the words agree and every number is close."""

    tolerance: Tolerance
    __hash__ = str.__hash__

    def __new__(cls, text: str, tolerance: Tolerance = DEFAULT) -> Text:
        made = super().__new__(cls, text)
        made.tolerance = tolerance
        return made

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and same_text(str(self), str(other), self.tolerance)

    def __ne__(self, other: object) -> bool:
        return not self == other


def tolerance_of(notebook: Path) -> Tolerance:
    """The notebook's row in OVERRIDES, DEFAULT without one."""
    return OVERRIDES.get(f"{notebook.parent.name}/{notebook.stem}", DEFAULT)


def same_text(left: str, right: str, tolerance: Tolerance = DEFAULT) -> bool:
    """Compare two outputs; runs of blanks count as one, since a number's width moves its column."""
    words_left, words_right = _words(left), _words(right)
    numbers_left, numbers_right = NUMBER.findall(left), NUMBER.findall(right)
    return (
        words_left == words_right
        and len(numbers_left) == len(numbers_right)
        and all(close(a, b, tolerance) for a, b in zip(numbers_left, numbers_right, strict=True))
    )


def close(left: str, right: str, tolerance: Tolerance = DEFAULT) -> bool:
    """Whether two printed numbers agree, by the rules above."""
    if left == right:
        return True
    a, b = float(left), float(right)
    largest, slack = max(abs(a), abs(b)), 0.0
    if is_whole(left) and is_whole(right):
        if largest < 20 or tolerance == DEFAULT:
            return False
    else:
        slack = 1.001 * min(unit(text) for text in (left, right) if not is_whole(text))  # 0.3 - 0.2 is not quite 0.1
    return math.isclose(a, b, rel_tol=tolerance.relative, abs_tol=max(tolerance.absolute, slack))


def is_whole(text: str) -> bool:
    return text.lstrip("+-").isdecimal()


def unit(text: str) -> float:
    """One unit of the last printed digit: 0.01 of "3.14", 1e-08 of "2.5e-07"."""
    mantissa, _, exponent = text.lower().partition("e")
    return 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))


def _words(text: str) -> str:
    return re.sub(r"\s+", " ", NUMBER.sub(" # ", text)).strip()


def comparable(outputs: list) -> list:
    """Drop stderr and every picture from a cell's outputs; what is left of an output without data is dropped."""
    kept = []
    for output in outputs:
        if output.get("name") == "stderr":
            continue
        if "data" in output:
            data = {kind: value for kind, value in output["data"].items() if not kind.startswith("image/")}
            output = type(output)({**output, "data": data})
        kept.append(output)
    return kept
