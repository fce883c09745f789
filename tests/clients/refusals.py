"""How every client meets a refusal: what it is put through, and what is pinned of it.

What a client sent is counted by the proxy: the calls it recorded and the requests it refused.
"""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from secrets import token_hex
from threading import Event

from client import (
    CLIENTS,
    Json,
    Session,
    billed_to,
    command_of,
    get_json,
    post_json,
    run_script,
    script_environment,
    settled_calls,
    wait_until,
)

REFUSALS = re.compile(r'^open_aiops_budget_refusals_total\{budget="([^"]+)"\} (\d+)$', re.MULTILINE)
RAISE = "open-aiops budgets raise {budget} --key run={run} --"
RESUME = "open-aiops run resume {run}"
# So many events into an answer its client has the first ones, and thousands are to come.
WELL_INTO = 100
# Nothing tells of a call that waits for its run; its record must say that it did.
PAUSE_SECONDS = 1


@dataclass(frozen=True)
class Case:
    """What a client meets. Each has a run and a budget of its own for it."""

    # What the client's script does.
    deed: str
    # Of the budget.
    limits: str
    # What the message has: what happened, and the way out.
    says: tuple[str, ...] = ()
    code: str = "circuit_break"
    # The calls that go upstream: all, those of them that are ours, and how each ends.
    calls: int = 1
    ours: int = 0
    outcome: str = "completed"
    # What the record of the last one says was decided.
    decision: str = ""
    # What an operator does before the client comes, and while it is there.
    before: Callable[[Meeting], None] = lambda _: None
    meanwhile: Callable[[Meeting, Event], None] | None = None

    @property
    def is_cut(self) -> bool:
        return self.outcome == "cut"

    @property
    def is_refused_at_once(self) -> bool:
        return self.calls == self.ours


@dataclass
class Meeting:
    """One client in one case."""

    name: str
    client: str
    tail: str
    session: Session
    # What its script printed of it.
    seen: Json = field(default_factory=dict)
    recorded: list[Json] = field(default_factory=list)
    # Of the last of them.
    decision: str = ""
    billed: int = 0
    refused: int = 0
    # Of its account: before the client came, and after it left.
    used: list[dict[str, int]] = field(default_factory=list)

    @property
    def case(self) -> Case:
        return CASES[self.name]

    @property
    def pin(self) -> Raises | Answers:
        return PINS[self.client][self.name]

    @property
    def run(self) -> str:
        return f"{self.name}-{self.tail}"

    @property
    def key(self) -> str:
        return f"sk-{self.run}"

    @property
    def budget(self) -> str:
        return f"{self.name}-{self.client}"

    @property
    def admin(self) -> str:
        assert self.session.admin
        return self.session.admin

    @property
    def requests(self) -> int:
        return self.refused + len(self.recorded) - self.case.ours

    @property
    def shows_code(self) -> bool:
        return self.case.code in f"{self.seen.get('says')} {self.seen.get('code')}"


# What operators do


def order(meeting: Meeting, what: str) -> None:
    post_json(f"{meeting.admin}/api/v1/runs/{meeting.run}/{what}", {"who": "clients"})


def call(meeting: Meeting) -> None:
    """A call of our own."""
    url = f"{meeting.session.root}/run/{meeting.run}/agent/planner/v1/chat/completions"
    body: Json = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "What time?"}]}
    post_json(url, body, {"authorization": f"Bearer {meeting.key}"})
    settled_calls(meeting.admin, meeting.run, 1)


def call_and_stop(meeting: Meeting) -> None:
    call(meeting)
    order(meeting, "stop")


def call_and_pause(meeting: Meeting) -> None:
    call(meeting)
    order(meeting, "pause")


def stop_amid_answer(meeting: Meeting, over: Event) -> None:
    def is_well_into() -> bool:
        bill = billed_to(meeting.session.upstream, meeting.key)
        return any(entry["events"] >= WELL_INTO for entry in bill)

    wait_until(f"{meeting.name}: the client streams", is_well_into, over)
    order(meeting, "stop")


def resume_later(meeting: Meeting, over: Event) -> None:
    begun = meeting.session.directory / meeting.run
    wait_until(f"{meeting.name}: the client comes", begun.exists, over)
    over.wait(PAUSE_SECONDS)
    order(meeting, "resume")


# More than an agent that nothing is known of is taken to put out, less than an answer without end.
SHORT = "output_tokens = 1200"
AMPLE = "calls = 100"
OVERRUN = ("open-aiops: the answer went on beyond its output limit", RAISE)
STOPPED = ("open-aiops: the run {run} was stopped", RESUME)
UNPRICED = ('open-aiops: the budget "{budget}" counts USD', "add it as a [[price]]")
CASES = {
    "spent": Case(
        "ask",
        "calls = 1",
        says=('open-aiops: the budget "{budget}" is spent', RAISE),
        before=call,
        ours=1,
    ),
    "stopped": Case("ask", AMPLE, says=STOPPED, before=call_and_stop, ours=1),
    "unpriced": Case(
        "ask-unpriced",
        'usd = 1\non_unpriced = "refuse"',
        says=UNPRICED,
        code="unpriced_model",
        calls=0,
    ),
    "cut-chat": Case("chat", SHORT, says=OVERRUN, outcome="cut"),
    "cut-responses": Case("responses", SHORT, says=OVERRUN, outcome="cut"),
    "stopped-chat": Case("chat", AMPLE, says=STOPPED, outcome="cut", meanwhile=stop_amid_answer),
    "stopped-responses": Case(
        "responses", AMPLE, says=STOPPED, outcome="cut", meanwhile=stop_amid_answer
    ),
    "resets": Case("ask-twice", 'calls = 1\nwindow = "3s"', calls=2),
    "paused": Case(
        "ask",
        AMPLE,
        calls=2,
        ours=1,
        decision="for its run to go on",
        before=call_and_pause,
        meanwhile=resume_later,
    ),
}


@dataclass(frozen=True)
class Raises:
    """After so many requests the client raises this, with our message, and the code if `code`."""

    error: str
    requests: int = 1
    code: bool = True


@dataclass(frozen=True)
class Answers:
    """The client waits as it is told to and gets its answers, with so many requests."""

    requests: int


def raising(
    whole: Raises,
    chat: Raises,
    responses: Raises | None = None,
    **more: Raises | Answers,
) -> dict[str, Raises | Answers]:
    """What a client raises does not depend on why its call was refused or its stream ended."""
    streams = {"chat": chat} | ({"responses": responses} if responses else {})
    cut = {f"{why}-{api}": pin for why in ("cut", "stopped") for api, pin in streams.items()}
    return {"spent": whole, "stopped": whole, **cut, **more}


API_ERROR = Raises("openai.APIError")
QUOTA_EXCEEDED = Raises("pydantic_ai.ModelQuotaExceededError")
NO_FALLBACK = Raises("litellm.MidStreamFallbackError", code=False)
STREAM_PROVIDER_ERROR = Raises("AI_StreamProviderError")
PINS = {
    "openai_sdk": raising(
        Raises("openai.RateLimitError"),
        API_ERROR,
        API_ERROR,
        unpriced=Raises("openai.RateLimitError"),
        resets=Answers(requests=3),
        paused=Answers(requests=1),
    ),
    "langgraph_app": raising(Raises("langchain_openai.OpenAIRateLimitError"), API_ERROR, API_ERROR),
    "agents_sdk": raising(Raises("openai.RateLimitError"), API_ERROR, API_ERROR),
    "pydantic_ai_app": raising(QUOTA_EXCEEDED, QUOTA_EXCEEDED, QUOTA_EXCEEDED),
    "smolagents_app": raising(
        Raises("smolagents.AgentGenerationError", requests=3, code=False),
        Raises("smolagents.AgentGenerationError", code=False),
    ),
    "autogen_app": raising(Raises("openai.RateLimitError"), API_ERROR),
    "crewai_app": raising(Raises("openai.RateLimitError", requests=3), API_ERROR),
    "litellm_app": raising(Raises("litellm.RateLimitError", code=False), NO_FALLBACK, NO_FALLBACK),
    "llama_index_app": raising(Raises("openai.RateLimitError", requests=3), API_ERROR),
    "openai_node": raising(
        Raises("RateLimitError"),
        Raises("APIError"),
        Raises("APIError"),
        unpriced=Raises("RateLimitError"),
        resets=Answers(requests=3),
        paused=Answers(requests=1),
    ),
    "ai_sdk": raising(
        Raises("AI_RetryError", requests=3), STREAM_PROVIDER_ERROR, STREAM_PROVIDER_ERROR
    ),
    "agents_node": raising(Raises("RateLimitError"), Raises("APIError"), Raises("APIError")),
}


def config() -> str:
    """A budget for each case of each client: refusals are counted by the name of the budget."""
    return "".join(
        f"""\
[[budget]]
name = "{case}-{client}"
match = {{ run = "{case}-{client}-*" }}
per = ["run"]
{CASES[case].limits}
"""
        for client in CLIENTS
        for case in PINS[client]
    )


# The meetings


def meet(client: str, session: Session) -> tuple[list[Meeting], list[str]]:
    """Puts one client through all its cases; returns what went wrong besides."""
    tail = f"{client}-{token_hex(4)}"
    cases = [name for name in PINS[client] if is_possible(CASES[name], session)]
    meetings = [Meeting(name, client, tail, session) for name in cases]
    for meeting in meetings:
        meeting.case.before(meeting)
        meeting.used.append(used_of(meeting))
    deeds = [f"{meeting.name}={meeting.case.deed}" for meeting in meetings]
    command = command_of(client, "refused", client, *deeds)
    # Each case has a key of its own: the last part of it is all that the script knows.
    environment = script_environment(session, tail, tail)
    with operated(meetings) as problems:
        printed, of_script = run_script(command, environment, session.directory)
    lines = [json.loads(line) for line in printed.splitlines()]
    seen = {line["case"]: line for line in lines if "case" in line}
    for meeting in meetings:
        complete(meeting, seen.get(meeting.name, {}))
    return meetings, of_script + problems


@contextmanager
def operated(meetings: list[Meeting]) -> Iterator[list[str]]:
    """Does what operators do meanwhile; what went wrong with that is told when it is over."""
    over, problems = Event(), list[str]()
    with ThreadPoolExecutor(len(meetings)) as pool:
        deeds = [
            pool.submit(meeting.case.meanwhile, meeting, over)
            for meeting in meetings
            if meeting.case.meanwhile
        ]
        try:
            yield problems
        finally:
            over.set()
    problems += [str(error) for deed in deeds if (error := deed.exception())]


def complete(meeting: Meeting, seen: Json) -> None:
    """Asks proxy and upstream what became of it."""
    meeting.seen = seen
    meeting.recorded = settled_calls(meeting.admin, meeting.run, meeting.case.calls)
    if meeting.recorded:
        last = get_json(f"{meeting.admin}/api/v1/calls/{meeting.recorded[0]['id']}")
        meeting.decision = last["decision"] or ""
    meeting.billed = len(billed_to(meeting.session.upstream, meeting.key))
    meeting.refused = budget_refusals(meeting) + run_refusals(meeting)
    meeting.used.append(used_of(meeting))


def is_possible(case: Case, session: Session) -> bool:
    """Nothing can be put into a compressed stream: its connection is broken instead."""
    return not (session.gzip and case.is_cut)


def used_of(meeting: Meeting) -> dict[str, int]:
    """What its account has used, and what running calls hold of it; empty where that is nothing."""
    url = f"{meeting.admin}/api/v1/budgets?rule={meeting.budget}&value={meeting.run}"
    (budget,) = get_json(url)["budgets"]
    return {
        f"{measure['measure']} {name}": amount
        for account in budget["accounts"]
        for measure in account["measures"]
        for name, amount in measure.items()
        if name.startswith(("used", "held")) and amount
    }


def budget_refusals(meeting: Meeting) -> int:
    with urllib.request.urlopen(f"{meeting.admin}/metrics", timeout=10) as response:
        text = response.read().decode()
    return int(dict(REFUSALS.findall(text)).get(meeting.budget, 0))


def run_refusals(meeting: Meeting) -> int:
    """No figure tells them run by run: the log has one line for each."""
    log = (meeting.session.directory / "proxy.err").read_text()
    return log.count(f"open_aiops::proxy: the run {meeting.run} ")


# Checks


def problems_of(meeting: Meeting) -> list[str]:
    found = [*problems_of_calls(meeting), *problems_of_user(meeting)]
    return [f"{meeting.name}: {problem}" for problem in found]


def problems_of_calls(meeting: Meeting) -> Iterator[str]:
    """What went upstream, and what was charged."""
    case, recorded = meeting.case, meeting.recorded
    if meeting.requests != meeting.pin.requests:
        yield f"{meeting.requests} requests, not {meeting.pin.requests}"
    outcomes = [record["outcome"] for record in recorded]
    if outcomes != [case.outcome] * case.calls:
        yield f"the calls of it are {outcomes}, not {case.calls} x {case.outcome}"
    if meeting.billed != len(recorded):
        yield f"{meeting.billed} calls were billed, {len(recorded)} recorded"
    if case.decision not in meeting.decision:
        yield f"it was decided {meeting.decision!r}, not {case.decision!r}"
    before, after = meeting.used
    if case.is_refused_at_once and before != after:
        yield f"refused requests changed the account: {after} after {before}"


def problems_of_user(meeting: Meeting) -> Iterator[str]:
    """What the client makes of it."""
    case, pin, seen = meeting.case, meeting.pin, meeting.seen
    if isinstance(pin, Answers):
        if not seen.get("answer"):
            yield f"no answer: {seen}"
        return
    if seen.get("raised") != pin.error:
        yield f"not {pin.error}: {seen}"
        return
    texts = [text.format(budget=meeting.budget, run=meeting.run) for text in case.says]
    yield from (f"{text!r} is not in {seen}" for text in texts if text not in seen["says"])
    if meeting.shows_code != pin.code:
        yield f"{case.code} {'shows' if meeting.shows_code else 'does not show'}: {seen}"


def row_of(meeting: Meeting) -> list[str]:
    return [
        meeting.client,
        meeting.name,
        str(meeting.requests),
        meeting.seen.get("raised", "answers" if "answer" in meeting.seen else "-"),
        meeting.case.code if meeting.shows_code else "-",
        "no" if problems_of(meeting) else "yes",
    ]
