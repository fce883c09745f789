"""How every client meets a refusal: what it is put through, and what is pinned of it.

What a client sent is counted by the proxy: the calls it recorded and the requests it refused.
"""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from secrets import token_hex

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

CODE = "circuit_break"
REFUSALS = re.compile(r'^open_aiops_budget_refusals_total\{budget="([^"]+)"\} (\d+)$', re.MULTILINE)


@dataclass(frozen=True)
class Case:
    """A budget, of which every client has an account of its own, and what happens under it."""

    limits: str
    # What the message opens with.
    says: str
    # Of each call that goes upstream.
    outcome: str
    calls: int = 1


# More than an agent that nothing is known of is taken to put out, less than an answer without end.
CUT = Case(
    limits="output_tokens = 1200",
    says="open-aiops: the answer went on beyond its output limit",
    outcome="cut",
)
CASES = {
    # The one call is ours, before the client comes.
    "spent": Case("calls = 1", "open-aiops: the budget ", "completed"),
    "cut-chat": CUT,
    "cut-responses": CUT,
    "resets": Case('calls = 1\nwindow = "3s"', "", "completed", calls=2),
}
OURS = {"spent": 1}


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


API_ERROR = Raises("openai.APIError")
PINS: dict[str, dict[str, Raises | Answers]] = {
    "openai_sdk": {
        "spent": Raises("openai.RateLimitError"),
        "cut-chat": API_ERROR,
        "cut-responses": API_ERROR,
        "resets": Answers(requests=3),
    },
    "langgraph_app": {
        "spent": Raises("langchain_openai.OpenAIRateLimitError"),
        "cut-chat": API_ERROR,
        "cut-responses": API_ERROR,
    },
    "agents_sdk": {
        "spent": Raises("openai.RateLimitError"),
        "cut-chat": API_ERROR,
        "cut-responses": API_ERROR,
    },
    "pydantic_ai_app": {
        "spent": Raises("pydantic_ai.ModelQuotaExceededError"),
        "cut-chat": Raises("pydantic_ai.ModelQuotaExceededError"),
        "cut-responses": Raises("pydantic_ai.ModelQuotaExceededError"),
    },
    "smolagents_app": {
        "spent": Raises("smolagents.AgentGenerationError", requests=3, code=False),
        "cut-chat": Raises("smolagents.AgentGenerationError", code=False),
    },
    "autogen_app": {
        "spent": Raises("openai.RateLimitError"),
        "cut-chat": API_ERROR,
    },
    "crewai_app": {
        "spent": Raises("openai.RateLimitError", requests=3),
        "cut-chat": API_ERROR,
    },
    "litellm_app": {
        "spent": Raises("litellm.RateLimitError", code=False),
        "cut-chat": Raises("litellm.MidStreamFallbackError", code=False),
        "cut-responses": Raises("litellm.MidStreamFallbackError", code=False),
    },
    "llama_index_app": {
        "spent": Raises("openai.RateLimitError", requests=3),
        "cut-chat": API_ERROR,
    },
    "openai_node": {
        "spent": Raises("RateLimitError"),
        "cut-chat": Raises("APIError"),
        "cut-responses": Raises("APIError"),
        "resets": Answers(requests=3),
    },
    "ai_sdk": {
        "spent": Raises("AI_RetryError", requests=3),
        "cut-chat": Raises("AI_StreamProviderError"),
        "cut-responses": Raises("AI_StreamProviderError"),
    },
    "agents_node": {
        "spent": Raises("RateLimitError"),
        "cut-chat": Raises("APIError"),
        "cut-responses": Raises("APIError"),
    },
}


@dataclass(frozen=True)
class Meeting:
    """One client under one budget."""

    name: str
    run: str
    pin: Raises | Answers
    # What the script printed of it.
    seen: Json
    recorded: list[Json]
    refused: int

    @property
    def requests(self) -> int:
        return self.refused + len(self.recorded) - OURS.get(self.name, 0)

    @property
    def shows_code(self) -> bool:
        return CODE in f"{self.seen.get('says')} {self.seen.get('code')}"


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


def meet(client: str, session: Session) -> tuple[list[Meeting], list[str]]:
    """Puts one client through all its cases; returns what went wrong besides."""
    assert session.admin
    tail = f"{client}-{token_hex(4)}"
    key = f"sk-refused-{tail}"
    cases = [case for case in PINS[client] if is_possible(case, session)]
    call(session, f"spent-{tail}", key)
    standing = call(session, f"spent-{tail}", key)
    before = refusals(session.admin)
    command = command_of(client, "refused", client, *cases)
    environment = script_environment(session, tail, key)
    printed, problems = run_script(command, environment, session.directory)
    after = refusals(session.admin)
    lines = [json.loads(line) for line in printed.splitlines()]
    seen = {line["case"]: line for line in lines if "case" in line}
    meetings = []
    for case in cases:
        run, budget = f"{case}-{tail}", f"{case}-{client}"
        recorded = settled_calls(session.admin, run, CASES[case].calls)
        refused = after.get(budget, 0) - before.get(budget, 0)
        pin = PINS[client][case]
        meetings.append(Meeting(case, run, pin, seen.get(case, {}), recorded, refused))
    # Asked last: whatever the refused requests did to the account is done.
    if (now := call(session, f"spent-{tail}", key)) != standing:
        problems.append(f"refused requests changed the account: {now!r} after {standing!r}")
    billed = len(billed_to(session.upstream, key))
    recorded_in_all = sum(len(meeting.recorded) for meeting in meetings)
    if billed != recorded_in_all:
        problems.append(f"under budgets {billed} calls were billed, {recorded_in_all} recorded")
    return meetings, problems


def is_possible(case: str, session: Session) -> bool:
    """Nothing can be put into a compressed stream: its connection is broken instead."""
    return not (session.gzip and CASES[case] is CUT)


def call(session: Session, run: str, key: str) -> str:
    """A call of our own; when it is refused, the message says how the account stands."""
    url = f"{session.root}/run/{run}/agent/planner/v1/chat/completions"
    body: Json = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "What time?"}]}
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return str(response.status)
    except urllib.error.HTTPError as error:
        return f"{error.code} {json.load(error)['error']['message']}"


def refusals(admin: str) -> dict[str, int]:
    with urllib.request.urlopen(f"{admin}/metrics", timeout=10) as response:
        text = response.read().decode()
    return {budget: int(count) for budget, count in REFUSALS.findall(text)}


def problems_of(client: str, meeting: Meeting) -> list[str]:
    case, pin, seen = CASES[meeting.name], meeting.pin, meeting.seen
    found = []
    if meeting.requests != pin.requests:
        found.append(f"{meeting.requests} requests, not {pin.requests}")
    outcomes = [record["outcome"] for record in meeting.recorded]
    if outcomes != [case.outcome] * case.calls:
        found.append(f"the calls of it are {outcomes}, not {case.calls} x {case.outcome}")
    if isinstance(pin, Answers):
        found += [] if seen.get("answer") else [f"no answer: {seen}"]
    elif seen.get("raised") != pin.error:
        found.append(f"not {pin.error}: {seen}")
    else:
        remedy = f"open-aiops budgets raise {meeting.name}-{client} --key run={meeting.run} --"
        texts = (case.says, remedy)
        found += [f"{text!r} is not in {seen}" for text in texts if text not in seen["says"]]
        if meeting.shows_code != pin.code:
            found.append(f"{CODE} {'shows' if meeting.shows_code else 'does not show'}: {seen}")
    return [f"{meeting.name}: {problem}" for problem in found]


def row_of(client: str, meeting: Meeting) -> list[str]:
    return [
        client,
        meeting.name,
        str(meeting.requests),
        meeting.seen.get("raised", "answers" if "answer" in meeting.seen else "-"),
        CODE if meeting.shows_code else "-",
        "no" if problems_of(client, meeting) else "yes",
    ]
