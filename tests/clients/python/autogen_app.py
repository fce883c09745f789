"""AutoGen: a planner that uses the researcher as a tool, and a team of both, streamed."""

from __future__ import annotations

import asyncio
from typing import Any

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.conditions import TextMessageTermination
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_agentchat.tools import AgentTool
from autogen_ext.models.openai import OpenAIChatCompletionClient
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


def client(headers: dict[str, str]) -> OpenAIChatCompletionClient:
    return OpenAIChatCompletionClient(
        model=MODEL, default_headers=headers, parallel_tool_calls=False
    )


def researcher(**options: Any) -> AssistantAgent:
    return AssistantAgent(
        "researcher",
        client(RESEARCHER_HEADERS),
        description="Looks things up.",
        system_message=RESEARCHER,
        tools=[lookup],
        reflect_on_tool_use=True,
        **options,
    )


def planner(**options: Any) -> AssistantAgent:
    return AssistantAgent("planner", client(PLANNER_HEADERS), system_message=PLANNER, **options)


async def ask() -> str:
    agent = planner(tools=[AgentTool(researcher())], reflect_on_tool_use=True)
    return (await agent.run(task=QUESTION)).messages[-1].to_text()


async def stream() -> str:
    team = RoundRobinGroupChat(
        [planner(model_client_stream=True), researcher(model_client_stream=True)],
        termination_condition=TextMessageTermination("researcher"),
    )
    messages = [message async for message in team.run_stream(task=QUESTION)]
    return messages[-1].messages[-1].to_text()


async def main() -> None:
    report(await ask(), await stream())


asyncio.run(main())
