"""Choice of the code behind the fast layers."""

from __future__ import annotations

import os
import warnings
from types import ModuleType

BUILD = "python setup.py build_ext --inplace"


def choose(wanted: str) -> tuple[str, ModuleType]:
    """The backend's name and module.

    Args:
        wanted: "cython", "numpy" or "auto" (Cython if it is built).
    Raises:
        ValueError: another name.
        ImportError: "cython" is wanted and not built.
    """
    if wanted not in ("auto", "cython", "numpy"):
        raise ValueError(f'WORKBOOK_FAST must be "auto", "cython" or "numpy", got {wanted!r}')
    from common.layers.fast import numpy_backend

    if wanted == "numpy":
        return "numpy", numpy_backend
    try:
        from common.layers.fast import cython_backend
    except ImportError as error:
        if wanted == "cython":
            raise ImportError(f"the compiled layers are not built ({error}); build them with: {BUILD}") from error
        warnings.warn(f"the compiled layers are not built, NumPy is used; build them with: {BUILD}", stacklevel=2)
        return "numpy", numpy_backend
    return "cython", cython_backend


BACKEND, IMPLEMENTATION = choose(os.environ.get("WORKBOOK_FAST", "auto"))
HAVE_CYTHON = BACKEND == "cython"
