// The proxy under test, and a model behind it that says what it is told to say.

import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";

// The model answers at once, or when it is let go: a call that runs as long as a test wants.
export class Model {
  #held = [];
  #reply = () => ({ text: "Done." });
  holding = false;

  static async start() {
    const model = new Model();
    model.server = createServer((request, response) => model.#answer(request, response));
    await new Promise((done) => model.server.listen(0, "127.0.0.1", done));
    model.url = `http://127.0.0.1:${model.server.address().port}/v1`;
    return model;
  }

  says(reply) { this.#reply = reply; }
  letGo() { for (const go of this.#held.splice(0)) go(); }

  async #answer(request, response) {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const asked = JSON.parse(Buffer.concat(chunks).toString() || "{}");
    if (this.holding) await new Promise((go) => this.#held.push(go));
    const reply = this.#reply(asked);
    response.writeHead(reply.status ?? 200, { "content-type": "application/json", connection: "close" });
    if (reply.status) return response.end(JSON.stringify({ error: { message: "no", type: "server_error" } }));
    const message = { role: "assistant", content: reply.text ?? null };
    if (reply.tool) {
      message.tool_calls = [{ id: reply.tool.id, type: "function", function: { name: reply.tool.name, arguments: JSON.stringify(reply.tool.arguments) } }];
    }
    response.end(JSON.stringify({
      id: `chatcmpl-${Math.random().toString(36).slice(2)}`, object: "chat.completion", created: 1, model: asked.model,
      choices: [{ index: 0, message, finish_reason: reply.tool ? "tool_calls" : "stop" }],
      usage: reply.usage ?? { prompt_tokens: 1200, completion_tokens: 80, total_tokens: 1280 },
    }));
  }

  async stop() {
    this.letGo();
    this.server.closeAllConnections();
    await new Promise((done) => this.server.close(done));
  }
}

export class Proxy {
  // `sections` are added to the configuration; `env` to the environment.
  static async start(model, sections = "", env = {}) {
    const proxy = new Proxy();
    proxy.dir = await mkdtemp(join(tmpdir(), "open-aiops-browser-"));
    proxy.env = env;
    proxy.ports = [0, 0];
    proxy.config = ([listen, admin]) => `
[proxy]
listen = "127.0.0.1:${listen}"
[admin]
listen = "127.0.0.1:${admin}"
${sections.startsWith("token_env") ? `${sections.split("\n")[0]}\n` : ""}
[ledger]
dir = "${join(proxy.dir, "ledger")}"
${sections.startsWith("token_env") ? sections.split("\n").slice(1).join("\n") : sections}
[[upstream]]
name = "scripted"
base_url = "${model.url}"
`;
    await proxy.begin();
    return proxy;
  }

  async begin() {
    const file = join(this.dir, "config.toml");
    await writeFile(file, this.config(this.ports));
    this.process = spawn(process.env.OPEN_AIOPS, ["serve", "--config", file], {
      stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, RUST_LOG: "warn", ...this.env },
    });
    this.ended = new Promise((done) => this.process.on("exit", done));
    this.log = "";
    this.process.stderr.on("data", (data) => { this.log += data; });
    let said = "";
    await new Promise((done, fail) => {
      this.process.stdout.on("data", (data) => { said += data; if (said.includes("admin listening on")) done(); });
      this.process.on("exit", (code) => fail(new Error(`it ended with ${code}: ${this.log}`)));
    });
    this.api = said.match(/proxy listening on (\S+)/)[1];
    this.url = said.match(/admin listening on (\S+)/)[1];
    // Once more it listens where it did before, as a browser expects.
    this.ports = [this.api, this.url].map((url) => Number(new URL(url).port));
  }

  async end() {
    this.process.kill("SIGTERM");
    await this.ended;
  }

  async stop() {
    await this.end();
    await rm(this.dir, { recursive: true, force: true });
  }

  // One call of an agent; `messages` is its whole history.
  async call({ run, agent, caller, messages, model = "gpt-5-mini", headers = {} }) {
    const tags = { "x-aiops-run": run, "x-aiops-agent": agent, "x-aiops-caller": caller, ...headers };
    const said = Object.entries(tags).filter(([, value]) => value !== undefined);
    const answer = await fetch(`${this.api}/v1/chat/completions`, {
      method: "POST", headers: { "content-type": "application/json", authorization: "Bearer sk-test-0123456789abcdef", ...Object.fromEntries(said) },
      body: JSON.stringify({ model, messages, max_completion_tokens: 200 }),
    });
    return { status: answer.status, id: answer.headers.get("x-aiops-call"), body: await answer.json() };
  }

  async ask(path) { return (await fetch(`${this.url}${path}`)).json(); }
}

export const user = (content) => ({ role: "user", content });
export const system = (content) => ({ role: "system", content });
export const assistant = (content) => ({ role: "assistant", content });
