"""LangGraph: a supervisor that hands over to a researcher with a tool."""

from __future__ import annotations

from typing import Any

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
from langchain_core.messages import AIMessageChunk
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.prebuilt import create_react_agent
from langgraph_supervisor import create_supervisor

ASK: Any = {"messages": [{"role": "user", "content": QUESTION}]}


def build(**model_options: Any) -> Any:
    researcher = create_react_agent(
        ChatOpenAI(model=MODEL, default_headers=RESEARCHER_HEADERS, **model_options),
        tools=[tool(lookup)],
        name="researcher",
        prompt=RESEARCHER,
    )
    planner = ChatOpenAI(model=MODEL, default_headers=PLANNER_HEADERS, **model_options)
    return create_supervisor([researcher], model=planner, prompt=PLANNER).compile()


def invoke() -> str:
    return build().invoke(ASK)["messages"][-1].content


def stream(**model_options: Any) -> str:
    """Streaming the messages makes every model call a streamed one."""
    messages = build(**model_options).stream(ASK, stream_mode="messages", subgraphs=True)
    return "".join(
        message.text for _, (message, _) in messages if isinstance(message, AIMessageChunk)
    )


report(invoke(), stream(), stream(use_responses_api=True))
