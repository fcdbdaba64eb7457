"""Progress bars that fit the place they appear in and are silent in tests."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any


def quiet() -> bool:
    """True in tests, and while the committed outputs are made."""
    return os.environ.get("WORKBOOK_QUIET", "") not in ("", "0")


def progress(iterable: Iterable | None = None, *, disable: bool = False, **options: Any) -> Any:
    """tqdm's bar for the place we are in, silent when `quiet()`; options are tqdm's (desc, total, ...)."""
    from tqdm.auto import tqdm

    return tqdm(iterable, leave=False, disable=disable or quiet(), **options)
