"""Install the requirements under the constraints into the environment that runs this file.

All that pip says goes to install.log in that environment. The terminal shows which step runs and how far it is.
"""

import importlib.util
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

PIP = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar=off"]
CPU_WHEELS = "https://download.pytorch.org/whl/cpu"  # PyTorch's own index of builds without CUDA
LOG = Path(sys.prefix, "install.log")
NEWS = re.compile(r"\s*(Collecting|Downloading|Processing|Installing collected packages:) (?:\S*/)?([^\s/].*)")
WHEEL = re.compile(r"(\w+-[^-]+)-\S+\.whl")
SECONDS = 15  # between two lines where nobody watches


class Progress:
    """What pip does: one line that overwrites itself on a terminal, a line now and then elsewhere."""

    def __init__(self, title: str) -> None:
        self.title, self.collected = title, 0
        self.watched, self.last = sys.stdout.isatty(), time.monotonic()
        self.say("starting", important=True)

    def read(self, line: str) -> None:
        """Take notice of one line of pip's output."""
        if not (news := NEWS.match(line)):
            return
        verb, what = news.groups()
        if verb.startswith("Installing"):
            self.say(f"installing {what.count(',') + 1} packages", important=True)
            return
        self.collected += verb != "Downloading"
        name = WHEEL.sub(r"\1", what.split(" (from")[0])
        self.say(f"package {self.collected} of about {pins()}, {verb.lower()} {name}")

    def say(self, text: str, important: bool = False) -> None:
        line = f"{self.title}: {text}"
        if self.watched:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r{line[:width]}\033[K", end="", flush=True)
        elif important or time.monotonic() - self.last > SECONDS:
            self.last = time.monotonic()
            print(line, flush=True)

    def end(self) -> None:
        if self.watched:
            print("\r\033[K", end="", flush=True)


def pins() -> int:
    """The number of packages in constraints.txt."""
    return Path("constraints.txt").read_text(encoding="utf-8").count("==")


def pip(title: str, *arguments: str) -> bool:
    """Run one pip installation; True if it succeeded."""
    progress = Progress(title)
    with (
        LOG.open("a", encoding="utf-8") as log,
        subprocess.Popen(
            [*PIP, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        ) as process,
    ):
        print("== pip install", *arguments, file=log, flush=True)
        for line in process.stdout:
            log.write(line)
            progress.read(line)
    progress.end()
    return process.returncode == 0


def last_errors() -> str:
    """What the last run of pip complained about, and the end of what it said without its warnings."""
    lines = LOG.read_text(encoding="utf-8").rpartition("== pip install")[2].splitlines()[1:]
    lines = [line for line in lines if line.strip() and not line.startswith("WARNING")]
    errors = [line for line in lines[:-15] if line.startswith("ERROR")]
    return "\n".join([*errors, *lines[-15:], f"All that pip said: {LOG}"])


def torch_without_cuda(title: str) -> bool:
    """PyTorch's CPU build: about 0.3 GB instead of 5 GB. Its index cannot be reached from every network."""
    options = ["-c", "constraints.txt", "--index-url", CPU_WHEELS, "--retries", "1", "--timeout", "20"]
    return pip(title, "torch", "torchvision", *options)


def main(torch: str) -> None:
    started = time.perf_counter()
    if torch not in ("default", "cpu"):
        sys.exit(f"TORCH={torch} is not known: use TORCH=cpu, or leave it out for the default wheels.")
    print("Installing the requirements (once; two minutes on a good line) ...", flush=True)
    LOG.write_text("", encoding="utf-8")
    steps = 3 if torch == "cpu" else 2
    if torch == "cpu" and not torch_without_cuda("1 of 3, PyTorch"):
        print(f"PyTorch's CPU wheels cannot be had from {CPU_WHEELS} here; installing the default wheels.")
    if not pip(f"{steps - 1} of {steps}, requirements", "-r", "requirements.txt", "-c", "constraints.txt"):
        sys.exit(f"The requirements could not be installed:\n{last_errors()}")
    if not pip(f"{steps} of {steps}, common/", "--no-build-isolation", "--no-deps", "--editable", "."):
        sys.exit(f"The package common/ could not be installed:\n{last_errors()}")
    if importlib.util.find_spec("torch") is None:
        sys.exit(f"PyTorch was not installed although pip reported success; remove {sys.prefix} and try again.")
    print(f"Ready after {time.perf_counter() - started:.0f} s.")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "default")
