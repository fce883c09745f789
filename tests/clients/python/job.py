"""What every script here shares: where to call, as whom, and the researcher's tool.

Without a run there are no tags at all: whose call it is must be inferred.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

ROOT = os.environ["AIOPS_ROOT"]
RUN = os.environ.get("AIOPS_RUN", "")
BASE_URL = os.environ["OPENAI_BASE_URL"]
MODEL = "gpt-4o-mini"
QUESTION = "When should we leave the harbour?"
# Of an answer: enough to know it by.
SHOWN = 200
PLANNER = "You are the planner. Ask the researcher before you answer."
RESEARCHER = "You are the researcher. Look things up before you answer."


def tags(agent: str, caller: str = "") -> dict[str, str]:
    headers = {"x-aiops-agent": agent, "x-aiops-caller": caller, "x-aiops-run": RUN}
    return {name: value for name, value in headers.items() if value} if RUN else {}


PLANNER_HEADERS = tags("planner")
RESEARCHER_HEADERS = tags("researcher", caller="planner")
# The same tags without headers.
PLANNER_URL = f"{ROOT}/run/{RUN}/agent/planner/v1" if RUN else BASE_URL


def lookup(topic: str) -> str:
    """Look a topic up in the almanac.

    Args:
        topic: What to look up.
    """
    return f"{topic}: high water at 03:10 and 15:35"


def met(deed: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
    """What the user of a client gets: the answer, or what is raised."""
    try:
        return {"answer": str(deed(*arguments))[:SHOWN]}
    except Exception as error:
        kind = f"{type(error).__module__.partition('.')[0]}.{type(error).__name__}"
        return {"raised": kind, "says": str(error), "code": getattr(error, "code", None)}


def report(*answers: object) -> None:
    """Prints the line the runner waits for; an empty answer is a failure."""
    texts = [str(answer).strip() for answer in answers]
    print(json.dumps({"ok": all(texts), "answer": texts[0], "answers": len(texts)}))
