"""How the fake upstream writes its answers: the JSON and the events of the OpenAI API."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from script import Answer, Json, Usage

DATED = {"gpt-4o-mini": "gpt-4o-mini-2024-07-18"}
PIECE = 12
NO_ANSWER = Answer()


@dataclass(frozen=True)
class Reply:
    """One answer, before it is written down."""

    id: str
    created: int
    body: Json
    answer: Answer
    usage: Usage

    @property
    def model(self) -> str:
        asked: str = self.body["model"]
        return DATED.get(asked, asked)

    @property
    def wants_usage_chunk(self) -> bool:
        return bool((self.body.get("stream_options") or {}).get("include_usage"))


def pieces(text: str) -> Iterator[str]:
    yield from (text[start : start + PIECE] for start in range(0, len(text), PIECE))


# Chat completions


def chat_usage(usage: Usage) -> Json:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read_input_tokens,
            "audio_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_output_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def finish_reason(answer: Answer) -> str:
    return "tool_calls" if answer.tool else "stop"


def chat_tool_call(answer: Answer, arguments: str) -> Json:
    return {
        "id": answer.call_id,
        "type": "function",
        "function": {"name": answer.tool, "arguments": arguments},
    }


def chat_completion(reply: Reply) -> Json:
    answer = reply.answer
    message: Json = {"role": "assistant", "content": None, "refusal": None, "annotations": []}
    if answer.tool:
        message["tool_calls"] = [chat_tool_call(answer, answer.arguments)]
    else:
        message["content"] = answer.text
    return {
        "id": reply.id,
        "object": "chat.completion",
        "created": reply.created,
        "model": reply.model,
        "choices": [
            {
                "index": 0,
                "message": message,
                "logprobs": None,
                "finish_reason": finish_reason(answer),
            }
        ],
        "usage": chat_usage(reply.usage),
        "service_tier": "default",
        "system_fingerprint": "fp_560af6e559",
    }


def chat_deltas(answer: Answer) -> Iterator[Json]:
    opening: Json = {"role": "assistant", "content": None, "refusal": None}
    if answer.tool:
        yield opening | {"tool_calls": [{"index": 0} | chat_tool_call(answer, "")]}
        for piece in pieces(answer.arguments):
            yield {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}
    else:
        yield opening | {"content": ""}
        for piece in pieces(answer.text):
            yield {"content": piece}


def chat_chunks(reply: Reply) -> Iterator[Json]:
    base: Json = {
        "id": reply.id,
        "object": "chat.completion.chunk",
        "created": reply.created,
        "model": reply.model,
        "service_tier": "default",
        "system_fingerprint": "fp_560af6e559",
    }
    no_usage = {"usage": None} if reply.wants_usage_chunk else {}

    def chunk(delta: Json, finish: str | None) -> Json:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return base | {"choices": [choice]} | no_usage | {"obfuscation": "k3Zw"}

    for delta in chat_deltas(reply.answer):
        yield chunk(delta, None)
    yield chunk({}, finish_reason(reply.answer))
    if reply.wants_usage_chunk:
        yield base | {"choices": [], "usage": chat_usage(reply.usage), "obfuscation": ""}


# Responses


def responses_usage(usage: Usage) -> Json:
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cache_read_input_tokens},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_output_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


def text_part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def output_item(reply: Reply, status: str) -> Json:
    """The one item of an answer: full when completed, an empty shell while in progress."""
    answer, done = reply.answer, status == "completed"
    suffix = reply.id.removeprefix("resp_")
    if answer.tool:
        return {
            "type": "function_call",
            "id": f"fc_{suffix}",
            "status": status,
            "call_id": answer.call_id,
            "name": answer.tool,
            "arguments": answer.arguments if done else "",
        }
    return {
        "type": "message",
        "id": f"msg_{suffix}",
        "status": status,
        "role": "assistant",
        "content": [text_part(answer.text)] if done else [],
    }


def response_object(reply: Reply, status: str = "completed") -> Json:
    body, done = reply.body, status == "completed"
    return {
        "id": reply.id,
        "object": "response",
        "created_at": reply.created,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "model": reply.model,
        "output": [output_item(reply, "completed")] if done else [],
        "parallel_tool_calls": body.get("parallel_tool_calls", True),
        "previous_response_id": body.get("previous_response_id"),
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "default",
        "store": body.get("store", True),
        "temperature": body.get("temperature", 1.0),
        "text": body.get("text", {"format": {"type": "text"}}),
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools", []),
        "top_p": body.get("top_p", 1.0),
        "truncation": "disabled",
        "usage": responses_usage(reply.usage) if done else None,
        "user": None,
        "metadata": body.get("metadata") or {},
    }


def response_events(reply: Reply) -> Iterator[Json]:
    numbers = count()
    for event in unnumbered_events(reply):
        yield {"type": event.pop("type"), "sequence_number": next(numbers)} | event


def unnumbered_events(reply: Reply) -> Iterator[Json]:
    started = response_object(reply, "in_progress")
    yield {"type": "response.created", "response": started}
    yield {"type": "response.in_progress", "response": started}
    yield {
        "type": "response.output_item.added",
        "output_index": 0,
        "item": output_item(reply, "in_progress"),
    }
    yield from argument_events(reply) if reply.answer.tool else text_events(reply)
    yield {
        "type": "response.output_item.done",
        "output_index": 0,
        "item": output_item(reply, "completed"),
    }
    yield {"type": "response.completed", "response": response_object(reply)}


def argument_events(reply: Reply) -> Iterator[Json]:
    place = {"item_id": output_item(reply, "completed")["id"], "output_index": 0}
    kind = "response.function_call_arguments"
    for piece in pieces(reply.answer.arguments):
        yield {"type": f"{kind}.delta", "delta": piece, "obfuscation": "k3Zw"} | place
    yield {
        "type": f"{kind}.done",
        "name": reply.answer.tool,
        "arguments": reply.answer.arguments,
    } | place


def text_events(reply: Reply) -> Iterator[Json]:
    item_id = output_item(reply, "completed")["id"]
    place = {"item_id": item_id, "output_index": 0, "content_index": 0}
    text = reply.answer.text
    yield {"type": "response.content_part.added", "part": text_part("")} | place
    for piece in pieces(text):
        delta = {"delta": piece, "logprobs": [], "obfuscation": "k3Zw"}
        yield {"type": "response.output_text.delta"} | delta | place
    yield {"type": "response.output_text.done", "text": text, "logprobs": []} | place
    yield {"type": "response.content_part.done", "part": text_part(text)} | place


# The rest


def embeddings(reply: Reply) -> Json:
    asked = reply.body.get("input", "")
    inputs = asked if isinstance(asked, list) else [asked]
    vector = [round(0.1 * step - 0.35, 2) for step in range(8)]
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": embedding(reply, vector)}
            for index in range(len(inputs))
        ],
        "model": reply.model,
        "usage": {
            "prompt_tokens": reply.usage.input_tokens,
            "total_tokens": reply.usage.input_tokens,
        },
    }


def embedding(reply: Reply, vector: list[float]) -> str | list[float]:
    """SDKs ask for base64 on their own and decode it for the user."""
    if reply.body.get("encoding_format") != "base64":
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def models() -> Json:
    ids = [*DATED, "text-embedding-3-small"]
    return {
        "object": "list",
        "data": [
            {"id": model, "object": "model", "created": 1721172741, "owned_by": "system"}
            for model in ids
        ],
    }
