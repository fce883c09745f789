// How a client of this language meets a refusal: `refused.mjs <client> <case>=<deed>...`. Prints for
// each case what its user gets: the answer, or what is raised.

import { writeFileSync } from "node:fs";
import { createOpenAI } from "@ai-sdk/openai";
import {
  Agent,
  OpenAIChatCompletionsModel,
  OpenAIResponsesModel,
  run,
  setTracingDisabled,
} from "@openai/agents";
import { generateText, streamText } from "ai";
import OpenAI from "openai";
import { MODEL, PLANNER, QUESTION, ROOT, RUN } from "./job.mjs";

const ENDLESS = "Tell us of the tides without end.";
const UNPRICED = "tide-7b";
// Of an answer: enough to know it by.
const SHOWN = 200;

setTracingDisabled(true);

const prompt = (question) => [
  { role: "system", content: PLANNER },
  { role: "user", content: question },
];

async function joined(pieces, text) {
  let all = "";
  for await (const piece of pieces) all += text(piece) ?? "";
  return all;
}

async function ask(baseURL, model = MODEL) {
  const completion = await new OpenAI({ baseURL }).chat.completions.create({
    model,
    messages: prompt(QUESTION),
  });
  return completion.choices[0].message.content;
}

const openaiNode = {
  ask: (baseURL) => ask(baseURL),
  "ask-twice": async (baseURL) => (await ask(baseURL)) && (await ask(baseURL)),
  "ask-unpriced": (baseURL) => ask(baseURL, UNPRICED),
  chat: async (baseURL) =>
    joined(
      await new OpenAI({ baseURL }).chat.completions.create({
        model: MODEL,
        messages: prompt(ENDLESS),
        stream: true,
      }),
      (chunk) => chunk.choices[0].delta.content,
    ),
  responses: async (baseURL) =>
    joined(
      await new OpenAI({ baseURL }).responses.create({
        model: MODEL,
        input: prompt(ENDLESS),
        stream: true,
      }),
      (event) => (event.type === "response.output_text.delta" ? event.delta : ""),
    ),
};

/** Errors come to `onError`, and the text ends as if nothing were: its users look there. */
async function streamed(model) {
  let failed;
  const result = streamText({
    model,
    system: PLANNER,
    prompt: ENDLESS,
    onError: ({ error }) => (failed = error),
  });
  const text = await joined(result.textStream, (piece) => piece);
  if (failed) throw failed;
  return text;
}

const aiSdk = {
  ask: async (baseURL) =>
    (await generateText({ model: createOpenAI({ baseURL })(MODEL), prompt: QUESTION })).text,
  chat: (baseURL) => streamed(createOpenAI({ baseURL }).chat(MODEL)),
  responses: (baseURL) => streamed(createOpenAI({ baseURL })(MODEL)),
};

const agent = (Model, baseURL) =>
  new Agent({
    name: "planner",
    instructions: PLANNER,
    model: new Model(new OpenAI({ baseURL }), MODEL),
  });

async function streamedRun(planner) {
  const result = await run(planner, ENDLESS, { stream: true });
  for await (const _ of result);
  await result.completed;
  return result.finalOutput;
}

const agentsNode = {
  ask: async (baseURL) =>
    (await run(agent(OpenAIResponsesModel, baseURL), QUESTION)).finalOutput,
  chat: (baseURL) => streamedRun(agent(OpenAIChatCompletionsModel, baseURL)),
  responses: (baseURL) => streamedRun(agent(OpenAIResponsesModel, baseURL)),
};

async function met(deed, url) {
  try {
    return { answer: String(await deed(url)).slice(0, SHOWN) };
  } catch (error) {
    const raised = error.name === "Error" ? error.constructor.name : error.name;
    const last = error.lastError ?? error;
    const code = last.code ?? last.data?.error?.code ?? null;
    return { raised, says: error.message, code };
  }
}

const [client, ...cases] = process.argv.slice(2);
const deeds = { openai_node: openaiNode, ai_sdk: aiSdk, agents_node: agentsNode }[client];
for (const [name, deed] of cases.map((text) => text.split("="))) {
  const run = `${name}-${RUN}`;
  process.env.OPENAI_API_KEY = `sk-${run}`;
  // The runner waits for it where an operator has something to do.
  writeFileSync(run, "");
  const result = await met(deeds[deed], `${ROOT}/run/${run}/agent/planner/v1`);
  console.log(JSON.stringify({ case: name, ...result }));
}
console.log(JSON.stringify({ ok: true }));
