// @openai/agents: a handoff on Responses, and chat completions tagged by the base URL.

import {
  Agent,
  OpenAIChatCompletionsModel,
  run,
  setTracingDisabled,
  tool,
} from "@openai/agents";
import OpenAI from "openai";
import { z } from "zod";
import {
  lookup,
  MODEL,
  PLANNER,
  PLANNER_HEADERS,
  PLANNER_URL,
  QUESTION,
  report,
  RESEARCHER,
  RESEARCHER_HEADERS,
} from "./job.mjs";

setTracingDisabled(true);

const researcher = new Agent({
  name: "researcher",
  instructions: RESEARCHER,
  model: MODEL,
  // Only the Responses model reads these headers.
  modelSettings: { providerData: { extraHeaders: RESEARCHER_HEADERS } },
  tools: [
    tool({
      name: "lookup",
      description: "Look a topic up.",
      parameters: z.object({ topic: z.string() }),
      execute: lookup,
    }),
  ],
});
const planner = new Agent({
  name: "planner",
  instructions: PLANNER,
  model: MODEL,
  modelSettings: { providerData: { extraHeaders: PLANNER_HEADERS } },
  handoffs: [researcher],
});
const chatPlanner = new Agent({
  name: "planner",
  instructions: PLANNER,
  model: new OpenAIChatCompletionsModel(
    new OpenAI({ baseURL: PLANNER_URL }),
    MODEL,
  ),
  tools: [
    researcher.asTool({ toolName: "ask_researcher", toolDescription: "Ask the researcher." }),
  ],
});

async function stream(agent) {
  const result = await run(agent, QUESTION, { stream: true });
  for await (const _ of result);
  await result.completed;
  return result.finalOutput;
}

report(
  (await run(planner, QUESTION)).finalOutput,
  await stream(planner),
  (await run(chatPlanner, QUESTION)).finalOutput,
  await stream(chatPlanner),
);
