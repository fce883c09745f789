"""Who sets off whom in every script, and which calls are one job: what inference is measured by.

The caller of an agent is who wrote what its conversation begins with: a task, a message to it, a
hand-off. What a tool brings back is an answer, also where the tool is an agent: nobody's caller
changes with it. A job is everything that one question of the user led to. The tables are what the
scripts do, not what the proxy makes of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from client import Json

# The planner hands over: its tool call is in what the researcher begins with.
HANDED_OVER = "planner, planner>researcher x2"
# The researcher is a tool of the planner, which then answers itself.
AS_TOOL = "planner, planner>researcher x2, planner"
# Calls in the order of time, as `<job>: [<caller>>]<agent>[/<API>] [x<calls>], ...`.
SCRIPTS = {
    # Notes of the first job are used again at the end, while another job runs.
    "openai_sdk": (
        "a: planner, planner>researcher x2, researcher>planner",
        "b: researcher",
        "c: planner",
        "d: researcher",
        "a: researcher>planner x2",
        "e: researcher x2",
    ),
    # The supervisor has the last word: the researcher hands back.
    "langgraph_app": (f"a: {AS_TOOL}", f"b: {AS_TOOL}", f"c: {AS_TOOL}"),
    "agents_sdk": (
        f"a: {HANDED_OVER}",
        f"b: {AS_TOOL}",
        f"c: {HANDED_OVER}",
        f"d: {AS_TOOL}",
    ),
    "pydantic_ai_app": (f"a: {AS_TOOL}", "b: researcher x2", f"c: {AS_TOOL}"),
    "smolagents_app": (f"a: {AS_TOOL}", f"b: {AS_TOOL}"),
    # The second is a team in which the researcher answers what the planner says.
    "autogen_app": (f"a: {AS_TOOL}", f"b: {HANDED_OVER}"),
    # The planner's task comes with the researcher's output; then it delegates.
    "crewai_app": (
        "a: researcher x2, researcher>planner, planner>researcher x2, researcher>planner",
        "b: researcher x2, researcher>planner, planner>researcher x2, researcher>planner",
    ),
    "litellm_app": ("a: researcher x2, researcher>planner x3",),
    "llama_index_app": (f"a: {HANDED_OVER}", f"b: {HANDED_OVER}"),
    "openai_node": (
        "a: researcher x2, researcher>planner x3",
        "b: researcher",
        "c: researcher x2",
    ),
    # Two streams at once, told apart by their APIs.
    "ai_sdk": (
        f"a: {AS_TOOL}",
        "b: planner/responses, planner>researcher/chat x2, planner/responses",
        "c: planner/chat, planner>researcher/responses x2, planner/chat",
    ),
    "agents_node": (
        f"a: {HANDED_OVER}",
        f"b: {HANDED_OVER}",
        f"c: {AS_TOOL}",
        f"d: {AS_TOOL}",
    ),
}


@dataclass(frozen=True)
class Truth:
    """Of one call."""

    job: str
    agent: str
    caller: str | None
    # Of the only API that it can be by; empty where that does not matter.
    api: str = ""

    def is_of(self, entry: Json) -> bool:
        return self.agent == entry["persona"] and self.api in entry["path"]


def calls_of(client: str) -> Iterator[Truth]:
    for line in SCRIPTS[client]:
        job, _, steps = line.partition(": ")
        for step in steps.split(", "):
            edge, _, times = step.partition(" x")
            caller, _, callee = edge.rpartition(">")
            agent, _, api = callee.partition("/")
            yield from [Truth(job, agent, caller or None, api)] * int(times or 1)


def truths_of(client: str, billed: list[Json]) -> dict[str, Truth]:
    """By response id. Who speaks is known from the prompt, and that agent's calls have an order."""
    left = list(calls_of(client))
    metered = [entry for entry in billed if entry["id"]]
    found = {}
    for entry in metered:
        truth = next((truth for truth in left if truth.is_of(entry)), None)
        if truth is None:
            raise ValueError(f"a call of {entry['persona']} that is not in the table of truth")
        left.remove(truth)
        found[entry["id"]] = truth
    if left:
        raise ValueError(f"calls that were never made: {left}")
    return found
