"""Progress bars that fit the place they appear in and are silent in tests."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache
from typing import Any


def quiet() -> bool:
    """True in tests, and while the committed outputs are made."""
    return os.environ.get("WORKBOOK_QUIET", "") not in ("", "0")


def progress(iterable: Iterable | None = None, *, disable: bool = False, **options: Any) -> Any:
    """tqdm's bar for the place we are in, silent when `quiet()`; options are tqdm's (desc, total, ...)."""
    return _bar()(iterable, leave=False, disable=disable or quiet(), **options)


@cache
def _bar() -> type:
    """tqdm for a terminal, or the bar below for a notebook."""
    from tqdm.auto import tqdm
    from tqdm.notebook import tqdm_notebook

    if not issubclass(tqdm, tqdm_notebook):
        return tqdm

    class Bar(tqdm_notebook):
        """A widget whose output is emptied when it closes.

        A saved notebook keeps the reference to a widget, but not the widget: opened again, it would show "Error
        displaying widget: model not found" in place of every finished bar.
        """

        def __init__(self, *args: Any, **options: Any):
            super().__init__(*args, display=False, **options)
            self.shown = None
            if not self.disable:
                from IPython.display import display

                self.shown = display(self.container, display_id=True)

        def close(self) -> None:
            super().close()
            if getattr(self, "shown", None) is not None:
                self.shown.update({"text/plain": ""}, raw=True)
                self.shown = None

    return Bar
