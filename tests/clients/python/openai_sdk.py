"""openai-python: chat and Responses, sync and async, whole and streamed, embeddings, models."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from job import (
    MODEL,
    PLANNER,
    PLANNER_HEADERS,
    PLANNER_URL,
    QUESTION,
    RESEARCHER,
    RESEARCHER_HEADERS,
    lookup,
    report,
)
from openai import AsyncOpenAI, OpenAI

planner = OpenAI(default_headers=PLANNER_HEADERS)
researcher = OpenAI(default_headers=RESEARCHER_HEADERS)
async_planner = AsyncOpenAI(default_headers=PLANNER_HEADERS)
async_researcher = AsyncOpenAI(default_headers=RESEARCHER_HEADERS)
# Without headers: the tags are in the base URL.
tagged_by_url = OpenAI(base_url=PLANNER_URL)

TOPIC = {
    "type": "object",
    "properties": {"topic": {"type": "string"}},
    "required": ["topic"],
    "additionalProperties": False,
}
LOOKUP = {"name": "lookup", "description": "Look a topic up.", "parameters": TOPIC}
CHAT_TOOLS: Any = [{"type": "function", "function": LOOKUP}]
RESPONSES_TOOLS: Any = [{"type": "function", "strict": True, **LOOKUP}]


def plan() -> str:
    completion = planner.chat.completions.create(
        model=MODEL,
        messages=[
            {"role": "system", "content": PLANNER},
            {"role": "user", "content": QUESTION},
        ],
    )
    return completion.choices[0].message.content or ""


def research(question: str) -> str:
    messages: list[Any] = [
        {"role": "system", "content": RESEARCHER},
        {"role": "user", "content": question},
    ]
    while True:
        message = (
            researcher.chat.completions.create(model=MODEL, messages=messages, tools=CHAT_TOOLS)
            .choices[0]
            .message
        )
        if not message.tool_calls:
            return message.content or ""
        messages.append(message)
        for call in message.tool_calls:
            result = lookup(**json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})


def stream_without_usage(notes: str) -> str:
    """Asks for no usage, so it must not see the chunk that carries it."""
    stream = planner.chat.completions.create(
        model=MODEL,
        messages=[{"role": "system", "content": PLANNER}, {"role": "user", "content": notes}],
        stream=True,
    )
    text = ""
    for chunk in stream:
        assert chunk.choices, "a chunk without choices reached a client that did not ask for it"
        assert chunk.usage is None, "usage reached a client that did not ask for it"
        text += chunk.choices[0].delta.content or ""
    return text


async def stream_with_usage(notes: str) -> str:
    """Asks for usage, so it must see exactly one chunk that carries it."""
    stream = await async_planner.chat.completions.create(
        model=MODEL,
        messages=[{"role": "system", "content": PLANNER}, {"role": "user", "content": notes}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    assert [chunk.usage is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1])


def stream_tool_call() -> str:
    with researcher.chat.completions.stream(
        model=MODEL,
        messages=[{"role": "system", "content": RESEARCHER}, {"role": "user", "content": QUESTION}],
        tools=CHAT_TOOLS,
    ) as stream:
        calls = stream.get_final_completion().choices[0].message.tool_calls
    assert calls
    return lookup(**json.loads(calls[0].function.arguments))


def respond() -> str:
    return planner.responses.create(model=MODEL, instructions=PLANNER, input=QUESTION).output_text


async def research_with_responses(question: str) -> str:
    items: list[Any] = [{"role": "user", "content": question}]
    while True:
        response = await async_researcher.responses.create(
            model=MODEL, instructions=RESEARCHER, input=items, tools=RESPONSES_TOOLS
        )
        calls = [item for item in response.output if item.type == "function_call"]
        if not calls:
            return response.output_text
        items += response.output
        for call in calls:
            result = lookup(**json.loads(call.arguments))
            items.append(
                {"type": "function_call_output", "call_id": call.call_id, "output": result}
            )


async def stream_response(notes: str) -> str:
    """The helper raises unless the event sequence is complete."""
    async with async_planner.responses.stream(
        model=MODEL, instructions=PLANNER, input=notes
    ) as stream:
        text = "".join(
            [event.delta async for event in stream if event.type == "response.output_text.delta"]
        )
        response = await stream.get_final_response()
    assert response.usage and response.output_text == text
    return text


def iterate_response() -> str:
    events = list(
        researcher.responses.create(
            model=MODEL,
            instructions=RESEARCHER,
            input=QUESTION,
            tools=RESPONSES_TOOLS,
            stream=True,
        )
    )
    assert [event.sequence_number for event in events] == list(range(len(events)))
    done = next(e for e in events if e.type == "response.function_call_arguments.done")
    return lookup(**json.loads(done.arguments))


def embed(text: str) -> int:
    answer = tagged_by_url.embeddings.create(model="text-embedding-3-small", input=[text, QUESTION])
    return len(answer.data[0].embedding)


async def asynchronous(notes: str) -> list[str]:
    return await asyncio.gather(
        stream_with_usage(notes), research_with_responses(QUESTION), stream_response(notes)
    )


def main() -> None:
    notes = research(plan())
    answers = [stream_without_usage(notes), stream_tool_call(), respond(), iterate_response()]
    answers += asyncio.run(asynchronous(notes))
    models = [model.id for model in planner.models.list()]
    report(*answers, embed(notes), MODEL if MODEL in models else "")


main()
