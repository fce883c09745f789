#!/usr/bin/env python3
"""Runs real LLM clients through the proxy and checks its records against the upstream's bill."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any

import loops
import refusals
import replays
import untagged
from client import (
    CLIENTS,
    Json,
    Session,
    billed_to,
    command_of,
    run_script,
    script_environment,
    settled_calls,
)
from truth import Truth, truths_of

HERE = Path(__file__).resolve().parent
START_TIMEOUT_SECONDS = 30
PARALLEL_SCRIPTS = 2
# With every refusal, which the checks count.
LOG_LEVELS = "info,open_aiops::proxy=debug"

# Model -> nano-USD per token: input, cached input, output.
PRICES = {
    "gpt-4o-mini": (150, 75, 600),
    "text-embedding-3-small": (20, 20, 0),
}

USAGE_FIELDS = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "reasoning_output_tokens",
)
# What the tags say; whom the planner works for is inferred.
CALLER_OF = {"planner": None, "researcher": "planner"}


@dataclass
class Result:
    client: str
    billed: list[Json] = field(default_factory=list)
    recorded: list[Json] = field(default_factory=list)
    meetings: list[refusals.Meeting] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0


# Processes


@contextmanager
def process(command: list[str], log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out, log.with_suffix(".err").open("wb") as err:
        child = subprocess.Popen(command, stdout=out, stderr=err, env=os.environ | environment)
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def wait_for(what: str, probe: Callable[[], Any], child: subprocess.Popen[bytes]) -> Any:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while time.monotonic() < deadline and child.poll() is None:
        if found := probe():
            return found
        time.sleep(0.05)
    raise SystemExit(f"{what} did not start (exit status {child.poll()})")


def printed(log: Path, pattern: str) -> Callable[[], str | None]:
    def probe() -> str | None:
        found = re.search(pattern, log.read_text(), re.MULTILINE)
        return found.group(1) if found else None

    return probe


def start_upstream(stack: ExitStack, directory: Path, gzip: bool) -> str:
    log = directory / "upstream.log"
    command = [sys.executable, str(HERE / "upstream.py"), *(["--gzip"] if gzip else [])]
    child = stack.enter_context(process(command, log))
    port = wait_for("the upstream", printed(log, r"^(\d+)$"), child)
    return f"http://127.0.0.1:{port}"


def start_proxy(stack: ExitStack, binary: Path, directory: Path, upstream: str) -> tuple[str, str]:
    config = directory / "config.toml"
    config.write_text(
        f"""\
[proxy]
listen = "127.0.0.1:0"
[admin]
listen = "127.0.0.1:0"
[ledger]
dir = "{directory}/data"
[[upstream]]
name = "fake"
base_url = "{upstream}/v1"
{refusals.config()}"""
    )
    log = directory / "proxy.log"
    command = [str(binary), "serve", "--config", str(config)]
    child = stack.enter_context(process(command, log, RUST_LOG=LOG_LEVELS))
    try:
        proxy = wait_for("the proxy", printed(log, r"^proxy listening on (\S+)$"), child)
        admin = wait_for("the proxy", printed(log, r"^admin listening on (\S+)$"), child)
        wait_for("the proxy", lambda: is_ready(admin), child)
    except SystemExit:
        sys.stderr.write(log.with_suffix(".err").read_text())
        raise
    return proxy, admin


def is_ready(admin: str) -> bool:
    try:
        with urllib.request.urlopen(f"{admin}/readyz", timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def run_client(client: str, session: Session) -> Result:
    result = Result(client)
    run = f"{client.replace('_', '-')}-{token_hex(4)}"
    key = f"sk-{run}"
    started = time.monotonic()
    environment = script_environment(session, run, key)
    result.problems += run_script(command_of(client, client), environment, session.directory)[1]
    result.seconds = time.monotonic() - started
    result.billed = billed_to(session.upstream, key)
    result.problems += problems_of_job(result.billed)
    if session.admin is None:
        result.problems += problems_of_tags(result.billed, run)
        return result
    try:
        result.recorded = settled_calls(session.admin, run, len(result.billed))
        truths = truths_of(client, result.billed)
        result.problems += problems_of_records(result.billed, result.recorded, (run, truths))
        result.meetings, problems = refusals.meet(client, session)
        result.problems += problems
        for meeting in result.meetings:
            result.problems += refusals.problems_of(meeting)
    except (OSError, LookupError, ValueError) as error:
        result.problems.append(f"the records cannot be read: {error!r}")
    return result


# Checks


def problems_of_job(billed: list[Json]) -> list[str]:
    """The script must have been worth running."""
    metered = [entry for entry in billed if entry["id"]]
    personas = {entry["persona"] for entry in metered}
    found = []
    if personas != set(CALLER_OF):
        found.append(f"the prompts name {personas}, not planner and researcher")
    if {entry["stream"] for entry in metered} != {True, False}:
        found.append("needs both a streamed and a whole answer")
    found += [f"{name_of(entry)}: the client went away" for entry in billed if entry["client_gone"]]
    return found


def problems_of_tags(billed: list[Json], run: str) -> list[str]:
    """Without a proxy the upstream sees how the client tags its calls."""
    found = []
    for entry in billed:
        agent = expected_agent(entry)
        by_headers: Json = {"x-aiops-agent": agent, "x-aiops-run": run}
        if CALLER_OF[agent]:
            by_headers["x-aiops-caller"] = CALLER_OF[agent]
        by_path = f"/run/{run}/agent/{agent}"
        if entry["headers"] != by_headers and entry["path_tags"] != by_path:
            found.append(
                f"{name_of(entry)}: tagged {entry['headers']} {entry['path_tags']!r}, is {agent}"
            )
    return found


def problems_of_records(
    billed: list[Json], recorded: list[Json], expected: tuple[str, dict[str, Truth]]
) -> list[str]:
    found = []
    if len(billed) != len(recorded):
        found.append(f"{len(billed)} calls billed, {len(recorded)} recorded")
    left = list(recorded)
    for entry in billed:
        call = next((call for call in left if is_same_call(entry, call)), None)
        if call is None:
            found.append(f"{name_of(entry)}: not recorded")
            continue
        left.remove(call)
        found += problems_of_record(entry, call, expected)
    found += [f"{call['target']} {call['response_id']}: never billed" for call in left]
    for name in USAGE_FIELDS:
        bill, record = total(billed, name), total(recorded, name)
        if bill != record:
            found.append(f"sum of {name}: {bill} billed, {record} recorded")
    return found


def is_same_call(entry: Json, call: Json) -> bool:
    """By response id; embeddings and lists have none, but their numbers differ."""
    if entry["id"]:
        return bool(call["response_id"] == entry["id"])
    same_tokens = tokens(entry, "input_tokens") == tokens(call, "input_tokens")
    return path_of(call) == entry["path"] and same_tokens


def problems_of_record(
    entry: Json, call: Json, expected: tuple[str, dict[str, Truth]]
) -> list[str]:
    run, truths = expected
    agent = expected_agent(entry)
    truth = truths.get(entry["id"])
    fields: Json = {
        "run": run,
        "agent": agent,
        "caller": CALLER_OF[agent] or (truth.caller if truth else None),
        "request_model": entry["model"],
        "response_model": entry["response_model"],
        "stream": entry["stream"],
        "status": 200,
        "outcome": "completed",
    }
    found = [
        f"{name_of(entry)}: {name} is {call.get(name)!r}, not {value!r}"
        for name, value in fields.items()
        if call.get(name) != value
    ]
    if entry["headers"]:
        found.append(f"{name_of(entry)}: the upstream saw {sorted(entry['headers'])}")
    return found + (problems_of_usage(entry, call) if entry["usage"] else [])


def problems_of_usage(entry: Json, call: Json) -> list[str]:
    expected: Json = {name: entry["usage"][name] for name in USAGE_FIELDS}
    actual: Json = {name: tokens(call, name) for name in USAGE_FIELDS}
    expected["provenance"], actual["provenance"] = "reported", call.get("provenance")
    expected["cost_nano_usd"], actual["cost_nano_usd"] = cost_of(entry), call.get("cost_nano_usd")
    return [
        f"{name_of(entry)}: {name} is {actual[name]!r}, not {value!r}"
        for name, value in expected.items()
        if actual[name] != value
    ]


def cost_of(entry: Json) -> int:
    fresh, cached, output = PRICES[entry["model"]]
    read = tokens(entry, "cache_read_input_tokens")
    unread = tokens(entry, "input_tokens") - read
    return unread * fresh + read * cached + tokens(entry, "output_tokens") * output


def expected_agent(entry: Json) -> str:
    """Who the prompt says is speaking; calls without a prompt are made by the planner."""
    return entry["persona"] or "planner"


def tokens(entry: Json, name: str) -> int:
    """Absent details count as zero, on the bill and in the records."""
    count: int | None = (entry["usage"] or {}).get(name)
    return count or 0


def total(entries: list[Json], name: str) -> int:
    return sum(tokens(entry, name) for entry in entries)


def path_of(call: Json) -> str:
    return str(call["target"]).partition("?")[0]


def name_of(entry: Json) -> str:
    return f"{entry['path']} {entry['id'] or ''}".strip()


# The report


def billed_tokens(entries: list[Json]) -> int:
    return total(entries, "input_tokens") + total(entries, "output_tokens")


def agents_of(result: Result) -> str:
    """caller>agent of each record, or of each prompt when there are no records."""
    if result.recorded:
        edges = {(call["caller"], call["agent"]) for call in result.recorded}
    else:
        agents = {expected_agent(entry) for entry in result.billed}
        edges = {(CALLER_OF[agent], agent) for agent in agents}
    return " ".join(sorted(f"{caller}>{agent}" if caller else agent for caller, agent in edges))


def row_of(result: Result, direct: bool) -> list[str]:
    return [
        result.client,
        str(len(result.billed)),
        str(billed_tokens(result.billed)),
        "-" if direct else str(billed_tokens(result.recorded)),
        agents_of(result) or "-",
        f"{result.seconds:.1f} s",
        "no" if result.problems else "yes",
    ]


def print_table(rows: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        print(" | ".join(cells).rstrip())


def print_refusals(results: list[Result]) -> None:
    head = ["client", "refusal", "requests", "user gets", "code", "ok"]
    rows = [refusals.row_of(meeting) for r in results for meeting in r.meetings]
    print_table([head, *rows])


def report(results: list[Result], direct: bool) -> bool:
    head = ["client", "calls", "tokens billed", "tokens recorded", "agents", "time", "ok"]
    print_table([head, *(row_of(result, direct) for result in results)])
    if not direct:
        print()
        print_refusals(results)
    for result in results:
        for problem in result.problems:
            print(f"{result.client}: {problem}")
    failed = sum(bool(result.problems) for result in results)
    print(f"{len(results) - failed} passed, {failed} failed")
    return failed == 0


def report_untagged(measured: list[untagged.Measured]) -> bool:
    head = ["client", "calls", "agent right", "caller right", "run right", "ok"]
    print_table([head, *untagged.rows_of(measured)])
    print()
    head = ["client", "program", "calls", "user gets", "agents", "ok"]
    print_table([head, *(loops.row_of(it) for one in measured for it in one.programs)])
    for one in measured:
        for problem in one.problems:
            print(f"{one.client}: {problem}")
    failed = sum(bool(one.problems) for one in measured)
    print(f"{len(measured) - failed} passed, {failed} failed")
    return failed == 0


def report_replayed(results: list[replays.Replayed]) -> bool:
    head = ["client", "calls", "streamed", "bytes", "departs at", "live", "again", "ok"]
    print_table([head, *replays.rows_of(results)])
    for result in results:
        for problem in result.problems:
            print(f"{result.client}: {problem}")
    failed = sum(bool(result.problems) for result in results)
    print(f"{len(results) - failed} passed, {failed} failed")
    return failed == 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--binary", type=Path, help="the proxy to run the clients through")
    where.add_argument("--direct", action="store_true", help="no proxy: check the scripts alone")
    parser.add_argument("--only", help="names, separated by commas")
    parser.add_argument("--untagged", action="store_true", help="nothing says who calls")
    parser.add_argument("--replayed", action="store_true", help="run again with the upstream off")
    parser.add_argument("--dump", type=Path, help="where to write what untagged calls were")
    parser.add_argument("--gzip", action="store_true", help="let the upstream compress")
    options = parser.parse_args()
    known = list(replays.REPLAYED) if options.replayed else list(CLIENTS)
    options.only = options.only.split(",") if options.only else known
    if options.untagged and options.direct:
        parser.error("nothing is inferred without a proxy")
    if options.replayed and (options.direct or options.untagged):
        parser.error("what is replayed is recorded by a proxy, without tags")
    if unknown := set(options.only) - set(known):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    return options


def run_tagged(options: argparse.Namespace, session: Session) -> bool:
    with ThreadPoolExecutor(PARALLEL_SCRIPTS) as pool:
        results = list(pool.map(lambda client: run_client(client, session), options.only))
    return report(results, options.direct)


def run_untagged(options: argparse.Namespace, session: Session) -> bool:
    def measure(client: str) -> untagged.Measured:
        measured = untagged.measure(client, session, options.dump)
        if client in loops.PINS:
            measured.programs, problems = loops.run(client, session)
            measured.problems += problems
        return measured

    with ThreadPoolExecutor(PARALLEL_SCRIPTS) as pool:
        return report_untagged(list(pool.map(measure, options.only)))


def run_replayed(options: argparse.Namespace, directory: Path) -> bool:
    def upstream(stack: ExitStack, directory: Path) -> str:
        return start_upstream(stack, directory, options.gzip)

    def measure(client: str) -> replays.Replayed:
        return replays.measure(client, options.binary.resolve(), directory, upstream)

    with ThreadPoolExecutor(PARALLEL_SCRIPTS) as pool:
        return report_replayed(list(pool.map(measure, options.only)))


def main() -> int:
    options = parse_arguments()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aiops-clients-")))
        if options.replayed:
            return 0 if run_replayed(options, directory) else 1
        upstream = start_upstream(stack, directory, options.gzip)
        root, admin = upstream, None
        if options.binary:
            root, admin = start_proxy(stack, options.binary, directory, upstream)
        session = Session(root, upstream, admin, directory, options.gzip)
        check = run_untagged if options.untagged else run_tagged
        passed = check(options, session)
        if options.binary and not passed:
            sys.stderr.write((directory / "proxy.err").read_text()[-4000:])
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
