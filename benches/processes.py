"""Memory and processor time of a process and the workers it started, read from /proc; zero where there is none.

Workers are found by their session: the measured process is started as the leader of a new one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def session_memory(session: int) -> tuple[int, int]:
    """Resident bytes, and the anonymous part of them, summed over the session.

    Pages that several processes map are counted in each. The anonymous part leaves out mapped files, which the system
    can drop at any time, and shared memory.
    """
    rss = anonymous = 0
    for pid in session_members(session):
        status = memory_of(pid)
        rss += status.get("VmRSS", 0)
        anonymous += status.get("RssAnon", 0)
    return rss, anonymous


def session_cpu_seconds(session: int) -> float:
    """User and system time of the session's living processes."""
    ticks = os.sysconf("SC_CLK_TCK")
    return sum(int(fields[11]) + int(fields[12]) for fields in map(_stat, session_members(session)) if fields) / ticks


def memory_of(pid: int | str) -> dict[str, int]:
    """The memory lines of /proc/<pid>/status, in bytes."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith(" kB")}


def session_members(session: int) -> Iterator[int]:
    proc = Path("/proc")
    for entry in proc.iterdir() if proc.is_dir() else ():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))) and int(fields[3]) == session:
            yield int(entry.name)


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat from the third on; empty for a process that has just ended."""
    try:
        # The second field, the name, may hold spaces and brackets.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
