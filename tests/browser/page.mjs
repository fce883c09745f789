// A browser, and pages that must not do what pages of ours never do.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";

const home = createRequire(join(process.env.BROWSER_TESTS_HOME, "package.json"));
const { chromium } = home("playwright-core");
const axe = await readFile(home.resolve("axe-core/axe.min.js"), "utf8");

export async function browser() {
  return chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
}

// A page whose errors, violations and foreign requests are kept in `page.complaints`.
export async function open(of, { theme = "light", script = true, width = 1400, height = 1000 } = {}) {
  const context = await of.newContext({ colorScheme: theme, javaScriptEnabled: script, viewport: { width, height }, timezoneId: "UTC" });
  const page = await context.newPage();
  page.complaints = [];
  page.expected = [];
  const complain = (text) => { if (!page.expected.some((known) => known.test(text))) page.complaints.push(text); };
  page.on("console", (message) => { if (["error", "warning"].includes(message.type())) complain(`console: ${message.text()}`); });
  page.on("pageerror", (error) => complain(`error: ${error.message}`));
  page.on("dialog", async (dialog) => { complain(`dialog: ${dialog.message()}`); await dialog.dismiss(); });
  page.on("request", (request) => {
    const url = new URL(request.url());
    if (["http:", "https:", "ws:", "wss:"].includes(url.protocol) && url.hostname !== "127.0.0.1") complain(`foreign request: ${url}`);
  });
  if (script) {
    await page.addInitScript(() => {
      addEventListener("securitypolicyviolation", (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
    });
  }
  page.setDefaultTimeout(10_000);
  return page;
}

export function nothingWrong(page) {
  assert.deepEqual(page.complaints, []);
}

// Findings of axe that matter, in a line each.
export async function barriers(page) {
  // Beside the page's policy, as a tester's tool is.
  await page.evaluate(axe);
  const found = await page.evaluate(() => window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"] }));
  const serious = found.violations.filter((it) => ["serious", "critical"].includes(it.impact));
  return serious.flatMap((it) => it.nodes.slice(0, 3).map((node) => `${it.id}: ${node.html.slice(0, 160)} ${node.any[0]?.message ?? ""}`));
}

// Nothing is wider than the window, but what scrolls by itself.
export async function isWithin(page) {
  return page.evaluate(() => document.documentElement.scrollWidth <= document.documentElement.clientWidth);
}
