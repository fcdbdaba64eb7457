"""Run every script in benchmarks/, one after the other. Each prints ratios against peers of the same run.

python -m tools.bench [name ...]
"""

from __future__ import annotations

import subprocess
import sys

from tools.notebooks import ROOT


def main() -> None:
    scripts = [path for path in sorted((ROOT / "benchmarks").glob("*.py")) if not path.name.startswith("_")]
    wanted = [path for path in scripts if not sys.argv[1:] or path.stem in sys.argv[1:]]
    if not wanted:
        sys.exit(f"No such benchmark; there are: {', '.join(path.stem for path in scripts)}")
    failed = []
    for path in wanted:
        print(f"\n== {path.name}", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{path.stem}"], cwd=ROOT, check=False).returncode:
            failed.append(path.name)
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
