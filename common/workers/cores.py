"""How many cores this process may use: of a machine of 64, a container is often given four."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
"""Lines `hierarchy:controllers:path`; version 2 has the one hierarchy 0, without controllers."""


def available_cores(groups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int:
    """The smaller of the cores that this process may be scheduled on and those that its control groups pay for.

    A quota of 3.5 cores counts as 3: a fourth process would make all four wait. At least one. `groups` is where
    control groups are mounted, `membership` the file that says which is this process's.
    """
    scheduled = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.floor(min(scheduled, quota(groups, membership))))


def quota(groups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> float:
    """Cores' worth of time that the process's control groups allow, the smallest of all above it; infinite without.

    Version 2 keeps `cpu.max` ("quota period" or "max period", microseconds), version 1 `cpu.cfs_quota_us` (-1: none)
    and `cpu.cfs_period_us` below the mount of its controller (Linux, Documentation/admin-guide/cgroup-v2.rst).
    """
    return min((_quota_of(folder) for folder in _folders(groups, membership)), default=math.inf)


def _folders(groups: Path, membership: Path) -> list[Path]:
    """The folders of the process's control groups and of all groups that they lie in."""
    try:
        lines = membership.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    found = [groups, groups / "cpu"]  # inside a container its own group is often mounted as the root
    for line in lines:
        _, _, entry = line.partition(":")
        controllers, colon, path = entry.partition(":")
        if not colon or (controllers and "cpu" not in controllers.split(",")):
            continue
        root = groups
        if controllers:  # version 1
            root = groups / controllers if (groups / controllers).is_dir() else groups / "cpu"
        own = Path(path.lstrip("/"))
        found += [root / own, *(root / parent for parent in own.parents)]
    return found


def _quota_of(folder: Path) -> float:
    whole = _numbers(folder / "cpu.max")
    if len(whole) == 2:
        return whole[0] / whole[1] if whole[1] > 0 else math.inf
    allowed, period = _numbers(folder / "cpu.cfs_quota_us"), _numbers(folder / "cpu.cfs_period_us")
    if len(allowed) == len(period) == 1 and allowed[0] > 0 and period[0] > 0:
        return allowed[0] / period[0]
    return math.inf


def _numbers(file: Path) -> list[float]:
    """The file's numbers, "max" being infinite; none where it is not there or holds something else."""
    try:
        return [math.inf if word == "max" else float(word) for word in file.read_text(encoding="utf-8").split()]
    except (OSError, ValueError):
        return []
