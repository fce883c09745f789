#!/usr/bin/env python3
"""What reading much of the ledger costs: exports, verifying, suggestions, a comparison.

    cargo run --release --example fill_ledger -- --dir million --calls 1000000
    bench/reading.py --dir million

Runs each command on that ledger, of its last three days and of the whole: time, CPU, the most memory
the process had, and what it wrote. The ledger must not be in use.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pages import arguments

SPANS = {"3 days": ["--since", "3d"], "all": []}
COMMANDS = {
    **{f"export calls, {form}": ["export", "calls", "--format", form] for form in ("parquet", "jsonl", "csv")},
    "export content, parquet": ["export", "content", "--format", "parquet"],
}
OF_ALL = {
    "audit verify": ["audit", "verify"],
    "suggest": ["suggest", "--since", "365d"],
    "compare by model": ["compare", "--by", "model", "--since", "365d"],
}


def main():
    args = arguments(__doc__)
    with tempfile.TemporaryDirectory() as work:
        config = Path(work) / "config.toml"
        config.write_text(f'[ledger]\ndir = {json.dumps(str(args.dir.resolve()))}\nkeep_size = "unlimited"\n')
        command = [args.binary, "--config", config]
        print(f"{'command':<26} {'of':<7} {'time':>8} {'CPU':>8} {'memory':>9} {'written':>9}")
        for name, words in COMMANDS.items():
            for span, since in SPANS.items():
                out = Path(work) / "out"
                measure((name, span), [*command, *words, *since, "--force", "--out", out], out)
        for name, words in OF_ALL.items():
            measure((name, "all"), [*command, *words])


def measure(name, command, out=None):
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    took = time.monotonic() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{name[0]} ended with {process.returncode}")
    size = f"{out.stat().st_size / 2**20:.0f} MiB" if out else "-"
    cpu, memory = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
    print(f"{name[0]:<26} {name[1]:<7} {took:>6.1f} s {cpu:>6.1f} s {memory:>5.0f} MiB {size:>9}", flush=True)


if __name__ == "__main__":
    main()
