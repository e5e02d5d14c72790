"""How many cores this process may use: the one place that decides it, without torch.

``inference/device.py`` tells torch, and deals a batch's parts out to threads.
"""

import logging
import math
import os
from functools import cache
from pathlib import Path

from biomassters.messages import counted

log = logging.getLogger(__name__)

_CGROUPS = Path("/sys/fs/cgroup")


def processors() -> int:
    """Processors that this process may keep busy, at least 1.

    Those that it may run on (``taskset``, Slurm), and not more than a container's CPU limit
    allows: threads beyond it are stopped in the middle of their work, and the others wait.
    """
    known = hasattr(os, "sched_getaffinity")  # not on macOS
    mine = len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1
    return max(1, math.ceil(min(mine, cgroup_limit())))


def usable_cores() -> int:
    """Cores for arithmetic: ``OMP_NUM_THREADS`` where somebody set it, else ``processors``."""
    # A list such as "4,2" is for nested regions; the first number counts here.
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(wanted) if wanted.isdecimal() and int(wanted) > 0 else processors()


def cgroup_limit(root: Path = _CGROUPS, own: Path = Path("/proc/self/cgroup")) -> float:
    """Cores' worth of time that control groups grant to this process; inf without a limit.

    Args:
        root: Where control groups are mounted.
        own: Names the process's groups, as ``cgroups(7)`` describes.
    """
    limits = [math.inf]
    for line in _lines(own):
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2
            base, read = root, _limit_v2
        elif "cpu" in controllers.split(","):
            base, read = root / "cpu", _limit_v1
        else:
            continue
        # A limit binds everything below it. In a container the path may be the host's and lead
        # nowhere; its own group is then what is mounted.
        group = base / path.strip("/")
        limits += [read(folder) for folder in (group, *group.parents) if folder >= base]
    return min(limits)


def _limit_v2(folder: Path) -> float:
    """``cpu.max``: microseconds in each period, or ``max``."""
    quota, *period = " ".join(_lines(folder / "cpu.max")).split() or ["max"]
    return _ratio(quota, period[0] if period else "100000")


def _limit_v1(folder: Path) -> float:
    names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
    quota, period = ("".join(_lines(folder / name)) for name in names)
    return _ratio(quota, period)


def _ratio(quota: str, period: str) -> float:
    if not (quota.isdecimal() and period.isdecimal() and int(quota) and int(period)):
        return math.inf  # "max", −1, or nothing to read
    return int(quota) / int(period)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


@cache
def say_once(cores: int, parts: int, threads: int) -> None:
    """Log how a batch is shared out, once for each way in which it is."""
    share = "batches whole" if parts == 1 else f"{parts} parts of a batch"
    log.info("%s: %s, %s each.", counted(cores, "core"), share, counted(threads, "thread"))
