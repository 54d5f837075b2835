"""How many cores this process may keep busy."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def available_cores(cgroups: Path = _CGROUPS) -> int:
    """Cores of the process's affinity, or fewer where its container is allowed less time than that; at least 1.

    The time a container may use is its quota per period: `cpu.max` of cgroup 2, `cpu.cfs_quota_us` and
    `cpu.cfs_period_us` of cgroup 1 (kernel documentation, admin-guide/cgroup-v2 and scheduler/sched-bwc).
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for quota, period in (_numbers(cgroups / "cpu.max"), _numbers(*_version_1(cgroups))):
        if quota > 0 and period > 0:
            cores = min(cores, max(1, round(quota / period)))
    return cores


def _version_1(cgroups: Path) -> tuple[Path, Path]:
    return cgroups / "cpu" / "cpu.cfs_quota_us", cgroups / "cpu" / "cpu.cfs_period_us"


def _numbers(*files: Path) -> tuple[int, int]:
    """The two numbers that the files hold together; (0, 0) where there is no limit or no such file."""
    words = [word for file in files if file.is_file() for word in file.read_text(encoding="ascii").split()]
    if len(words) == 2 and all(word.isdigit() for word in words):
        return int(words[0]), int(words[1])
    return 0, 0
