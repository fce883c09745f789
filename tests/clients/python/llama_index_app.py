"""LlamaIndex: an agent workflow in which the planner hands over; streamed, then whole."""

from __future__ import annotations

import asyncio

from job import (
    BASE_URL,
    MODEL,
    PLANNER,
    PLANNER_HEADERS,
    QUESTION,
    RESEARCHER,
    RESEARCHER_HEADERS,
    lookup,
    report,
)
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent
from llama_index.llms.openai import OpenAI


def llm(headers: dict[str, str]) -> OpenAI:
    return OpenAI(model=MODEL, api_base=BASE_URL, default_headers=headers)


def build(stream: bool) -> AgentWorkflow:
    planner = FunctionAgent(
        name="planner",
        description="Plans.",
        system_prompt=PLANNER,
        llm=llm(PLANNER_HEADERS),
        can_handoff_to=["researcher"],
        streaming=stream,
    )
    researcher = FunctionAgent(
        name="researcher",
        description="Looks things up.",
        system_prompt=RESEARCHER,
        llm=llm(RESEARCHER_HEADERS),
        tools=[lookup],
        can_handoff_to=[],
        streaming=stream,
    )
    return AgentWorkflow(agents=[planner, researcher], root_agent="planner")


async def run(stream: bool) -> str:
    return str(await build(stream).run(user_msg=QUESTION))


async def main() -> None:
    report(await run(stream=True), await run(stream=False))


asyncio.run(main())
