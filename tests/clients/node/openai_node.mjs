// openai-node: chat and Responses, whole and streamed, tools by hand and by runTools, embeddings.

import assert from "node:assert/strict";
import OpenAI from "openai";
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

const planner = new OpenAI({ defaultHeaders: PLANNER_HEADERS });
const researcher = new OpenAI({ defaultHeaders: RESEARCHER_HEADERS });
// Without headers: the tags are in the base URL.
const taggedByUrl = new OpenAI({ baseURL: PLANNER_URL });

const LOOKUP = {
  name: "lookup",
  description: "Look a topic up.",
  parameters: {
    type: "object",
    properties: { topic: { type: "string" } },
    required: ["topic"],
    additionalProperties: false,
  },
};

const prompt = (instructions, question) => [
  { role: "system", content: instructions },
  { role: "user", content: question },
];

async function research(question) {
  const runner = researcher.chat.completions.runTools({
    model: MODEL,
    messages: prompt(RESEARCHER, question),
    tools: [
      { type: "function", function: { ...LOOKUP, function: lookup, parse: JSON.parse } },
    ],
  });
  return runner.finalContent();
}

async function researchStreamed(question) {
  const stream = researcher.chat.completions.stream({
    model: MODEL,
    messages: prompt(RESEARCHER, question),
    tools: [{ type: "function", function: LOOKUP }],
  });
  const [call] = (await stream.finalChatCompletion()).choices[0].message.tool_calls;
  return lookup(JSON.parse(call.function.arguments));
}

/** Asks for no usage, so it must not see the chunk that carries it. */
async function planWithoutUsage(notes) {
  const stream = await planner.chat.completions.create({
    model: MODEL,
    messages: prompt(PLANNER, notes),
    stream: true,
  });
  let text = "";
  for await (const chunk of stream) {
    assert.equal(chunk.choices.length, 1, "a chunk without choices that nobody asked for");
    assert.equal(chunk.usage ?? null, null, "usage that nobody asked for");
    text += chunk.choices[0].delta.content ?? "";
  }
  return text;
}

/** Asks for usage, so it must see it once, on the last chunk. */
async function planWithUsage(notes) {
  const stream = await planner.chat.completions.create({
    model: MODEL,
    messages: prompt(PLANNER, notes),
    stream: true,
    stream_options: { include_usage: true },
  });
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  const last = chunks.pop();
  assert.ok(last.usage && last.choices.length === 0);
  assert.ok(chunks.every((chunk) => chunk.usage === null));
  return chunks.map((chunk) => chunk.choices[0].delta.content ?? "").join("");
}

async function researchWithResponses(question) {
  const input = [{ role: "user", content: question }];
  for (;;) {
    const response = await researcher.responses.create({
      model: MODEL,
      instructions: RESEARCHER,
      input,
      tools: [{ type: "function", strict: true, ...LOOKUP }],
    });
    const calls = response.output.filter((item) => item.type === "function_call");
    if (calls.length === 0) return response.output_text;
    input.push(...response.output);
    for (const call of calls) {
      const output = lookup(JSON.parse(call.arguments));
      input.push({ type: "function_call_output", call_id: call.call_id, output });
    }
  }
}

async function planWithResponses(notes) {
  const stream = planner.responses.stream({ model: MODEL, instructions: PLANNER, input: notes });
  const response = await stream.finalResponse();
  assert.ok(response.usage);
  return response.output_text;
}

async function embed(text) {
  const answer = await taggedByUrl.embeddings.create({
    model: "text-embedding-3-small",
    input: text,
  });
  return answer.data[0].embedding.length;
}

const notes = await research(QUESTION);
report(
  await planWithoutUsage(notes),
  ...(await Promise.all([planWithUsage(notes), planWithResponses(notes)])),
  await researchStreamed(QUESTION),
  await researchWithResponses(QUESTION),
  await embed(notes),
);
