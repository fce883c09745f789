"""What the fake upstream answers: a function of the request alone.

A request that offers tools gets one call of the first of them, until its history
shows that one was used; then it gets the final text (or the framework's own
finishing tool, where it offers one). That is enough to drive a planner that asks
a researcher who looks something up, in every framework. Who asks for an answer
without end gets a long one, whatever its output limit. And some agents work step by
step: how often they did so is read from their history too.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

ENDLESS = re.compile(r"\bwithout end\b")
FINISHING_TOOLS = {"final_answer", "final_result"}
CALL_ID = re.compile(r"call_[0-9a-f]+_(\w+)")
ARGUMENTS = {"coworker": "researcher", "to_agent": "researcher", "topic": "tides"}
TEXTS = {
    "planner": "Here is the plan: read the tide table, then leave at high water.",
    "researcher": "The tides follow the moon: two high waters in 24 hours and 50 minutes.",
    None: "All done: the tide turns at noon.",
}
# About 40,000 tokens: piece by piece it takes longer than anybody waits for it to be ended.
LONG_TEXT = " ".join(f"On day {day} the tide turns at {day * 49 % 24}." for day in range(3000))


# What a text-only agent says, over and over.
CHANTS = {
    "optimist": "It will surely clear up. What do you think of it now?",
    "pessimist": "It will surely get worse. What do you think of it now?",
}
# What others say one after the other.
DRAFTS = {
    "author": (
        "Draft: boats leave at noon, whatever the weather brings along.",
        "Better: wind above seven Beaufort keeps small boats behind the mole.",
        "Added a table of berths, with the depth that each has at low water.",
        "The pilot's phone number is now on top, printed in large letters.",
        "Fuel is sold until six; the paragraph about it moved to the end.",
        "Names of all three harbour masters follow, with their hours of duty.",
    ),
    "critic": (
        "Say first which wind is too strong for whom.",
        "Skippers will ask how deep their berth is, so list that.",
        "Who is called when fog comes in? That number is missing.",
        "Nobody finds the fuel prices between two chapters on fog.",
        "Whom does one pay? The office has three people.",
        "Nothing is left to change: APPROVED.",
    ),
}
PAGES = 12
FILES = ("app", "config", "routes", "models", "schema", "tests", "utils", "views", "forms")


@dataclass(frozen=True)
class Answer:
    """Either a final text or one tool call."""

    text: str = ""
    tool: str | None = None
    arguments: str = ""
    call_id: str = ""


@dataclass(frozen=True)
class Usage:
    input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int
    reasoning_output_tokens: int


@dataclass(frozen=True)
class Request:
    """The part of a chat or Responses request the script looks at."""

    persona: str | None
    tools: dict[str, Json]
    used: frozenset[str]
    is_endless: bool
    # What tools brought, and all that was said.
    results: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()


def read_request(body: Json) -> Request:
    messages = list(history(body))
    return Request(
        persona=find_persona(body, messages),
        tools={} if body.get("tool_choice") == "none" else offered_tools(body),
        used=frozenset(name for message in messages for name in used_tools(message)),
        is_endless=any(ENDLESS.search(text_of(message)) for message in messages),
        results=tuple(text for message in messages for text in results_in(message)),
        texts=tuple(text_of(message) for message in messages),
    )


def results_in(message: Json) -> Iterator[str]:
    if message.get("role") == "tool":
        yield text_of(message)
    if message.get("type") == "function_call_output":
        yield str(message["output"])


def history(body: Json) -> Iterator[Json]:
    """Chat messages, or Responses input items, which look alike where it matters."""
    items: Any = body.get("messages", body.get("input", []))
    if isinstance(items, str):
        items = [{"role": "user", "content": items}]
    yield from (item for item in items if isinstance(item, dict))


def text_of(message: Json) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)


def find_persona(body: Json, messages: list[Json]) -> str | None:
    texts = [body.get("instructions") or ""]
    texts += [text_of(m) for m in messages if m.get("role") in ("system", "developer")]
    found = PERSONA.search("\n".join(texts))
    return found.group(1).lower() if found else None


def offered_tools(body: Json) -> dict[str, Json]:
    """Name -> JSON schema of the parameters; Responses tools are flat, chat's are nested."""
    functions = [tool.get("function", tool) for tool in body.get("tools") or []]
    return {f["name"]: f.get("parameters") or {} for f in functions if "name" in f}


def used_tools(message: Json) -> Iterator[str]:
    for call in message.get("tool_calls") or []:
        yield call["function"]["name"]
    if message.get("type") == "function_call":
        yield message["name"]
    # A result may refer to a stored call that is not repeated: our ids carry the name.
    result_of = message.get("tool_call_id") or message.get("call_id") or ""
    yield from CALL_ID.findall(result_of)
    # smolagents folds earlier calls into the text of the assistant.
    if message.get("role") == "assistant":
        yield from re.findall(r"'name': '(\w+)'", text_of(message))


def answer(request: Request, call_hash: str) -> Answer:
    if request.is_endless:
        return Answer(text=LONG_TEXT)
    if step := STEPS.get(request.persona or ""):
        return step(request, call_hash)
    tool = next_tool(request)
    if tool is None:
        return Answer(text=TEXTS[request.persona])
    values = arguments(request.tools[tool], TEXTS[request.persona])
    return call_of(tool, values, call_hash)


def call_of(tool: str, values: Json, call_hash: str) -> Answer:
    call_id = f"call_{call_hash[:12]}_{tool}"
    return Answer(tool=tool, arguments=json.dumps(values), call_id=call_id)


# Agents that work step by step. These go on for ever.


def same_call(request: Request, call_hash: str) -> Answer:
    return call_of("deploy", {"service": "tide-tables"}, call_hash)


def another_guess(request: Request, call_hash: str) -> Answer:
    done = len(request.results)
    path = f"src/{FILES[done % len(FILES)]}/{FILES[done // len(FILES) % len(FILES)]}.py"
    return call_of("read_file", {"path": path}, call_hash)


def to_and_fro(request: Request, call_hash: str) -> Answer:
    tool = ("list_files", "read_notes")[len(request.results) % 2]
    return call_of(tool, {}, call_hash)


def hand_over(request: Request, call_hash: str) -> Answer:
    return call_of(next(iter(request.tools)), {}, call_hash)


def same_text(request: Request, call_hash: str) -> Answer:
    return Answer(text=CHANTS[request.persona or ""])


# And these come to an end.


def next_page(request: Request, call_hash: str) -> Answer:
    if len(request.results) == PAGES:
        return Answer(text="All pages are read: the highest tide comes in March.")
    return call_of("fetch_page", {"page": len(request.results) + 1}, call_hash)


def until_done(request: Request, call_hash: str) -> Answer:
    if request.results and "done" in request.results[-1]:
        return Answer(text="The export is ready to be fetched.")
    return call_of("job_status", {"job": "export-tides"}, call_hash)


def test_and_fix(request: Request, call_hash: str) -> Answer:
    done = len(request.results)
    if done and "all passed" in request.results[-1]:
        return Answer(text="All tests pass now.")
    if done % 2 == 0:
        return call_of("run_tests", {}, call_hash)
    return call_of("edit", {"file": f"src/{FILES[done // 2 % len(FILES)]}.py"}, call_hash)


def next_draft(request: Request, call_hash: str) -> Answer:
    drafts = DRAFTS[request.persona or ""]
    left = [draft for draft in drafts if not is_said(draft, request)]
    return Answer(text=left[0] if left else drafts[-1])


def commission(request: Request, call_hash: str) -> Answer:
    if all(is_said(draft, request) for draft in DRAFTS["author"]):
        return Answer(text="It goes to print now.")
    return hand_over(request, call_hash)


def is_said(text: str, request: Request) -> bool:
    return any(text in said for said in request.texts)


STEPS: dict[str, Callable[[Request, str], Answer]] = {
    "looper": same_call,
    "guesser": another_guess,
    "pacer": to_and_fro,
    "coordinator": hand_over,
    "optimist": same_text,
    "pessimist": same_text,
    "reader": next_page,
    "watcher": until_done,
    "fixer": test_and_fix,
    "author": next_draft,
    "critic": next_draft,
    "editor": commission,
}
PERSONAS = "|".join(["planner", "researcher", *STEPS])
PERSONA = re.compile(rf"\byou are (?:the |a )?({PERSONAS})\b", re.IGNORECASE)


def next_tool(request: Request) -> str | None:
    working = [name for name in request.tools if name not in FINISHING_TOOLS]
    if working and not request.used.intersection(working):
        return working[0]
    return next((name for name in request.tools if name in FINISHING_TOOLS), None)


def arguments(schema: Json, text: str) -> Json:
    properties: Json = schema.get("properties") or {}
    required = schema.get("required", list(properties))
    return {name: value_for(name, properties[name], text) for name in required}


def value_for(name: str, schema: Json, text: str) -> Any:
    if "enum" in schema:
        return schema["enum"][0]
    plain: Json = {"integer": 3, "number": 3, "boolean": False, "array": [], "object": {}}
    kind = schema.get("type")
    return plain[kind] if kind in plain else ARGUMENTS.get(name, text)


def usage_for(body_length: int, answered: Answer, call_hash: str) -> Usage:
    """Plausible numbers, different for each call, with every detail a part of its total."""
    noise = int(call_hash[:8], 16)
    input_tokens = body_length // 4 + noise % 97 + 8
    reasoning = noise % 5 * 16
    spoken = len(answered.text + answered.arguments) // 4
    return Usage(
        input_tokens=input_tokens,
        cache_read_input_tokens=input_tokens * (noise % 4) // 4,
        output_tokens=spoken + reasoning + 3,
        reasoning_output_tokens=reasoning,
    )


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
