"""Settings of every test run: the pocket edition, one thread a worker, tolerant notebooks, and no network."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from tests import nbval_tolerance
from tools.execute import ENVIRONMENT

# Before NumPy loads, and inherited by the kernels that nbval starts.
os.environ.update(ENVIRONMENT)
os.environ.setdefault("JUPYTER_PLATFORM_DIRS", "1")

NO_NETWORK = """
import pytest_socket
pytest_socket.socket_allow_hosts(["127.0.0.1", "::1", "localhost"], allow_unix_socket=True)
"""


def pytest_configure(config: pytest.Config) -> None:
    """Give the kernels a start-up file that forbids the network, and nbval its tolerant comparison."""
    if "IPYTHONDIR" not in os.environ or "workbook-ipython" not in os.environ["IPYTHONDIR"]:
        config.ipython_dir = tempfile.TemporaryDirectory(prefix="workbook-ipython-")
        startup = Path(config.ipython_dir.name, "profile_default", "startup")
        startup.mkdir(parents=True)
        (startup / "00-no-network.py").write_text(NO_NETWORK)
        os.environ["IPYTHONDIR"] = config.ipython_dir.name
    _compare_tolerantly()


def _compare_tolerantly() -> None:
    from nbval.plugin import IPyNbCell

    if getattr(IPyNbCell, "tolerant", False):
        return
    compare_exactly, sanitize = IPyNbCell.compare_outputs, IPyNbCell.sanitize

    def compare_outputs(self, test, ref, skip_compare=None):
        outputs = (nbval_tolerance.comparable(side) for side in (test, ref))
        return compare_exactly(self, *outputs, skip_compare)

    def sanitized(self, text):
        text = sanitize(self, text)
        return nbval_tolerance.Text(text) if isinstance(text, str) else text

    IPyNbCell.compare_outputs, IPyNbCell.sanitize, IPyNbCell.tolerant = compare_outputs, sanitized, True
