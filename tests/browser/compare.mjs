// Comparisons and suggestions, with data enough to say something.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { barriers, browser, isWithin, nothingWrong, open } from "./page.mjs";
import { COMPARED, HOSTILE, repeating, variants } from "./scenes.mjs";
import { Model, Proxy } from "./server.mjs";

let chromium, model, proxy;

before(async () => {
  chromium = await browser();
  model = await Model.start();
  proxy = await Proxy.start(model, COMPARED);
  await variants(proxy, model, 30);
  await repeating(proxy, model, 30);
});

after(async () => {
  await chromium?.close();
  await proxy?.stop();
  await model?.stop();
});

const VARIANTS = `/compare?by=variant&metric=score&success=${encodeURIComponent("metric:score>=0.5")}`;
const RUNS = "/compare?a=base-0&b=terse-0";
const PAGES = [VARIANTS, RUNS, "/compare?by=agent", "/compare?by=model", "/compare?by=time&a=14d..7d&b=7d..", "/compare?by=run&a=base-0", "/suggestions", "/suggestions?range=all&rule=repeated_request"];

for (const [theme, width] of [["light", 1400], ["dark", 1400], ["light", 400], ["dark", 400]]) {
  test(`comparisons and suggestions are sound and without barriers, ${theme}, ${width} wide`, async () => {
    const page = await open(chromium, { theme, width });
    for (const path of PAGES) {
      const answer = await page.goto(`${proxy.url}${path}`);
      assert.equal(answer.status(), 200, path);
      assert.equal(await page.locator("h1").count(), 1, path);
      assert.deepEqual(await barriers(page), [], `${path} ${theme}`);
      assert.ok(await isWithin(page), `${path} scrolls sideways`);
    }
    nothingWrong(page);
    await page.context().close();
  });
}

test("two variants are told apart where the data shows it, and only there", async () => {
  const page = await open(chromium);
  await page.goto(`${proxy.url}${VARIANTS}`);
  const main = await page.locator("main").innerText();
  assert.match(main, /terse against base \(30 and 30 runs\): /);
  const row = (key) => page.locator(`[data-key="${key}"]`).innerText();
  assert.match(await row("calls"), /-2\.0.*lower/s);
  assert.match(await row("metric.score"), /no difference shown/);
  assert.match(await row("trip_rate"), /0\.0 %.*no difference shown/s);
  assert.ok(await page.locator("svg.intervals circle").count() >= 3, "differences are drawn");
  const told = await proxy.ask(`/api/v1${VARIANTS}`);
  assert.ok(main.includes(told.sentence), told.sentence);
  await page.getByRole("link", { name: "The other way round" }).click();
  await page.getByText(/base against terse \(30 and 30 runs\): /).waitFor();
  assert.match(await row("calls"), /\+2\.0.*higher/s);
  nothingWrong(page);
  await page.context().close();
});

test("two runs stand side by side, with the words at which they part", async () => {
  const page = await open(chromium);
  await page.goto(`${proxy.url}${RUNS}`);
  await page.getByRole("heading", { name: "Where they part" }).waitFor();
  const diff = page.locator("pre.diff");
  assert.equal(await diff.locator("del").innerText(), "base");
  assert.equal(await diff.locator("ins").innerText(), "terse");
  assert.ok((await diff.innerText()).includes(HOSTILE.split("\u202e")[0]), "what was sent is text");
  assert.equal(await page.locator("main img, main b").count(), 0);
  await page.getByRole("link", { name: "The call of A" }).click();
  await page.waitForURL(/\/calls\//);
  await page.getByText("How high is tide 0?").first().waitFor();
  nothingWrong(page);
  await page.context().close();
});

test("arms are chosen, and runs found, without a script", async () => {
  const page = await open(chromium, { script: false, width: 400 });
  await page.goto(`${proxy.url}/compare`);
  await page.getByLabel("By", { exact: true }).fill("agent");
  await page.getByRole("button", { name: "Compare", exact: true }).click();
  assert.match(page.url(), /by=agent/);
  assert.match(await page.locator("main").innerText(), /hang together/);
  await page.goto(`${proxy.url}/compare?by=run&a=base-0`);
  await page.getByRole("link", { name: "asked-29", exact: true }).click();
  assert.match(await page.locator("main").innerText(), /One run each: base-0 and asked-29/);
  await page.goto(`${proxy.url}/suggestions`);
  assert.match(await page.locator("main").innerText(), /asker sent requests that had been answered within the hour before/);
  await page.context().close();
});

test("a suggestion shows its evidence, and leads to the calls", async () => {
  const page = await open(chromium);
  await page.goto(`${proxy.url}/suggestions`);
  const card = page.locator(".card", { hasText: "asker sent" });
  assert.match(await card.innerText(), /asker sent requests that had been answered within the hour before, byte for byte, 29 times more/);
  const links = card.locator("a[href*='/calls/']");
  assert.ok(await links.count() > 0, "calls are linked");
  await links.first().click();
  await page.waitForURL(/\/calls\//);
  await page.getByText("It has none.").first().waitFor();
  nothingWrong(page);
  await page.context().close();
});
