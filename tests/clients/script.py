"""What the fake upstream answers: a function of the request alone.

A request that offers tools gets one call of the first of them, until its history
shows that one was used; then it gets the final text (or the framework's own
finishing tool, where it offers one). That is enough to drive a planner that asks
a researcher who looks something up, in every framework. Who asks for an answer
without end gets a long one, whatever its output limit.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

PERSONA = re.compile(r"\byou are (?:the |a )?(planner|researcher)\b", re.IGNORECASE)
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


def read_request(body: Json) -> Request:
    messages = list(history(body))
    return Request(
        persona=find_persona(body, messages),
        tools={} if body.get("tool_choice") == "none" else offered_tools(body),
        used=frozenset(name for message in messages for name in used_tools(message)),
        is_endless=any(ENDLESS.search(text_of(message)) for message in messages),
    )


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
    tool = next_tool(request)
    if tool is None:
        return Answer(text=TEXTS[request.persona])
    return Answer(
        tool=tool,
        arguments=json.dumps(arguments(request.tools[tool], TEXTS[request.persona])),
        call_id=f"call_{call_hash[:12]}_{tool}",
    )


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
