"""What the bench reads from the machine: CPU time of a process tree, stolen time, a description."""

import os
import platform
import subprocess
import time
from pathlib import Path

QUIET_SECONDS = 0.5
QUIET_SHARE = 0.02
TICKS = os.sysconf("SC_CLK_TCK")


def tree(root):
    """The process and all its descendants."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := stat_fields(entry)):
            children.setdefault(int(fields[1]), []).append(int(entry))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def stat_fields(pid):
    """Fields of /proc/PID/stat after the command's name; empty when the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return []


def cpu_seconds(root):
    """Seconds the tree was on a CPU: exact from the scheduler, unless threads have ended."""
    return sum(cpu_seconds_of(pid) for pid in tree(root))


def cpu_seconds_of(pid):
    exact = 0.0
    for schedstat in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        try:
            exact += int(schedstat.read_text().split()[0]) / 1e9
        except OSError:
            continue
    fields = stat_fields(pid)
    coarse = (int(fields[11]) + int(fields[12])) / TICKS if fields else 0.0
    return exact if exact > 0 and coarse - exact < 0.05 else coarse


def peak_rss_kib(pid):
    """The most memory that was ever resident, which samples may miss."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return None


def wait_until_quiet(root, at_most=20.0):
    """Waits until the tree hardly uses the CPU; False when it never came to rest."""
    deadline = time.monotonic() + at_most
    while time.monotonic() < deadline:
        before = cpu_seconds(root)
        time.sleep(QUIET_SECONDS)
        if cpu_seconds(root) - before < QUIET_SHARE * QUIET_SECONDS:
            return True
    return False


def stolen():
    """(stolen, all) CPU ticks of the machine so far."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()
    return int(fields[8]), sum(map(int, fields[1:9]))


def describe(directory):
    """What a reader must know to compare figures."""
    model = next(
        (line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
         if line.startswith("model name")),
        platform.machine(),
    )
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    filesystem = subprocess.run(
        ["stat", "-f", "-c", "%T", directory], capture_output=True, text=True, check=True
    ).stdout.strip()
    return {
        "cpu": f"{os.cpu_count()} x {model}",
        "memory_gib": round(pages / 2**30),
        "kernel": platform.release(),
        "ledger_filesystem": filesystem,
        "load_at_start": round(os.getloadavg()[0], 1),
    }
