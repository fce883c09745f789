"""Real agent programs are recorded once, and replayed with the upstream off.

What a program gets again must be what it got: statuses, kinds and every byte of every body, in the
same order, and what it prints. With one prompt changed it must be stopped at the call that has that
prompt, and at no other.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex

from client import CLIENTS_HOME, HERE, QUIET, SCRIPT_TIMEOUT_SECONDS, Json, command_of

Upstream = Callable[[ExitStack, Path], str]
DEPARTED = 77
CHANGED = "This was asked otherwise when it was recorded."
# Client -> the constant of the job that is the prompt of a later call. All that speak HTTP with
# httpx, where the witness hears them, and ask for one thing after the other.
REPLAYED = {
    "langgraph_app": "RESEARCHER",
    "crewai_app": "QUESTION",
    "agents_sdk": "RESEARCHER",
    "pydantic_ai_app": "RESEARCHER",
    "smolagents_app": "RESEARCHER",
    "autogen_app": "RESEARCHER",
    "llama_index_app": "RESEARCHER",
}
# What a program asks may differ: LangGraph names each hand-over by an id that it makes up.
WITNESSED = (
    "number",
    "path",
    "status",
    "content-type",
    "content-encoding",
    "content-length",
    "body",
)


@dataclass
class Ended:
    code: int
    out: str
    err: str
    heard: list[Json]
    seconds: float


@dataclass
class Replayed:
    client: str
    calls: int = 0
    streamed: int = 0
    size: int = 0
    departs_at: str = "-"
    seconds: tuple[float, float] = (0.0, 0.0)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Stand:
    """Where a client is recorded and replayed: a ledger of its own."""

    binary: Path
    client: str
    directory: Path
    upstream: str

    def configure(self) -> None:
        (self.directory / "config.toml").write_text(
            f"""\
[proxy]
listen = "127.0.0.1:0"
[admin]
listen = "127.0.0.1:0"
[ledger]
dir = "{self.directory}/data"
[[upstream]]
name = "fake"
base_url = "{self.upstream}/v1"
"""
        )

    def run(self, name: str, *options: str, key: str, changed: tuple[str, ...] = ()) -> Ended:
        """Launches the program as its user does, with the witness in it."""
        log = self.directory / f"{name}.jsonl"
        log.touch()
        program = command_of(self.client, "replayed", self.client, str(log), *changed)
        config = str(self.directory / "config.toml")
        command = [str(self.binary), "run", "--config", config, *options, "--", *program]
        environment = QUIET | {
            "AIOPS_ROOT": self.upstream,
            "HOME": str(self.directory),
            "LANG": "C.UTF-8",
            "OPENAI_BASE_URL": f"{self.upstream}/v1",
            "PATH": os.environ["PATH"],
            "PYTHONPYCACHEPREFIX": str(CLIENTS_HOME / "pycache"),
        }
        if key:
            environment["OPENAI_API_KEY"] = key
        started = time.monotonic()
        done = subprocess.run(
            command,
            env=environment,
            cwd=self.directory,
            capture_output=True,
            check=False,
            text=True,
            timeout=SCRIPT_TIMEOUT_SECONDS,
        )
        heard = [json.loads(line) for line in log.read_text().splitlines()]
        heard.sort(key=lambda exchange: int(exchange["number"]))
        return Ended(done.returncode, done.stdout, done.stderr, heard, time.monotonic() - started)


def measure(client: str, binary: Path, directory: Path, upstream: Upstream) -> Replayed:
    """`upstream` starts one, for as long as the stack is there."""
    result = Replayed(client)
    try:
        measured(result, binary, directory / client, upstream)
    except (OSError, LookupError, ValueError, subprocess.TimeoutExpired) as error:
        result.problems.append(f"it was not replayed: {error!r}")
    return result


def measured(result: Replayed, binary: Path, directory: Path, upstream: Upstream) -> None:
    directory.mkdir()
    with ExitStack() as stack:
        stand = Stand(binary, result.client, directory, upstream(stack, directory))
        stand.configure()
        live = stand.run("live", key=f"sk-{token_hex(4)}")
    # The upstream is off from here on, and there is no key any more.
    found = re.search(r"^open-aiops: run (\S+),", live.err, re.MULTILINE)
    if live.code or not found:
        result.problems.append(f"recording ended with {live.code}\n{tail(live)}")
        return
    run = found.group(1)
    again = stand.run("again", "--replay", run, key="")
    result.calls, result.size = len(live.heard), sum(len(it["body"]) for it in live.heard)
    result.streamed = sum("event-stream" in str(it["content-type"]) for it in live.heard)
    result.seconds = (live.seconds, again.seconds)
    result.problems += problems_of(run, live, again)
    constant = REPLAYED[result.client]
    other = stand.run("other", "--replay", run, key="", changed=(constant, CHANGED))
    number, problems = problems_of_change(constant, live, other)
    result.departs_at = f"{number} of {len(live.heard)}"
    result.problems += problems


def problems_of(run: str, live: Ended, again: Ended) -> list[str]:
    found = []
    calls = len(live.heard)
    if again.code:
        found.append(f"the replay ended with {again.code}\n{tail(again)}")
    if f"replay of {run}: {calls} of {calls} calls played\n" not in again.err:
        found.append(f"not all {calls} calls were played: {again.err}")
    if again.out != live.out:
        found.append(f"it printed {again.out!r}, not {live.out!r}")
    if len(again.heard) != calls:
        found.append(f"{calls} answers were recorded, {len(again.heard)} came again")
    for one, other in zip(live.heard, again.heard, strict=False):
        found += [
            f"answer {one['number']}: {name} is {other[name]!r}, not {one[name]!r}"
            for name in WITNESSED
            if other[name] != one[name]
        ]
        call, played = one["x-aiops-call"], other["x-aiops-replayed"]
        if played != call:
            found.append(f"answer {one['number']} is that of {played}, not {call}")
    return found


def problems_of_change(constant: str, live: Ended, other: Ended) -> tuple[int, list[str]]:
    """The first call that had the prompt is where it departs, and what came before was played."""
    prompt = constant_of_job(constant)
    first = [it for it in live.heard if json.dumps(prompt)[1:-1] in it["asked"]][0]
    number, calls = first["number"], len(live.heard)
    found = []
    if other.code != DEPARTED:
        found.append(f"with another {constant} it ended with {other.code}\n{tail(other)}")
    if f" at call {number} of {calls} ({first['x-aiops-call']}," not in other.err:
        found.append(f"it departs at call {number} ({first['x-aiops-call']}), told is: {other.err}")
    if CHANGED not in other.err:
        found.append(f"the other prompt is not told: {other.err}")
    played = [it["x-aiops-replayed"] for it in other.heard if it["status"] != 409]
    if played != [it["x-aiops-call"] for it in live.heard[: number - 1]]:
        found.append(f"before call {number} it got {played}")
    return number, found


def constant_of_job(name: str) -> str:
    text = (HERE / "python" / "job.py").read_text()
    found = re.search(rf'^{name} = "(.*)"$', text, re.MULTILINE)
    assert found
    return found.group(1)


def tail(ended: Ended) -> str:
    lines = (ended.out + ended.err).strip().splitlines()[-15:]
    return "".join(f"    {line}\n" for line in lines)


def rows_of(results: list[Replayed]) -> list[list[str]]:
    return [
        [
            it.client,
            str(it.calls),
            str(it.streamed),
            str(it.size),
            it.departs_at,
            f"{it.seconds[0]:.1f} s",
            f"{it.seconds[1]:.1f} s",
            "no" if it.problems else "yes",
        ]
        for it in results
    ]
