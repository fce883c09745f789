"""Programs that go round in circles, and their twins that get ahead: `looping.py <client> <case>...`.

Nothing says whose calls they are. No framework ends one by itself: its own limits are far off. One
client per environment is installed, so each is imported where it is used.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from functools import partial
from datetime import datetime
from itertools import count
from typing import Any
from uuid import uuid4

from job import BASE_URL, MODEL, RUN, met

TASK = "Make the tide tables ready for the season."
ASK: Any = {"messages": [{"role": "user", "content": TASK}]}
FAR_OFF = 200
Tool = Callable[..., str]


def stuck() -> list[Tool]:
    def deploy(service: str) -> str:
        """Deploy a service."""
        # As errors are: CrewAI stops by itself when a result is the same to the letter.
        at = datetime.now().isoformat(timespec="milliseconds")
        return f"{at} Error: the registry refused the connection, request_id={uuid4()}"

    return [deploy]


def pacing() -> list[Tool]:
    def list_files() -> str:
        """List all files."""
        return "almanac.txt notes.txt"

    def read_notes() -> str:
        """Read the notes."""
        return "Look into the list of files."

    return [list_files, read_notes]


def guessing() -> list[Tool]:
    def read_file(path: str) -> str:
        """Read a file."""
        return f"Error: no such file or directory: {path}"

    return [read_file]


def paging() -> list[Tool]:
    def fetch_page(page: int) -> str:
        """Fetch one page of the almanac."""
        return f"Page {page} of 12: in month {page} the highest tide is at day {page * 7 % 28}"

    return [fetch_page]


def polling() -> list[Tool]:
    asked = count(1)

    def job_status(job: str) -> str:
        """Ask how far a job is."""
        percent = next(asked) * 10
        return f"{job}: running, {percent} %" if percent < 100 else f"{job}: done"

    return [job_status]


def fixing() -> list[Tool]:
    failing = list(range(12, -1, -1))

    def run_tests() -> str:
        """Run all tests."""
        left = failing.pop(0)
        return f"{left} failed, {40 - left} passed" if left else "40 tests: all passed"

    def edit(file: str) -> str:
        """Mend a file."""
        return f"{file} was written"

    return [run_tests, edit]


# Case -> who speaks, and with which tools.
WITH_TOOLS = {
    "stuck": ("looper", stuck),
    "guessing": ("guesser", guessing),
    "pacing": ("pacer", pacing),
    "paging": ("reader", paging),
    "polling": ("watcher", polling),
    "fixing": ("fixer", fixing),
}
# Case -> who talks to whom.
TALKS = {
    "circles": ("optimist", "pessimist"),
    "drafts": ("author", "critic"),
}
# Case -> who hands over to whom, and has the word again afterwards.
HAND_OVERS = {
    "handing": ("coordinator", "optimist"),
    "commissioning": ("editor", "author"),
}


def prompt_of(persona: str) -> str:
    return f"You are the {persona}. Go on until the task is done, then say so."


def langgraph_app(persona: str, tools: list[Tool]) -> Any:
    from langchain_core.tools import tool
    from langchain_openai import ChatOpenAI
    from langgraph.prebuilt import create_react_agent

    agent = create_react_agent(
        ChatOpenAI(model=MODEL),
        tools=[tool(function) for function in tools],
        prompt=prompt_of(persona),
    )
    return agent.invoke(ASK, {"recursion_limit": FAR_OFF})["messages"][-1].text


def stream_responses(persona: str, tools: list[Tool]) -> Any:
    from langchain_core.tools import tool
    from langchain_openai import ChatOpenAI
    from langgraph.prebuilt import create_react_agent

    agent = create_react_agent(
        ChatOpenAI(model=MODEL, use_responses_api=True),
        tools=[tool(function) for function in tools],
        prompt=prompt_of(persona),
    )
    messages = agent.stream(ASK, {"recursion_limit": FAR_OFF}, stream_mode="messages")
    return "".join(message.text for message, _ in messages)


def hand_over(personas: tuple[str, str]) -> Any:
    from langchain_openai import ChatOpenAI
    from langgraph.prebuilt import create_react_agent
    from langgraph_supervisor import create_supervisor

    first, second = personas
    model = ChatOpenAI(model=MODEL)
    worker = create_react_agent(model, tools=[], name=second, prompt=prompt_of(second))
    team = create_supervisor([worker], model=model, prompt=prompt_of(first)).compile()
    return team.invoke(ASK, {"recursion_limit": FAR_OFF})["messages"][-1].text


def crewai_app(persona: str, tools: list[Tool]) -> Any:
    from crewai import LLM, Agent, Crew, Task
    from crewai.tools import tool

    # A cache would answer for the tool.
    agent = Agent(
        role=persona,
        goal="Finish the task",
        backstory="You have sailed here for years.",
        llm=LLM(model=f"openai/{MODEL}", base_url=BASE_URL),
        tools=[tool(function.__name__)(function) for function in tools],
        max_iter=FAR_OFF,
        cache=False,
    )
    task = Task(description=TASK, expected_output="A word.", agent=agent)
    return Crew(agents=[agent], tasks=[task], cache=False).kickoff().raw


def autogen_app(persona: str, tools: list[Tool]) -> Any:
    from autogen_agentchat.agents import AssistantAgent
    from autogen_ext.models.openai import OpenAIChatCompletionClient

    agent = AssistantAgent(
        persona,
        OpenAIChatCompletionClient(model=MODEL),
        system_message=prompt_of(persona),
        tools=tools,
        max_tool_iterations=FAR_OFF,
    )
    return asyncio.run(agent.run(task=TASK)).messages[-1].to_text()


def talk(personas: tuple[str, str]) -> Any:
    from autogen_agentchat.agents import AssistantAgent
    from autogen_agentchat.conditions import MaxMessageTermination, TextMentionTermination
    from autogen_agentchat.teams import RoundRobinGroupChat
    from autogen_ext.models.openai import OpenAIChatCompletionClient

    client = OpenAIChatCompletionClient(model=MODEL)
    agents = [AssistantAgent(it, client, system_message=prompt_of(it)) for it in personas]
    over = TextMentionTermination("APPROVED") | MaxMessageTermination(FAR_OFF)
    team = RoundRobinGroupChat([*agents], termination_condition=over)
    return asyncio.run(team.run(task=TASK)).messages[-1].to_text()


def deed_of(client: str, case: str) -> Callable[[], Any]:
    if case in TALKS:
        return partial(talk, TALKS[case])
    if case in HAND_OVERS:
        return partial(hand_over, HAND_OVERS[case])
    case, _, how = case.partition("-")
    persona, tools = WITH_TOOLS[case]
    return partial(globals()[how or client], persona, tools())


def main() -> None:
    _, client, *cases = sys.argv
    tail = os.environ["OPENAI_API_KEY"]
    # Some clients speak up themselves, even late and from a thread.
    out, sys.stdout = sys.stdout, sys.stderr
    assert not RUN
    for case in cases:
        os.environ["OPENAI_API_KEY"] = f"sk-{case}-{tail}"
        print(json.dumps({"case": case, **met(deed_of(client, case))}), file=out)
    print(json.dumps({"ok": True}), file=out)


main()
