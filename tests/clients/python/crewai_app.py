"""CrewAI: a crew of two; the planner may delegate to the researcher. Whole, then streamed."""

from __future__ import annotations

from typing import Any

from crewai import LLM, Agent, Crew, Task
from crewai.tools import tool
from job import (
    BASE_URL,
    MODEL,
    PLANNER_HEADERS,
    QUESTION,
    RESEARCHER_HEADERS,
    lookup,
    report,
)


def llm(headers: dict[str, str], stream: bool) -> LLM:
    return LLM(model=f"openai/{MODEL}", base_url=BASE_URL, default_headers=headers, stream=stream)


def agent(role: str, headers: dict[str, str], stream: bool, **options: Any) -> Agent:
    return Agent(
        role=role,
        goal="Know when to leave the harbour",
        backstory="You have sailed here for years.",
        llm=llm(headers, stream),
        **options,
    )


def run(stream: bool) -> str:
    researcher = agent("researcher", RESEARCHER_HEADERS, stream, tools=[tool("lookup")(lookup)])
    planner = agent("planner", PLANNER_HEADERS, stream, allow_delegation=True)
    research = Task(description="Find the tides.", expected_output="Times.", agent=researcher)
    plan = Task(description=QUESTION, expected_output="A time.", agent=planner)
    return Crew(agents=[planner, researcher], tasks=[research, plan]).kickoff().raw


report(run(stream=False), run(stream=True))
