"""smolagents: a planner that manages a researcher; whole answers, then streamed ones."""

from __future__ import annotations

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
from smolagents import LogLevel, OpenAIServerModel, ToolCallingAgent, tool


def model(headers: dict[str, str]) -> OpenAIServerModel:
    return OpenAIServerModel(MODEL, api_base=BASE_URL, client_kwargs={"default_headers": headers})


def run(stream: bool) -> object:
    researcher = ToolCallingAgent(
        tools=[tool(lookup)],
        model=model(RESEARCHER_HEADERS),
        name="researcher",
        description="Looks things up.",
        instructions=RESEARCHER,
        stream_outputs=stream,
        verbosity_level=LogLevel.OFF,
    )
    planner = ToolCallingAgent(
        tools=[],
        model=model(PLANNER_HEADERS),
        managed_agents=[researcher],
        instructions=PLANNER,
        stream_outputs=stream,
        verbosity_level=LogLevel.OFF,
    )
    return planner.run(QUESTION)


answers = [run(stream=False), run(stream=True)]
print()  # The live display leaves its last line open.
report(*answers)
