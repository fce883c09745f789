"""OpenAI Agents SDK: a handoff and an agent as a tool, on Responses and on chat completions."""

from __future__ import annotations

import asyncio

from agents import Agent, ModelSettings, Runner, function_tool, set_default_openai_api
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

researcher = Agent(
    name="researcher",
    instructions=RESEARCHER,
    model=MODEL,
    model_settings=ModelSettings(extra_headers=RESEARCHER_HEADERS),
    tools=[function_tool(lookup)],
)
with_handoff = Agent(
    name="planner",
    instructions=PLANNER,
    model=MODEL,
    model_settings=ModelSettings(extra_headers=PLANNER_HEADERS),
    handoffs=[researcher],
)
with_tool = with_handoff.clone(
    handoffs=[],
    tools=[researcher.as_tool("ask_researcher", "Ask the researcher.")],
)


async def run(agent: Agent) -> str:
    return (await Runner.run(agent, QUESTION)).final_output


async def stream(agent: Agent) -> str:
    result = Runner.run_streamed(agent, QUESTION)
    async for _ in result.stream_events():
        pass
    return result.final_output


async def main() -> None:
    answers = []
    for api in ("responses", "chat_completions"):
        set_default_openai_api(api)
        answers += [await run(with_handoff), await stream(with_tool)]
    report(*answers)


asyncio.run(main())
