#!/usr/bin/env python3
"""How long the pages of the dashboard take, over a ledger that `fill_ledger` made.

    cargo run --release --example fill_ledger -- --dir million --calls 1000000
    bench/pages.py --dir million

Starts the product on that ledger and asks for each page, one after the other, seven times: the whole
answer as a client on this machine sees it. Prints the median and the slowest of each, and its size.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TIMES = 7


def main():
    args = arguments(__doc__)
    with tempfile.TemporaryDirectory() as work:
        config = Path(work) / "config.toml"
        config.write_text(
            '[proxy]\nlisten = "127.0.0.1:0"\n[admin]\nlisten = "127.0.0.1:0"\n'
            f'[ledger]\ndir = {json.dumps(str(args.dir.resolve()))}\nkeep_size = "unlimited"\n'
        )
        command = [args.binary, "serve", "--config", config]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            measure(admin_of(server))
        finally:
            server.terminate()
            server.wait()


def arguments(description):
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, default=ROOT / "target/release/open-aiops")
    parser.add_argument("--dir", type=Path, required=True, help="the ledger")
    return parser.parse_args()


def admin_of(server):
    for line in server.stdout:
        if line.startswith("admin listening on "):
            return line.split()[-1]
    raise SystemExit("the product did not start")


def measure(admin):
    runs = ask(admin, "/api/v1/runs?limit=1000")["runs"]
    longest = max(runs, key=lambda run: run["calls"])
    run = urllib.request.quote(longest["run"], safe="")
    call = ask(admin, f"/api/v1/calls?run={run}&limit=1")["calls"][0]["id"]
    print(f"the longest run has {longest['calls']} calls\n")
    print(f"{'page':<34} {'median':>9} {'slowest':>9} {'size':>8}")
    other = next(it["run"] for it in runs if it["run"] != longest["run"])
    other = urllib.request.quote(other, safe="")
    for path, name in pages(run, other, call):
        took, size = [], 0
        for _ in range(TIMES):
            begun = time.perf_counter()
            size = len(fetch(admin + path))
            took.append((time.perf_counter() - begun) * 1000)
        print(f"{name:<34} {statistics.median(took):>6.1f} ms {max(took):>6.1f} ms {size // 1000:>5} KB")


def pages(run, other, call):
    for reach in ["1h", "24h", "7d", "30d", "all"]:
        yield f"/?range={reach}", f"overview, {reach}"
    for reach in ["24h", "30d", "all"]:
        yield f"/graph?range={reach}", f"graph, {reach}"
    yield f"/graph?run={run}", "graph of the longest run"
    yield "/runs?range=all", "runs"
    yield "/runs?range=all&problems=1", "runs with problems"
    yield "/runs?range=all&agent=nobody", "runs that are not there"
    yield f"/runs/{run}", "the longest run, timeline"
    yield f"/runs/{run}?view=steps", "the longest run, steps"
    yield f"/runs/{run}?call={call}", "the longest run, one call open"
    yield f"/calls/{call}", "a call"
    yield "/budgets", "budgets"
    yield "/loops?range=all", "loops"
    yield "/alerts?range=all", "alerts"
    yield "/search?q=nothing-like-this", "search in vain"
    yield "/compare?by=variant&range=7d", "two variants, 7d"
    yield "/compare?by=agent&range=7d", "two agents, 7d"
    yield f"/compare?a={run}&b={other}", "two runs"
    yield "/suggestions?range=7d", "suggestions, 7d"
    yield "/api/v1/export/calls?since=7d", "a page of exported calls"


def ask(admin, path):
    return json.loads(fetch(admin + path))


def fetch(url):
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.read()


if __name__ == "__main__":
    main()
