"""How nbval compares a notebook's text: words exactly, numbers with a tolerance, pictures and stderr not at all."""

from __future__ import annotations

import math
import re

NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.]*\w)")
RELATIVE, ABSOLUTE = 0.02, 2e-3  # other BLAS, other last bits: an accuracy may move by one test picture


class Text(str):
    """A string that equals another when the words agree and every number is close."""

    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and same_text(str(self), str(other))

    def __ne__(self, other: object) -> bool:
        return not self == other


def same_text(left: str, right: str) -> bool:
    """Compare two outputs; runs of blanks count as one, since a number's width moves its column."""
    words_left, words_right = _words(left), _words(right)
    numbers_left, numbers_right = NUMBER.findall(left), NUMBER.findall(right)
    return (
        words_left == words_right
        and len(numbers_left) == len(numbers_right)
        and all(close(a, b) for a, b in zip(numbers_left, numbers_right, strict=True))
    )


def close(left: str, right: str) -> bool:
    """Whole numbers below 20 are counts and must agree; everything else may differ in the last digits."""
    if left == right:
        return True
    a, b = float(left), float(right)
    if left.lstrip("+-").isdecimal() and right.lstrip("+-").isdecimal() and max(abs(a), abs(b)) < 20:
        return False
    return math.isclose(a, b, rel_tol=RELATIVE, abs_tol=ABSOLUTE)


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
