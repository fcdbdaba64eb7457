"""Install the requirements under the constraints into the environment that runs this file."""

import importlib.util
import subprocess
import sys
import time

PIP = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
CPU_WHEELS = "https://download.pytorch.org/whl/cpu"  # PyTorch's own index of builds without CUDA


def pip(*arguments: str) -> bool:
    """Run one pip installation; True if it succeeded."""
    return subprocess.run([*PIP, *arguments], check=False).returncode == 0


def torch_without_cuda() -> bool:
    """PyTorch's CPU build: about 0.3 GB instead of 5 GB. Its index cannot be reached from every network."""
    options = ["-c", "constraints.txt", "--index-url", CPU_WHEELS, "--retries", "1", "--timeout", "20"]
    return pip("torch", "torchvision", *options)


def main(torch: str) -> None:
    started = time.perf_counter()
    if torch not in ("default", "cpu"):
        sys.exit(f"TORCH={torch} is not known: use TORCH=cpu, or leave it out for the default wheels.")
    print("Installing the requirements (once; two minutes on a good line) ...", flush=True)
    if torch == "cpu" and not torch_without_cuda():
        print(f"PyTorch's CPU wheels cannot be had from {CPU_WHEELS} here; installing the default wheels.")
    if not pip("-r", "requirements.txt", "-c", "constraints.txt"):
        sys.exit("The requirements could not be installed: pip's message above names the package.")
    if not pip("--no-build-isolation", "--no-deps", "--editable", "."):
        sys.exit("The package common/ could not be installed: pip's message above says why.")
    if importlib.util.find_spec("torch") is None:
        sys.exit("PyTorch was not installed although pip reported success; remove .venv and try again.")
    print(f"Ready after {time.perf_counter() - started:.0f} s.")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "default")
