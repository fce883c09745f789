// What pages are looked at with: a crew that works, one that fails, one that goes round in circles,
// and texts that would do harm if they were anything but text.

import { assistant, system, user } from "./server.mjs";

export const HOSTILE = `</script><img src=x onerror="alert(1)"><b>bold</b> \u202etxt.exe`;

export const CONFIG = `
[loops]
max_delay = "0s"
[[budget]]
name = "each run"
per = ["run"]
usd = 0.05
slow_at = 0.9
max_delay = "10ms"
[[budget]]
name = "everything"
calls = 100000
window = "day"
`;

const TOOL = { id: "call_1", name: "search", arguments: { query: "tides" } };

// A planner that asks a researcher, who calls a tool. Returns the ids of its calls.
export async function crew(proxy, model, run) {
  const ids = [];
  const call = async (it) => { const done = await proxy.call({ run, ...it }); ids.push(done.id); return done; };
  model.says(() => ({ text: "Ask the researcher about tides." }));
  const planner = [system("You are the planner."), user("Write about tides.")];
  await call({ agent: "planner", messages: planner });
  model.says(() => ({ tool: TOOL }));
  const researcher = [system("You are the researcher."), user("What is known about tides?")];
  await call({ agent: "researcher", caller: "planner", messages: researcher });
  researcher.push({ role: "assistant", content: null, tool_calls: [{ id: TOOL.id, type: "function", function: { name: TOOL.name, arguments: JSON.stringify(TOOL.arguments) } }] });
  researcher.push({ role: "tool", tool_call_id: TOOL.id, content: "Tides are known for 18.6 years ahead." });
  model.says(() => ({ text: `The finding: 18.6 years. ${HOSTILE}` }));
  await call({ agent: "researcher", caller: "planner", messages: researcher });
  model.says(() => ({ text: "The report is done." }));
  await call({ agent: "planner", messages: [...planner, assistant("Ask the researcher about tides."), user(`Finding: 18.6 years. ${HOSTILE}`)] });
  return ids;
}

export async function failing(proxy, model, run) {
  model.says(() => ({ status: 500 }));
  await proxy.call({ run, agent: "flaky", messages: [system("You are flaky."), user("Try.")] });
  model.says(() => ({ text: "Now it works." }));
  await proxy.call({ run, agent: "flaky", messages: [system("You are flaky."), user("Try once more.")] });
}

// Greps for the same in vain until it is stopped; how often it was answered.
export async function looping(proxy, model, run) {
  const messages = [system("You are the coder."), user("Mend the parser.")];
  for (let n = 1; n < 40; n++) {
    const tool = { id: `call_${n}`, name: "grep", arguments: { path: "src/parser.rs", pattern: "fn parse_expression" } };
    model.says(() => ({ tool }));
    const done = await proxy.call({ run, agent: "coder", messages });
    if (done.status === 429) return n - 1;
    messages.push(done.body.choices[0].message, { role: "tool", tool_call_id: tool.id, content: "Error: no such file src/parser.rs" });
  }
  throw new Error("it was never stopped");
}

export async function everything(proxy, model) {
  const ids = await crew(proxy, model, "nightly-1");
  await failing(proxy, model, "flaky-1");
  await looping(proxy, model, "circles-1");
  return ids;
}

export const COMPARED = `
[suggestions]
min_usd_per_day = 0.000001
min_calls = 1
`;

// Runs of two variants that say how well they did: `terse` makes two calls less, and does no better.
export async function variants(proxy, model, runs) {
  for (let n = 0; n < runs; n++) {
    for (const variant of ["base", "terse"]) {
      const run = `${variant}-${n}`;
      const calls = (variant === "base" ? 3 : 1) + n % 3;
      for (let call = 0; call < calls; call++) {
        const messages = [system(`You are the ${variant} planner. ${HOSTILE}`), user(`How high is tide ${n}? Part ${call}.`)];
        model.says(() => ({ text: `High, ${n}, ${call}.`, usage: { prompt_tokens: 900 + 7 * n, completion_tokens: 60 + n % 5, total_tokens: 960 + 7 * n + n % 5 } }));
        const score = { "x-aiops-metric-score": String(n % 5 / 4) };
        await proxy.call({ run, agent: call % 2 ? "researcher" : "planner", messages, headers: { "x-aiops-variant": variant, ...(call + 1 === calls ? score : {}) } });
      }
    }
  }
}

// Asks the same, time and again, in ever new runs.
export async function repeating(proxy, model, times) {
  model.says(() => ({ text: "It has none." }));
  for (let n = 0; n < times; n++) {
    await proxy.call({ run: `asked-${n}`, agent: "asker", messages: [system("You ask."), user("What is the capital of tides?")] });
  }
}
