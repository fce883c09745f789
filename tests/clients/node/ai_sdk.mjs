// AI SDK: a planner whose tool is the researcher; Responses and chat, whole and streamed.

import { createOpenAI } from "@ai-sdk/openai";
import { stepCountIs, streamText, tool, ToolLoopAgent } from "ai";
import { z } from "zod";
import {
  lookup,
  MODEL,
  PLANNER,
  PLANNER_HEADERS,
  QUESTION,
  report,
  RESEARCHER,
  RESEARCHER_HEADERS,
} from "./job.mjs";

const asPlanner = createOpenAI({ headers: PLANNER_HEADERS });
const asResearcher = createOpenAI({ headers: RESEARCHER_HEADERS });

const researcher = (model) =>
  new ToolLoopAgent({
    model,
    instructions: RESEARCHER,
    tools: {
      lookup: tool({
        description: "Look a topic up.",
        inputSchema: z.object({ topic: z.string() }),
        execute: lookup,
      }),
    },
  });

const askResearcher = (model) =>
  tool({
    description: "Ask the researcher.",
    inputSchema: z.object({ question: z.string() }),
    execute: async ({ question }) =>
      (await researcher(model).generate({ prompt: question })).text,
  });

const planner = (model, researcherModel) =>
  new ToolLoopAgent({
    model,
    instructions: PLANNER,
    tools: { ask_researcher: askResearcher(researcherModel) },
  });

const whole = await planner(asPlanner(MODEL), asResearcher(MODEL)).generate({ prompt: QUESTION });
const streamed = await planner(asPlanner(MODEL), asResearcher.chat(MODEL)).stream({
  prompt: QUESTION,
});
const chat = streamText({
  model: asPlanner.chat(MODEL),
  instructions: PLANNER,
  prompt: QUESTION,
  tools: { ask_researcher: askResearcher(asResearcher(MODEL)) },
  stopWhen: stepCountIs(4),
});

report(whole.text, await streamed.text, await chat.text);
