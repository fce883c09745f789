"""What every script here shares: where to call, as whom, and the researcher's tool."""

from __future__ import annotations

import json
import os

ROOT = os.environ["AIOPS_ROOT"]
RUN = os.environ["AIOPS_RUN"]
BASE_URL = os.environ["OPENAI_BASE_URL"]
MODEL = "gpt-4o-mini"
QUESTION = "When should we leave the harbour?"
PLANNER = "You are the planner. Ask the researcher before you answer."
RESEARCHER = "You are the researcher. Look things up before you answer."

PLANNER_HEADERS = {"x-aiops-agent": "planner", "x-aiops-run": RUN}
RESEARCHER_HEADERS = {
    "x-aiops-agent": "researcher",
    "x-aiops-caller": "planner",
    "x-aiops-run": RUN,
}


def lookup(topic: str) -> str:
    """Look a topic up in the almanac.

    Args:
        topic: What to look up.
    """
    return f"{topic}: high water at 03:10 and 15:35"


def report(*answers: object) -> None:
    """Prints the line the runner waits for; an empty answer is a failure."""
    texts = [str(answer).strip() for answer in answers]
    print(json.dumps({"ok": all(texts), "answer": texts[0], "answers": len(texts)}))
