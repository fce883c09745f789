"""LiteLLM: a planner and a researcher by plain calls: chat and Responses, sync and async."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import litellm
from job import (
    MODEL,
    PLANNER,
    PLANNER_HEADERS,
    QUESTION,
    RESEARCHER,
    RESEARCHER_HEADERS,
    lookup,
    report,
)

LOOKUP = {
    "type": "function",
    "function": {
        "name": "lookup",
        "description": "Look a topic up.",
        "parameters": {
            "type": "object",
            "properties": {"topic": {"type": "string"}},
            "required": ["topic"],
        },
    },
}


def prompt(instructions: str, question: str) -> list[Any]:
    return [
        {"role": "system", "content": instructions},
        {"role": "user", "content": question},
    ]


def research(question: str) -> str:
    messages = prompt(RESEARCHER, question)
    while True:
        message = (
            litellm.completion(
                model=f"openai/{MODEL}",
                messages=messages,
                tools=[LOOKUP],
                extra_headers=RESEARCHER_HEADERS,
            )
            .choices[0]
            .message
        )
        if not message.tool_calls:
            return message.content
        messages.append(message)
        for call in message.tool_calls:
            result = lookup(**json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})


async def plan(notes: str, **options: Any) -> str:
    stream = await litellm.acompletion(
        model=f"openai/{MODEL}",
        messages=prompt(PLANNER, f"{QUESTION}\n{notes}"),
        extra_headers=PLANNER_HEADERS,
        stream=True,
        **options,
    )
    chunks = [chunk async for chunk in stream]
    return litellm.stream_chunk_builder(chunks).choices[0].message.content


def respond(notes: str) -> str:
    events = litellm.responses(
        model=f"openai/{MODEL}",
        instructions=PLANNER,
        input=notes,
        extra_headers=PLANNER_HEADERS,
        stream=True,
    )
    return "".join(e.delta for e in events if e.type == "response.output_text.delta")


async def main() -> None:
    notes = research(QUESTION)
    with_usage = await plan(notes, stream_options={"include_usage": True})
    report(await plan(notes), with_usage, respond(notes))


asyncio.run(main())
