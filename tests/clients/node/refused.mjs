// How a client of this language meets a refusal: `refused.mjs <client> <case>...`. Prints for each
// case what its user gets: the answer, or what is raised.

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

async function ask(baseURL) {
  const completion = await new OpenAI({ baseURL }).chat.completions.create({
    model: MODEL,
    messages: prompt(QUESTION),
  });
  return completion.choices[0].message.content;
}

const openaiNode = {
  spent: ask,
  "cut-chat": async (baseURL) =>
    joined(
      await new OpenAI({ baseURL }).chat.completions.create({
        model: MODEL,
        messages: prompt(ENDLESS),
        stream: true,
      }),
      (chunk) => chunk.choices[0].delta.content,
    ),
  "cut-responses": async (baseURL) =>
    joined(
      await new OpenAI({ baseURL }).responses.create({
        model: MODEL,
        input: prompt(ENDLESS),
        stream: true,
      }),
      (event) => (event.type === "response.output_text.delta" ? event.delta : ""),
    ),
  resets: async (baseURL) => (await ask(baseURL)) && (await ask(baseURL)),
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
  spent: async (baseURL) =>
    (await generateText({ model: createOpenAI({ baseURL })(MODEL), prompt: QUESTION })).text,
  "cut-chat": (baseURL) => streamed(createOpenAI({ baseURL }).chat(MODEL)),
  "cut-responses": (baseURL) => streamed(createOpenAI({ baseURL })(MODEL)),
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
  spent: async (baseURL) =>
    (await run(agent(OpenAIResponsesModel, baseURL), QUESTION)).finalOutput,
  "cut-chat": (baseURL) => streamedRun(agent(OpenAIChatCompletionsModel, baseURL)),
  "cut-responses": (baseURL) => streamedRun(agent(OpenAIResponsesModel, baseURL)),
};

async function met(test, url) {
  try {
    return { answer: String(await test(url)) };
  } catch (error) {
    const raised = error.name === "Error" ? error.constructor.name : error.name;
    const last = error.lastError ?? error;
    const code = last.code ?? last.data?.error?.code ?? null;
    return { raised, says: error.message, code };
  }
}

const [client, ...names] = process.argv.slice(2);
const cases = { openai_node: openaiNode, ai_sdk: aiSdk, agents_node: agentsNode }[client];
for (const name of names) {
  const url = `${ROOT}/run/${name}-${RUN}/agent/planner/v1`;
  console.log(JSON.stringify({ case: name, ...(await met(cases[name], url)) }));
}
console.log(JSON.stringify({ ok: true }));
