// Pictures of the demo for the README: run.sh BINARY screenshots.mjs DIR

import { spawn } from "node:child_process";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { browser, open } from "./page.mjs";

const target = process.argv[2] ?? "docs/images";
await mkdir(target, { recursive: true });
const dir = await mkdtemp(join(tmpdir(), "open-aiops-pictures-"));
const demo = spawn(process.env.OPEN_AIOPS, ["demo", "--seed", "1", "--dir", dir], { stdio: ["ignore", "pipe", "inherit"] });
const ended = new Promise((done) => demo.on("exit", done));
let said = "";
await new Promise((done, fail) => {
  demo.stdout.on("data", (data) => { said += data; if (said.includes("The dashboard stays")) done(); });
  demo.on("exit", (code) => fail(new Error(`the demo ended with ${code}: ${said}`)));
});
const url = said.match(/dashboard\s+(http\S+?)\/?\s/)[1];
const chromium = await browser();
const page = await open(chromium, { width: 1280, height: 860 });
await page.goto(`${url}/?range=15m`);
await page.screenshot({ path: join(target, "overview.png") });
await page.goto(`${url}/graph?range=1h`);
const graph = await page.locator("figure.graph").boundingBox();
await page.screenshot({ path: join(target, "graph.png"), clip: { x: 0, y: 0, width: 1280, height: Math.min(900, graph.y + graph.height + 16) } });
await chromium.close();
demo.kill("SIGTERM");
await ended;
await rm(dir, { recursive: true, force: true });
console.log(`overview.png and graph.png are in ${target}`);
