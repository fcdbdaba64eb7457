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


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Decide about colours here, where the terminal is: the workers of xdist take this option over."""
    if terminal := session.config.pluginmanager.get_plugin("terminalreporter"):
        session.config.option.color = "yes" if terminal.hasmarkup else "no"


def _compare_tolerantly() -> None:
    from nbval.plugin import IPyNbCell

    if getattr(IPyNbCell, "tolerant", False):
        return
    compare_exactly, sanitize, report = IPyNbCell.compare_outputs, IPyNbCell.sanitize, IPyNbCell.repr_failure

    def compare_outputs(self, test, ref, skip_compare=None):
        outputs = (nbval_tolerance.comparable(side) for side in (test, ref))
        return compare_exactly(self, *outputs, skip_compare)

    def sanitized(self, text):
        text = sanitize(self, text)
        tolerance = nbval_tolerance.tolerance_of(self.path)
        return nbval_tolerance.Text(text, tolerance) if isinstance(text, str) else text

    def repr_failure(self, excinfo):
        """The kernel colours its tracebacks whoever reads them."""
        text = report(self, excinfo)
        return text if self.config.option.color == "yes" else nbval_tolerance.ANSI.sub("", text)

    IPyNbCell.compare_outputs, IPyNbCell.sanitize, IPyNbCell.tolerant = compare_outputs, sanitized, True
    IPyNbCell.repr_failure = repr_failure
