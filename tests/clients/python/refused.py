"""How a client of this language meets a refusal: `refused.py <client> <case>=<deed>...`.

Prints for each case what its user gets: the answer, or what is raised. One client per environment
is installed, so each is imported where it is used.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

from job import MODEL, PLANNER, QUESTION, ROOT, RUN, met

ENDLESS = "Tell us of the tides without end."
UNPRICED = "tide-7b"
Deed = Callable[[str], Any]
# One for all: some clients share their connections between them.
LOOP = asyncio.Runner()


def prompt(question: str) -> list[Any]:
    return [{"role": "system", "content": PLANNER}, {"role": "user", "content": question}]


def joined(chunks: Iterable[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def spoken(events: Iterable[Any]) -> str:
    return "".join(e.delta for e in events if e.type == "response.output_text.delta")


def blocking(deed: Callable[[str], Coroutine[Any, Any, Any]]) -> Deed:
    return lambda url: LOOP.run(deed(url))


def openai_sdk() -> dict[str, Deed]:
    from openai import OpenAI

    def ask(url: str, model: str = MODEL) -> Any:
        client = OpenAI(base_url=url)
        completion = client.chat.completions.create(model=model, messages=prompt(QUESTION))
        return completion.choices[0].message.content

    def chat(url: str) -> str:
        completions = OpenAI(base_url=url).chat.completions
        return joined(completions.create(model=MODEL, messages=prompt(ENDLESS), stream=True))

    def responses(url: str) -> str:
        client = OpenAI(base_url=url)
        return spoken(client.responses.create(model=MODEL, input=prompt(ENDLESS), stream=True))

    return {
        "ask": ask,
        "ask-twice": lambda url: ask(url) and ask(url),
        "ask-unpriced": lambda url: ask(url, UNPRICED),
        "chat": chat,
        "responses": responses,
    }


def langgraph_app() -> dict[str, Deed]:
    from langchain_openai import ChatOpenAI
    from langgraph.prebuilt import create_react_agent

    def agent(url: str, **options: Any) -> Any:
        return create_react_agent(ChatOpenAI(model=MODEL, base_url=url, **options), tools=[])

    def ask(url: str) -> str:
        return agent(url).invoke({"messages": prompt(QUESTION)})["messages"][-1].text

    def stream(url: str, **options: Any) -> str:
        ask: Any = {"messages": prompt(ENDLESS)}
        messages = agent(url, **options).stream(ask, stream_mode="messages")
        return "".join(message.text for message, _ in messages)

    def responses(url: str) -> str:
        return stream(url, use_responses_api=True)

    return {"ask": ask, "chat": stream, "responses": responses}


def agents_sdk() -> dict[str, Deed]:
    from agents import Agent, OpenAIProvider, RunConfig, Runner

    agent = Agent(name="planner", instructions=PLANNER, model=MODEL)

    def at(url: str, use_responses: bool = True) -> RunConfig:
        provider = OpenAIProvider(base_url=url, use_responses=use_responses)
        return RunConfig(model_provider=provider)

    async def ask(url: str) -> Any:
        return (await Runner.run(agent, QUESTION, run_config=at(url))).final_output

    async def stream(config: RunConfig) -> Any:
        result = Runner.run_streamed(agent, ENDLESS, run_config=config)
        async for _ in result.stream_events():
            pass
        return result.final_output

    return {
        "ask": blocking(ask),
        "chat": blocking(lambda url: stream(at(url, use_responses=False))),
        "responses": blocking(lambda url: stream(at(url))),
    }


def pydantic_ai_app() -> dict[str, Deed]:
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
    from pydantic_ai.providers.openai import OpenAIProvider

    def agent(kind: Any, url: str) -> Agent:
        return Agent(kind(MODEL, provider=OpenAIProvider(base_url=url)), instructions=PLANNER)

    async def ask(url: str) -> Any:
        return (await agent(OpenAIResponsesModel, url).run(QUESTION)).output

    async def stream(agent: Agent) -> str:
        async with agent.run_stream(ENDLESS) as answer:
            return "".join([piece async for piece in answer.stream_text(delta=True)])

    return {
        "ask": blocking(ask),
        "chat": blocking(lambda url: stream(agent(OpenAIChatModel, url))),
        "responses": blocking(lambda url: stream(agent(OpenAIResponsesModel, url))),
    }


def smolagents_app() -> dict[str, Deed]:
    from smolagents import LogLevel, OpenAIServerModel, ToolCallingAgent

    def run(url: str, question: str, stream: bool) -> Any:
        model = OpenAIServerModel(MODEL, api_base=url)
        # It tries three times, as its users see it, but without the minutes in between.
        model.retryer.wait_seconds = 0
        agent = ToolCallingAgent(
            tools=[], model=model, stream_outputs=stream, verbosity_level=LogLevel.OFF
        )
        return agent.run(question)

    return {
        "ask": lambda url: run(url, QUESTION, stream=False),
        "chat": lambda url: run(url, ENDLESS, stream=True),
    }


def autogen_app() -> dict[str, Deed]:
    from autogen_agentchat.agents import AssistantAgent
    from autogen_ext.models.openai import OpenAIChatCompletionClient

    def agent(url: str, **options: Any) -> AssistantAgent:
        client = OpenAIChatCompletionClient(model=MODEL, base_url=url)
        return AssistantAgent("planner", client, system_message=PLANNER, **options)

    async def ask(url: str) -> str:
        return (await agent(url).run(task=QUESTION)).messages[-1].to_text()

    async def stream(url: str) -> str:
        streamed: AsyncIterator[Any] = agent(url, model_client_stream=True).run_stream(task=ENDLESS)
        return [message async for message in streamed][-1].messages[-1].to_text()

    return {"ask": blocking(ask), "chat": blocking(stream)}


def crewai_app() -> dict[str, Deed]:
    from crewai import LLM

    def call(url: str, question: str, stream: bool) -> Any:
        return LLM(model=f"openai/{MODEL}", base_url=url, stream=stream).call(prompt(question))

    return {
        "ask": lambda url: call(url, QUESTION, stream=False),
        "chat": lambda url: call(url, ENDLESS, stream=True),
    }


def litellm_app() -> dict[str, Deed]:
    import litellm

    model = f"openai/{MODEL}"

    def ask(url: str) -> Any:
        completion: Any = litellm.completion(model, messages=prompt(QUESTION), api_base=url)
        return completion.choices[0].message.content

    def chat(url: str) -> str:
        messages = prompt(ENDLESS)
        return joined(litellm.completion(model, messages=messages, api_base=url, stream=True))

    def responses(url: str) -> str:
        return spoken(litellm.responses(prompt(ENDLESS), model, api_base=url, stream=True))

    return {"ask": ask, "chat": chat, "responses": responses}


def llama_index_app() -> dict[str, Deed]:
    from llama_index.core.llms import ChatMessage
    from llama_index.llms.openai import OpenAI

    def messages(question: str) -> list[ChatMessage]:
        return [ChatMessage(**message) for message in prompt(question)]

    def ask(url: str) -> Any:
        return OpenAI(model=MODEL, api_base=url).chat(messages(QUESTION)).message.content

    def stream(url: str) -> str:
        chunks = OpenAI(model=MODEL, api_base=url).stream_chat(messages(ENDLESS))
        return "".join(chunk.delta or "" for chunk in chunks)

    return {"ask": ask, "chat": stream}


def main() -> None:
    _, client, *cases = sys.argv
    # Some clients speak up themselves, even late and from a thread.
    out, sys.stdout = sys.stdout, sys.stderr
    deeds: dict[str, Deed] = globals()[client]()
    for case in cases:
        name, _, deed = case.partition("=")
        run = f"{name}-{RUN}"
        os.environ["OPENAI_API_KEY"] = f"sk-{run}"
        # The runner waits for it where an operator has something to do.
        Path(run).touch()
        result = met(deeds[deed], f"{ROOT}/run/{run}/agent/planner/v1")
        print(json.dumps({"case": name, **result}), file=out)
    print(json.dumps({"ok": True}), file=out)


main()
