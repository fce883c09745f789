"""pydantic-ai: a planner on Responses that delegates to a researcher on chat completions."""

from __future__ import annotations

import asyncio

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
from pydantic_ai import Agent

researcher = Agent(
    f"openai-chat:{MODEL}",
    instructions=RESEARCHER,
    model_settings={"extra_headers": RESEARCHER_HEADERS},
    tools=[lookup],
)
planner = Agent(
    f"openai:{MODEL}",
    instructions=PLANNER,
    model_settings={"extra_headers": PLANNER_HEADERS},
)


@planner.tool_plain
async def ask_researcher(question: str) -> str:
    """Ask the researcher a question."""
    async with researcher.run_stream(question) as answer:
        return await answer.get_output()


async def stream() -> str:
    async with planner.run_stream(QUESTION) as answer:
        return "".join([piece async for piece in answer.stream_text(delta=True)])


async def main() -> None:
    whole = await planner.run(QUESTION)
    alone = await researcher.run(QUESTION)
    report(whole.output, alone.output, await stream())


asyncio.run(main())
