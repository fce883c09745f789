"""Whether budgets find keys again that left memory long ago."""

import json
import time

import targets

EARLY = 100
SETTLE_SECONDS = 10
# A question waits until the index has come as far as the log was when it was asked.
INDEX_SECONDS = 120


def find_again(target, seed):
    """A second call of each of the earliest runs, and whether its account then has both calls.

    Returns how many have, what is wrong with the first that has not, and how long the calls took.
    """
    runs = [f"run-{seed}-{number}" for number in range(EARLY)]
    took = [call(target, run, f"agent-{number}") for number, run in enumerate(runs)]
    get(target, "/api/v1/calls?limit=1")
    deadline = time.monotonic() + SETTLE_SECONDS
    wrong = [text for run in runs if (text := await_right(target, run, deadline))]
    return {
        "found_again": EARLY - len(wrong),
        "wrong": wrong[0] if wrong else None,
        "slowest_found_again_ms": max(took) * 1000,
    }


def call(target, run, agent):
    """Seconds it took."""
    messages = [{"role": "user", "content": f"once more, {run}"}]
    body = json.dumps({"model": "gpt-4o-mini", "max_tokens": 4, "messages": messages})
    tags = {"x-aiops-run": run, "x-aiops-agent": agent}
    started = time.monotonic()
    targets.request(target.address, "POST", "/v1/chat/completions", body, tags, INDEX_SECONDS)
    return time.monotonic() - started


def await_right(target, run, deadline):
    """What is wrong with the account of a run once its calls are settled."""
    while wrong := wrong_with(target, run):
        if time.monotonic() > deadline:
            return wrong
        time.sleep(0.05)
    return None


def wrong_with(target, run):
    """The account beside the records, which are a witness of their own."""
    recorded = get(target, f"/api/v1/calls?run={run}")["calls"]
    usages = [call["usage"] for call in recorded]
    tokens = sum(usage["input_tokens"] + usage["output_tokens"] for usage in usages)
    budgets = get(target, f"/api/v1/budgets?rule={targets.EACH_RUN}&value={run}")["budgets"]
    measures = [m for budget in budgets for it in budget["accounts"] for m in it["measures"]]
    used = {measure["measure"]: measure["used"] for measure in measures}
    if len(recorded) == 2 and (used.get("calls"), used.get("tokens")) == (2, tokens):
        return None
    return f"{run}: {len(recorded)} calls with {tokens} tokens are recorded, its account has {used}"


def get(target, path):
    return json.loads(targets.request(target.admin, "GET", path, timeout=INDEX_SECONDS)[1])
