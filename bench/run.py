#!/usr/bin/env python3
"""Measures Open-AIOps beside nginx, haproxy and no proxy at all; see README.md."""

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import machine
import report
import scenarios
import services
import targets

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RESULTS = HERE / "results" / "latest.json"
MAX_STOLEN = 0.08
WARM = [[], ["--stream"], ["--history", "40000", "--history-from", "20000"]]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", type=Path, default=ROOT / "target/release/open-aiops")
    parser.add_argument("--rounds", type=int, help="default 3, with --quick 1")
    parser.add_argument("--scenarios", default="", help="names, comma between; default all")
    parser.add_argument("--targets", default="direct,nginx,haproxy,open-aiops")
    parser.add_argument("--quick", action="store_true", help="a look, not a figure")
    parser.add_argument("--cores", default="0,1", help="the target's core, then mock and load's")
    parser.add_argument("--nice", type=int, default=0, help="-10 on a busy machine, as root")
    parser.add_argument("--dir", type=Path, help="where ledgers are written; default /tmp")
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.binary = options.binary.resolve()
    return options


def split(text):
    return [part for part in text.split(",") if part]


def build():
    """Builds the bench's own programs; their directory."""
    manifest = HERE / "crate/Cargo.toml"
    command = ["cargo", "build", "--release", "--quiet", "--manifest-path", str(manifest)]
    subprocess.run(command, check=True)
    target = os.environ.get("CARGO_TARGET_DIR", HERE / "crate/target")
    return Path(target) / "release"


class Bench:
    """One run of everything that was asked for."""

    def __init__(self, options, programs, directory):
        self.options, self.programs = options, programs
        self.launcher = targets.Launcher(directory, options.cores.split(","), options.nice)
        self.scenarios = scenarios.named(split(options.scenarios), options.quick)
        self.mock = targets.Mock(programs / "mockup", self.launcher)
        targets.Product.services = self.services = services.Services(self.launcher)
        self.targets = {}
        self.skipped = {}
        self.runs = []

    def start_targets(self):
        asked = split(self.options.targets)
        needed = [name for scenario in self.scenarios for name in scenario.targets]
        for name in dict.fromkeys(needed):
            if name.partition("/")[0] not in asked:
                continue
            target = targets.create(name, self.launcher, self.mock)
            try:
                target.start()
            except targets.Missing as missing:
                self.skipped[name] = str(missing)
                print(f"SKIPPED {name}: {missing}", file=sys.stderr, flush=True)
                continue
            self.targets[name] = target
            self.warm(target)
            target.pause()

    def warm(self, target):
        """Code paths taken once, pools filled."""
        self.mock.set_pace("ttfb_ms=0&gap_ms=0")
        for seed, more in enumerate(WARM):
            load = ["--connections", "8", "--warmup", "0", "--seconds", "0.5", *more]
            self.load(target, [*load, "--seed", str(seed + 900_000)])
        machine.wait_until_quiet(target.pid())

    def load(self, target, arguments, patience=scenarios.LOAD_SECONDS):
        command = [
            *("taskset", "-c", self.launcher.load_core, self.programs / "loadgen"),
            *("--target", target.address, "--pid", str(target.pid())),
            *arguments,
        ]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=patience,
                env=os.environ | {"RUST_BACKTRACE": "0"},
                preexec_fn=self.launcher.take_priority,
            )
        except subprocess.TimeoutExpired:
            return {"failed": f"no end within {patience} s"}
        if done.returncode:
            return {"failed": done.stderr.strip()[:300] or f"exit code {done.returncode}"}
        return json.loads(done.stdout)

    def run(self):
        self.start_targets()
        for round_ in range(self.options.rounds):
            for number, scenario in enumerate(self.scenarios):
                if not scenario.once:
                    self.run_scenario(scenario, round_, number)
        for number, scenario in enumerate(self.scenarios):
            if scenario.once:
                self.run_scenario(scenario, 0, number)

    def run_scenario(self, scenario, round_, number):
        """The scenario on each target in turn, starting with another one each round."""
        chosen = [self.targets[name] for name in scenario.targets if name in self.targets]
        first = (round_ + number) % max(1, len(chosen))
        for target in chosen[first:] + chosen[:first]:
            seed = 1 + round_ * 100 + number
            result = self.measure(scenario, target, seed)
            if result.get("stolen", 0) > MAX_STOLEN:
                result = self.measure(scenario, target, seed + 10_000)
            result |= {"scenario": scenario.name, "target": target.name, "round": round_}
            self.runs.append(result)
            print(progress(result), file=sys.stderr, flush=True)

    def measure(self, scenario, target, seed):
        if scenario.fresh:
            target.start_fresh()
        self.mock.set_pace(scenario.pace)
        target.resume()
        stolen, ticks = machine.stolen()
        load = [*scenario.arguments(), "--seed", str(seed)]
        result = self.load(target, load, scenario.patience)
        cpu_at_end = machine.cpu_seconds(target.pid())
        result["quiet"] = machine.wait_until_quiet(target.pid())
        trailing = machine.cpu_seconds(target.pid()) - cpu_at_end
        if scenario.check and "failed" not in result:
            result |= checked(scenario, target, seed)
        result["rss_peak_kib"] = machine.peak_rss_kib(target.pid())
        target.pause()
        stolen_after, ticks_after = machine.stolen()
        result["stolen"] = (stolen_after - stolen) / max(1, ticks_after - ticks)
        result["load_average"] = os.getloadavg()[0]
        add_derived(result, trailing)
        return result

    def stop(self):
        for target in self.targets.values():
            target.stop()
        self.services.stop()
        self.mock.stop()


def checked(scenario, target, seed):
    """What was measured is worth keeping whatever becomes of the check."""
    try:
        return scenario.check(target, seed)
    except (OSError, LookupError, ValueError) as error:
        return {"wrong": f"the check failed: {error!r}"}


def add_derived(result, trailing):
    """What a target still does after the last answer belongs to the calls it was done for."""
    if result.get("cpu_us_per_call"):
        result["trailing_us"] = trailing * 1e6 / max(1, result["all_calls"])
        result["cpu_us"] = result["cpu_us_per_call"] + result["trailing_us"]
    if held := result.get("held"):
        grown = held["rss_kib"] - result["rss_before_kib"]
        result["kib_per_stream"] = grown / max(1, held["streams"])


def progress(result):
    name = f"round {result['round'] + 1} {result['scenario']:20} {result['target']:20}"
    if "failed" in result:
        return f"{name} FAILED {result['failed']}"
    latency = (result["latency_us"] or {}).get("p50", 0) / 1000
    return (
        f"{name} ok {result['ok']:6} of {result['asked']:6} p50 {latency:8.3f} ms "
        f"cpu {result.get('cpu_us', 0):8.1f} us/call load {result['load_average']:.1f}"
        f" {result['first_error'] or ''}"
    )


def main():
    options = arguments()
    targets.Product.binary = options.binary
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    programs = build()
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    started = time.time()
    with tempfile.TemporaryDirectory(prefix="aiops-bench-", dir=options.dir) as directory:
        about = machine.describe(directory)
        bench = Bench(options, programs, Path(directory))
        try:
            bench.run()
        except KeyboardInterrupt:
            print("interrupted: what follows is what there is", file=sys.stderr)
        finally:
            bench.stop()
    summary(options, bench, about, time.time() - started)


def interrupt(*_):
    """Once: what was started must be ended undisturbed."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def summary(options, bench, about, seconds):
    names = list(bench.targets)
    versions = {name: target.version() for name, target in bench.targets.items()}
    RESULTS.parent.mkdir(exist_ok=True)
    everything = {
        "date": time.strftime("%Y-%m-%d"),
        "seconds": round(seconds),
        "rounds": options.rounds,
        "quick": options.quick,
        "machine": about,
        "versions": versions,
        "skipped": bench.skipped,
        "table": list(report.rows(bench.runs, names)),
        "runs": bench.runs,
    }
    RESULTS.write_text(json.dumps(everything, indent=1) + "\n")
    print(report.table(bench.runs, names))
    loads = [run["load_average"] for run in bench.runs] or [about["load_at_start"]]
    print(
        f"\n{everything['date']}, {options.rounds} round(s) in {seconds:.0f} s"
        f"{', quick: a look, not a figure' if options.quick else ''}; {about['cpu']}, "
        f"{about['memory_gib']} GiB, Linux {about['kernel']}, ledger on "
        f"{about['ledger_filesystem']}; load average {min(loads):.1f} to {max(loads):.1f}; "
        + ", ".join(dict.fromkeys(filter(None, versions.values())))
    )
    skipped = [f"skipped {name}: {why}" for name, why in bench.skipped.items()]
    for remark in [*skipped, *report.remarks(bench.runs)]:
        print(f"- {remark}")


if __name__ == "__main__":
    main()
