"""Real agent programs that go round in circles must be stopped, and those that get ahead must not.

Each program has a key of its own and no tags. How many calls go upstream before one is refused is
pinned: that is what a loop costs. All of them are one run, and who speaks to whom is inferred.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from secrets import token_hex

from client import (
    Json,
    Session,
    billed_to,
    command_of,
    run_script,
    script_environment,
    settled_by_id,
)

STOPPED = "open-aiops: a loop was stopped: "
WAY_OUT = "To let it go on: open-aiops loops reset "


@dataclass(frozen=True)
class Stops:
    """After so many calls the client raises this; the message names the loop."""

    error: str
    calls: int
    says: str


@dataclass(frozen=True)
class Ends:
    """All of its calls are let through, so many of them."""

    calls: int


@dataclass
class Program:
    client: str
    case: str
    tail: str
    seen: Json = field(default_factory=dict)
    billed: list[Json] = field(default_factory=list)
    recorded: list[Json] = field(default_factory=list)

    @property
    def key(self) -> str:
        return f"sk-{self.case}-{self.tail}"

    @property
    def calls(self) -> int:
        return len(self.billed)

    @property
    def edges(self) -> str:
        """Who speaks, to whom."""
        edges = {(call["caller"], call["agent"]) for call in self.recorded}
        return " ".join(sorted(f"{caller}>{agent}" if caller else agent for caller, agent in edges))

    @property
    def pin(self) -> Stops | Ends:
        return PINS[self.client][self.case]


SAME = "the same action with the same result"
PATTERN = "a pattern of 2 calls"
ERROR = "the same error of a tool"
# Twelve pages, a job that is done when asked for the tenth time, twelve tests to mend.
AHEAD: dict[str, Stops | Ends] = {
    "paging": Ends(13),
    "polling": Ends(11),
    "fixing": Ends(26),
}


def stopping(error: str) -> dict[str, Stops | Ends]:
    return {
        "stuck": Stops(error, 6, SAME),
        "guessing": Stops(error, 8, ERROR),
        "pacing": Stops(error, 6, PATTERN),
        **AHEAD,
    }


# Case -> who speaks, to whom.
EDGES = {
    "stuck": "looper",
    "stuck-stream_responses": "looper",
    "guessing": "guesser",
    "pacing": "pacer",
    "paging": "reader",
    "polling": "watcher",
    "fixing": "fixer",
    "circles": "optimist optimist>pessimist pessimist>optimist",
    "drafts": "author author>critic critic>author",
    "handing": "coordinator coordinator>optimist",
    "commissioning": "editor editor>author",
}
LANGGRAPH_ERROR = "langchain_openai.OpenAIRateLimitError"
PINS = {
    "langgraph_app": {
        **stopping(LANGGRAPH_ERROR),
        "stuck-stream_responses": Stops(LANGGRAPH_ERROR, 6, SAME),
        "handing": Stops(LANGGRAPH_ERROR, 12, SAME),
        "commissioning": Ends(13),
    },
    "crewai_app": stopping("openai.RateLimitError"),
    "autogen_app": {
        **stopping("openai.RateLimitError"),
        "circles": Stops("builtins.RuntimeError", 12, SAME),
        "drafts": Ends(12),
    },
}


def run(client: str, session: Session) -> tuple[list[Program], list[str]]:
    """Runs all programs of one client, one after the other."""
    tail = f"{client}-{token_hex(4)}"
    command = command_of(client, "looping", client, *PINS[client])
    environment = script_environment(session, "", tail)
    printed, problems = run_script(command, environment, session.directory)
    lines = [json.loads(line) for line in printed.splitlines()]
    seen = {line["case"]: line for line in lines if "case" in line}
    programs = [Program(client, case, tail, seen.get(case, {})) for case in PINS[client]]
    for program in programs:
        complete(program, session)
    return programs, problems + [problem for it in programs for problem in problems_of(it)]


def complete(program: Program, session: Session) -> None:
    """Asks proxy and upstream what became of it."""
    assert session.admin
    program.billed = billed_to(session.upstream, program.key)
    ids = {entry["id"] for entry in program.billed}
    program.recorded = list(settled_by_id(session.admin, ids).values())


def problems_of(program: Program) -> list[str]:
    pin, seen = program.pin, program.seen
    found = []
    if program.calls != pin.calls:
        found.append(f"{program.calls} calls, not {pin.calls}")
    if program.edges != EDGES[program.case]:
        found.append(f"it is {program.edges} who speaks, not {EDGES[program.case]}")
    if len(runs := {call["run"] for call in program.recorded}) != 1:
        found.append(f"its calls are not one run but {len(runs)}")
    if isinstance(pin, Ends):
        found += [] if seen.get("answer") else [f"did not come to its end: {seen}"]
    elif seen.get("raised") != pin.error:
        found.append(f"not {pin.error}: {seen}")
    else:
        texts = (STOPPED, pin.says, WAY_OUT)
        found += [f"{text!r} is not in {seen}" for text in texts if text not in seen["says"]]
    return [f"{program.case}: {problem}" for problem in found]


def row_of(program: Program) -> list[str]:
    return [
        program.client,
        program.case,
        str(program.calls),
        program.seen.get("raised", "answers" if "answer" in program.seen else "-"),
        program.edges,
        "no" if problems_of(program) else "yes",
    ]
