// The dashboard as people use it. Facts are waited for, never slept for.

import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { pathToFileURL } from "node:url";

import { barriers, browser, isWithin, nothingWrong, open } from "./page.mjs";
import { CONFIG, HOSTILE, crew, everything, looping } from "./scenes.mjs";
import { Model, Proxy, system, user } from "./server.mjs";

let chromium, model, proxy, empty, calls;

before(async () => {
  chromium = await browser();
  model = await Model.start();
  empty = await Proxy.start(model);
  proxy = await Proxy.start(model, CONFIG);
  calls = await everything(proxy, model);
});

after(async () => {
  await chromium?.close();
  await proxy?.stop();
  await empty?.stop();
  await model?.stop();
});

const LISTS = ["/", "/graph", "/runs", "/runs?sort=score&metric=score%3E0", "/budgets", "/loops", "/compare", "/alerts", "/search?q=tides"];
const full = () => [...LISTS, "/runs/nightly-1", "/runs/nightly-1?view=steps", "/runs/circles-1", "/graph?run=nightly-1", ...["messages", "raw", "headers", "usage", "attribution", "decisions"].map((tab) => `/calls/${calls[2]}?tab=${tab}`)];

for (const theme of ["light", "dark"]) {
  test(`every page is sound and without barriers, ${theme}`, async (t) => {
    const page = await open(chromium, { theme });
    for (const [server, paths] of [[empty, LISTS], [proxy, full()]]) {
      for (const path of paths) {
        await page.goto(`${server.url}${path}`);
        assert.equal(await page.locator("h1").count(), 1, path);
        assert.deepEqual(await barriers(page), [], `${path} ${theme}`);
        assert.ok(await isWithin(page), `${path} scrolls sideways`);
      }
    }
    nothingWrong(page);
    await page.context().close();
    t.diagnostic(`${LISTS.length + full().length} pages`);
  });
}

test("every page fits a small window", async () => {
  const page = await open(chromium, { width: 400, height: 800 });
  for (const path of full()) {
    await page.goto(`${proxy.url}${path}`);
    assert.ok(await isWithin(page), `${path} scrolls sideways`);
  }
  nothingWrong(page);
  await page.context().close();
});

test("links and forms work without a script", async () => {
  const page = await open(chromium, { script: false });
  await page.goto(`${proxy.url}/`);
  await page.getByRole("link", { name: "Runs", exact: true }).click();
  await page.getByRole("link", { name: "nightly-1" }).first().click();
  assert.match(page.url(), /\/runs\/nightly-1/);
  await page.getByRole("searchbox").fill("tides");
  await page.getByRole("searchbox").press("Enter");
  assert.match(page.url(), /\/search\?q=tides/);
  await page.context().close();
});

test("a call is on the overview within a second", async (t) => {
  const page = await open(chromium);
  await page.goto(`${proxy.url}/`);
  model.says(() => ({ text: "Quick." }));
  const took = [];
  for (let n = 0; n < 5; n++) {
    const before = await page.locator("#tiles").innerText();
    const begun = Date.now();
    await proxy.call({ run: "live-1", agent: "quick", messages: [system("You are quick."), user(`Question ${n}`)] });
    await page.waitForFunction((old) => document.querySelector("#tiles").innerText !== old, before);
    took.push(Date.now() - begun);
  }
  t.diagnostic(`seen after ${took.join(", ")} ms`);
  assert.ok(Math.min(...took) < 1000, `${took} ms`);
  nothingWrong(page);
  await page.context().close();
});

test("a run that is being made grows, and what is read stays", async () => {
  const page = await open(chromium);
  await page.goto(`${proxy.url}/runs`);
  const rows = page.locator("main tbody tr");
  await rows.first().waitFor();
  await page.keyboard.press("j");
  const before = await rows.count();
  await crew(proxy, model, "pill-1");
  const pill = page.getByRole("status").filter({ hasText: /1 new runs?/ });
  await pill.waitFor();
  assert.equal(await rows.count(), before, "nothing moved under the reader");
  await pill.click();
  await page.getByRole("link", { name: "pill-1" }).first().waitFor();
  nothingWrong(page);
  await page.context().close();
});

test("a paused page waits, and sees all when it goes on", async () => {
  const page = await open(chromium);
  await page.goto(`${proxy.url}/`);
  await page.getByRole("button", { name: "Live" }).click();
  const tile = page.locator("#tiles");
  const before = await tile.innerText();
  const other = await open(chromium);
  await other.goto(`${proxy.url}/`);
  const seen = await other.locator("#tiles").innerText();
  model.says(() => ({ text: "Meanwhile." }));
  await proxy.call({ run: "paused-1", agent: "quick", messages: [user("Something")] });
  // When the other page has seen it, this one could have.
  await other.waitForFunction((old) => document.querySelector("#tiles").innerText !== old, seen);
  assert.equal(await tile.innerText(), before);
  await page.getByRole("button", { name: "Paused" }).click();
  await page.waitForFunction((old) => document.querySelector("#tiles").innerText !== old, before);
  nothingWrong(page);
  nothingWrong(other);
  await page.context().close();
  await other.context().close();
});

test("a page finds its server again", async () => {
  const page = await open(chromium);
  page.expected.push(/ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED|Failed to load resource|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET/);
  await page.goto(`${proxy.url}/`);
  const before = await page.locator("#tiles").innerText();
  await proxy.end();
  await proxy.begin();
  model.says(() => ({ text: "Back." }));
  await proxy.call({ run: "again-1", agent: "quick", messages: [user("Are you there?")] });
  await page.waitForFunction((old) => document.querySelector("#tiles").innerText !== old, before, { timeout: 20_000 });
  nothingWrong(page);
  await page.context().close();
});

test("a theme is chosen and kept", async () => {
  const page = await open(chromium);
  await page.goto(`${proxy.url}/runs`);
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await ground();
  await page.getByRole("link", { name: /^Theme/ }).click();
  assert.match(page.url(), /\/runs/);
  assert.notEqual(await ground(), light);
  await page.goto(`${proxy.url}/loops`);
  assert.notEqual(await ground(), light);
  nothingWrong(page);
  await page.context().close();
});

test("keys go, search, help and can be switched off", async () => {
  const page = await open(chromium);
  await page.goto(`${proxy.url}/`);
  await page.keyboard.press("g");
  await page.keyboard.press("r");
  await page.waitForURL(/\/runs/);
  await page.keyboard.press("?");
  await page.getByRole("dialog").waitFor();
  assert.deepEqual(await barriers(page), []);
  await page.getByRole("checkbox", { name: /switch them off/ }).check();
  await page.keyboard.press("Escape");
  await page.keyboard.press("/");
  assert.notEqual(await page.evaluate(() => document.activeElement.name), "q");
  await page.keyboard.press("?");
  assert.equal(await page.getByRole("dialog").count(), 0);
  nothingWrong(page);
  await page.context().close();
});

test("filters are in the address, and back brings them back", async () => {
  const page = await open(chromium);
  await page.goto(`${proxy.url}/runs?agent=flaky`);
  const rows = page.locator("main tbody tr");
  assert.equal(await rows.count(), 1);
  await rows.getByRole("link").first().click();
  await page.waitForURL(/\/runs\/flaky-1/);
  await page.goBack();
  assert.equal(await rows.count(), 1);
  await page.goto(`${proxy.url}/runs?agent=nobody`);
  await page.getByText(/nobody/).first().waitFor();
  nothingWrong(page);
  await page.context().close();
});

test("what a model says is text and nothing else", async () => {
  const page = await open(chromium);
  for (const path of ["/runs/nightly-1?view=steps", `/calls/${calls[2]}?tab=messages`, `/calls/${calls[2]}?tab=raw`]) {
    await page.goto(`${proxy.url}${path}`);
    assert.equal(await page.locator("main img, main b").count(), 0, path);
    assert.ok((await page.locator("main").innerText()).includes("<img src=x onerror="), path);
  }
  assert.ok(HOSTILE.includes("onerror"));
  nothingWrong(page);
  await page.context().close();
});

test("every table is a file as well", async () => {
  const page = await open(chromium);
  for (const path of ["/runs", "/graph", "/budgets", "/loops", "/runs/nightly-1"]) {
    await page.goto(`${proxy.url}${path}`);
    const links = await page.locator(".exports a").evaluateAll((all) => all.map((it) => it.getAttribute("href")));
    assert.ok(links.length >= 2, `${path} has exports`);
    for (const link of links.filter((it) => /[?&]export=/.test(it))) {
      const answer = await page.request.get(`${proxy.url}${link}`);
      assert.equal(answer.status(), 200, link);
      assert.match(answer.headers()["content-disposition"], /attachment/);
      const text = await answer.text();
      if (link.includes(".json")) assert.ok(Array.isArray(JSON.parse(text)), link);
      else assert.match(text, /^[a-z_]+(,[a-z_0-9]+)*\r\n/, link);
    }
  }
  nothingWrong(page);
  await page.context().close();
});

test("a run is stepped through by keys, call by call", async () => {
  const page = await open(chromium);
  await page.goto(`${proxy.url}/runs/nightly-1`);
  await page.getByRole("link", { name: "Steps" }).click();
  await page.waitForURL(/view=steps/);
  const seen = [];
  for (let n = 0; n < 4; n++) {
    await page.keyboard.press("j");
    seen.push(await page.locator(".at").first().innerText());
  }
  assert.equal(new Set(seen).size, 4, "four calls, one after the other");
  assert.match(seen[0], /planner/);
  assert.match(seen[1], /researcher/);
  assert.match(seen[1], /search/);
  assert.match(seen[2], /Tides are known for 18.6 years/, "what the tool said is what was new");
  assert.doesNotMatch(seen[2], /What is known about tides/, "what was sent before is not shown again");
  await page.keyboard.press("k");
  assert.equal(await page.locator(".at").first().innerText(), seen[2]);
  nothingWrong(page);
  await page.context().close();
});

test("a call of the timeline opens below its row, and has a page", async () => {
  const page = await open(chromium);
  await page.goto(`${proxy.url}/runs/nightly-1?fold=false`);
  await page.locator("[data-held] [data-key]").first().getByRole("link").first().click();
  await page.waitForURL(/call=/);
  await page.getByText("Write about tides.").first().waitFor();
  assert.deepEqual(await barriers(page), []);
  await page.goto(`${proxy.url}/calls/${calls[0]}?tab=headers`);
  const text = await page.locator("main").innerText();
  assert.match(text, /authorization/i);
  assert.ok(!text.includes("sk-test-0123456789abcdef"), "a key is never shown");
  nothingWrong(page);
  await page.context().close();
});

test("a budget is raised with the keyboard alone", async () => {
  const page = await open(chromium);
  await page.goto(`${proxy.url}/budgets`);
  const raise = page.getByRole("link", { name: /raise/i }).first();
  await raise.focus();
  await page.keyboard.press("Enter");
  await page.waitForURL(/budgets\/raise/);
  assert.deepEqual(await barriers(page), []);
  await page.getByLabel(/USD more|more/).first().focus();
  await page.keyboard.type("3");
  await page.keyboard.press("Enter");
  const confirm = page.locator("section.deed button");
  await confirm.waitFor();
  assert.match(await page.locator("section.deed").innerText(), /may|more/);
  assert.deepEqual(await barriers(page), []);
  await confirm.focus();
  await page.keyboard.press("Enter");
  await page.waitForURL((url) => url.pathname === "/budgets");
  await page.getByText(/raised/i).first().waitFor();
  const events = (await proxy.ask("/api/v1/events")).events;
  assert.ok(events.some((it) => it.what === "budget_raised" && it.who === "dashboard"));
  nothingWrong(page);
  await page.context().close();
});

test("a run is paused, and resumed", async () => {
  const page = await open(chromium);
  await page.goto(`${proxy.url}/runs/nightly-1`);
  await page.getByRole("link", { name: "Pause" }).click();
  await page.locator("section.deed button").click();
  await page.waitForURL(/\/runs\/nightly-1/);
  await page.getByText("paused", { exact: true }).first().waitFor();
  await page.getByRole("link", { name: "Resume" }).click();
  await page.locator("section.deed button").click();
  await page.waitForURL(/\/runs\/nightly-1/);
  assert.equal((await proxy.ask("/api/v1/runs/nightly-1")).control, "running");
  nothingWrong(page);
  await page.context().close();
});

test("a person gives a run and a call a score, and sees it", async () => {
  const page = await open(chromium);
  page.expected.push(/400 \(Bad Request\)/);
  const enter = async (name, value) => {
    await page.getByText("Add a metric", { exact: true }).first().click();
    const form = page.getByRole("form", { name: "Add a metric" });
    await form.getByLabel("Metric").fill(name);
    await form.getByLabel("Value").fill(value);
    await form.getByRole("button", { name: "Add it" }).click();
  };
  await page.goto(`${proxy.url}/runs/nightly-1`);
  await enter("two words", "0.8");
  await page.getByRole("alert").filter({ hasText: "name: expected letters" }).waitFor();
  assert.equal(await page.getByLabel("Value").inputValue(), "0.8", "what was typed stays");
  assert.deepEqual(await barriers(page), []);
  await page.getByRole("textbox", { name: "Metric" }).fill("quality");
  await page.getByLabel("Value").press("Enter");
  await page.waitForURL(/\/runs\/nightly-1/);
  await page.getByText("quality = 0.8 was recorded for the run nightly-1.").waitFor();
  const row = page.getByRole("row").filter({ hasText: "quality" }).filter({ hasText: "dashboard" });
  assert.match(await row.innerText(), /0\.8/);
  await page.goto(`${proxy.url}/calls/${calls[0]}`);
  await enter("solved", "true");
  await page.getByText("solved = true was recorded").waitFor();
  await page.getByRole("row").filter({ hasText: "solved" }).filter({ hasText: "dashboard" }).waitFor();
  const { measurements } = await proxy.ask("/api/v1/metrics/quality?run=nightly-1");
  assert.deepEqual(measurements.map((it) => [it.value, it.who]), [[0.8, "dashboard"]]);
  nothingWrong(page);
  await page.context().close();
});

test("a loop that was stopped is shown with its evidence, and let go on", async () => {
  const page = await open(chromium);
  await looping(proxy, model, "circles-2");
  await page.goto(`${proxy.url}/loops`);
  const text = await page.locator("main").innerText();
  for (const part of ["circles-2", "grep", "no such file"]) assert.ok(text.includes(part), part);
  await page.locator(".card", { hasText: "circles-2" }).getByRole("link", { name: /go on/i }).click();
  await page.locator("section.deed button").click();
  await page.waitForURL((url) => url.pathname === "/loops");
  const loops = (await proxy.ask("/api/v1/loops")).loops;
  assert.equal(loops.find((it) => it.run === "circles-2").is_open, false);
  nothingWrong(page);
  await page.context().close();
});

test("a run that was exported opens from a file, without anything else", async () => {
  const page = await open(chromium);
  const dir = await mkdtemp(join(tmpdir(), "open-aiops-export-"));
  for (const [texts, has] of [["", false], ["?texts=true", true]]) {
    const answer = await page.request.get(`${proxy.url}/runs/nightly-1/export.html${texts}`);
    const html = await answer.text();
    assert.equal(html.includes("Tides are known for 18.6 years"), has, "texts only when they are asked for");
    assert.ok(!/<script|<[a-z][^>]*\s(src|href)="?[^#"]/i.test(html), "nothing runs, nothing is fetched");
    const file = join(dir, `run${texts ? "-texts" : ""}.html`);
    await writeFile(file, html);
    await page.goto(pathToFileURL(file).href);
    await page.getByRole("heading", { name: /nightly-1/ }).first().waitFor();
    assert.equal(await page.locator("img, script").count(), 0);
  }
  await rm(dir, { recursive: true, force: true });
  nothingWrong(page);
  await page.context().close();
});

test("where a token is needed, nothing is seen without it", async () => {
  const TOKEN = "browser-token-0123456789";
  const closed = await Proxy.start(model, "token_env = \"AIOPS_TEST_TOKEN\"", { AIOPS_TEST_TOKEN: TOKEN });
  try {
    const page = await open(chromium);
    page.expected.push(/403/);
    await page.goto(`${closed.url}/runs?range=1h`);
    assert.match(page.url(), /\/login/);
    assert.deepEqual(await barriers(page), []);
    const field = page.getByLabel(/token/i);
    await field.fill("not-the-token-0123456789");
    await field.press("Enter");
    await page.getByText(/not|wrong/i).first().waitFor();
    await page.getByLabel(/token/i).fill(TOKEN);
    await page.getByLabel(/token/i).press("Enter");
    await page.waitForURL(/\/runs\?range=1h/);
    await page.getByRole("button", { name: "Log out" }).click();
    await page.goto(`${closed.url}/runs`);
    assert.match(page.url(), /\/login/);
    nothingWrong(page);
    await page.context().close();
  } finally {
    await closed.stop();
  }
});
