"""The whole test: ruff, the unit tests, and every notebook executed with its outputs compared.

python -m tools.test
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

from tools.execute import ENVIRONMENT
from tools.notebooks import ROOT, notebook_paths

PYTEST = [sys.executable, "-m", "pytest", "-n", "2", "-q"]
NBVAL = ["--nbval", "--nbval-current-env", "--dist", "loadscope", "--nbval-cell-timeout=300"]


def step(name: str, *command: str) -> bool:
    """Run one part; its output goes to the terminal."""
    print(f"\n== {name}", flush=True)
    started = time.perf_counter()
    passed = subprocess.run(command, cwd=ROOT, env=os.environ | ENVIRONMENT, check=False).returncode == 0
    print(f"== {name}: {'passed' if passed else 'FAILED'} in {time.perf_counter() - started:.0f} s", flush=True)
    return passed


def main() -> None:
    notebooks = [str(path.relative_to(ROOT)) for path in notebook_paths()]
    ruff = [sys.executable, "-m", "ruff"]
    passed = [
        step("style", *ruff, "check", "."),
        step("format", *ruff, "format", "--check", "."),
        step("unit tests", *PYTEST, "tests"),
        step("notebooks", *PYTEST, *NBVAL, *notebooks),
    ]
    sys.exit(not all(passed))


if __name__ == "__main__":
    main()
