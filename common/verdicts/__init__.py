"""What `common.checks.check` says: the verdict line, what differs, and which common mistake explains the difference."""

from common.verdicts.cell import CheckFailed, failed, install, passed

__all__ = ["CheckFailed", "failed", "install", "passed"]
