"""How much the proxy knows of calls that carry no tags: who makes them, for whom, within which job.

Every script runs twice at once without tags, each time with a key of its own.
"""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from secrets import token_hex

import loops
from client import (
    Json,
    Session,
    billed_to,
    command_of,
    get_json,
    run_script,
    script_environment,
    settled_by_id,
)
from truth import SCRIPTS, Truth, truths_of

AT_ONCE = 2
WHAT = ("agent", "caller", "run")
# Percent that must come out right, of agent, caller and run.
FLOORS: dict[str, tuple[int, int, int]] = dict.fromkeys(SCRIPTS, (100, 100, 100)) | {
    # Two of its jobs hand over the same words at the same time: whose they are nobody can tell.
    "ai_sdk": (100, 100, 60),
}


@dataclass
class Call:
    truth: Truth
    record: Json
    # What must be equal among the calls of one job, and differ between jobs.
    run_is_right: bool = False

    @property
    def is_right(self) -> dict[str, bool]:
        return {
            "agent": self.record["agent"] == self.truth.agent,
            "caller": self.record["caller"] == self.truth.caller,
            "run": self.run_is_right,
        }


@dataclass
class Measured:
    client: str
    # Of each of the two at once.
    calls: list[list[Call]] = field(default_factory=list)
    programs: list[loops.Program] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def all_calls(self) -> list[Call]:
        return list(chain.from_iterable(self.calls))


def measure(client: str, session: Session, dump: Path | None) -> Measured:
    measured = Measured(client)
    keys = [f"sk-{client}-{token_hex(4)}" for _ in range(AT_ONCE)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        scripts = [pool.submit(run_untagged, client, session, key) for key in keys]
    for key, script in zip(keys, scripts, strict=True):
        measured.problems += script.result()
        try:
            measured.calls.append(calls_of(client, session, key))
        except (OSError, LookupError, ValueError) as error:
            measured.problems.append(f"the records cannot be read: {error!r}")
    if dump:
        (dump / f"{client}.json").write_text(json.dumps(evidence(measured, session), indent=1))
    measured.problems += problems_of(measured)
    return measured


def run_untagged(client: str, session: Session, key: str) -> list[str]:
    environment = script_environment(session, "", key)
    return run_script(command_of(client, client), environment, session.directory)[1]


def calls_of(client: str, session: Session, key: str) -> list[Call]:
    """In the order of time."""
    assert session.admin
    truths = truths_of(client, billed_to(session.upstream, key))
    records = settled_by_id(session.admin, set(truths))
    calls = [Call(truth, records[response]) for response, truth in truths.items()]
    judge_runs(calls)
    return calls


def judge_runs(calls: list[Call]) -> None:
    """The run of a job is the one that most of its calls have, unless an earlier job has it."""
    taken: set[str | None] = {None}
    for job in dict.fromkeys(call.truth.job for call in calls):
        of_job = [call for call in calls if call.truth.job == job]
        ((run, _),) = Counter(call.record["run"] for call in of_job).most_common(1)
        for call in of_job:
            call.run_is_right = call.record["run"] == run and run not in taken
        taken.add(run)


# Checks


def share(measured: list[Measured], what: str) -> float:
    calls = [call for one in measured for call in one.all_calls]
    return 100 * sum(call.is_right[what] for call in calls) / max(1, len(calls))


def problems_of(measured: Measured) -> list[str]:
    found = []
    for what, floor in zip(WHAT, FLOORS[measured.client], strict=True):
        if (reached := share([measured], what)) < floor:
            found.append(f"{what} is right in {reached:.1f} %, not in {floor} % of the calls")
    runs = [{call.record["run"] for call in calls} for calls in measured.calls]
    if shared := set.intersection(*runs) if runs else set():
        found.append(f"two keys share the runs {shared}")
    for call in measured.all_calls:
        sources = {call.record["agent_source"], call.record["run_source"]}
        if sources != {"inferred"}:
            found.append(f"{call.record['response_id']}: agent and run are {sources}, not inferred")
    wrong = [call for call in measured.all_calls if not all(call.is_right.values())]
    return found + ([describe(call) for call in wrong] if found else [])


def describe(call: Call) -> str:
    record, truth = call.record, call.truth
    edge = f"{truth.caller or ''}>{truth.agent}"
    return (
        f"job {truth.job}: {edge} is {record['caller'] or ''}>{record['agent']} of {record['run']}"
        f"{'' if call.run_is_right else ', a wrong one'} ({record['response_id']})"
    )


def evidence(measured: Measured, session: Session) -> list[Json]:
    """Every call: what is true of it, what was recorded, and what the upstream saw."""
    exchanges = get_json(f"{session.upstream}/_exchanges")
    return [
        {
            "right": call.is_right,
            "truth": vars(call.truth),
            "record": {name: call.record[name] for name in ("agent", "caller", "run")},
            **exchanges[call.record["response_id"]],
        }
        for call in measured.all_calls
    ]


# The report


def rows_of(measured: list[Measured]) -> list[list[str]]:
    rows = [row(one.client, [one], one.problems) for one in measured]
    return [*rows, row("all", measured, [it for one in measured for it in one.problems])]


def row(name: str, measured: list[Measured], problems: list[str]) -> list[str]:
    calls = sum(len(one.all_calls) for one in measured)
    shares = [f"{share(measured, what):.1f} %" for what in WHAT]
    return [name, str(calls), *shares, "no" if problems else "yes"]
