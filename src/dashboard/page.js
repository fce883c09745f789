// What pages do beyond showing: look again when something happened, keys, copying. All of them
// work without it.

const body = document.body;
let paused = false;
let looking = false;
let again = false;
let stream = null;

// --- looking again ---

async function look() {
  if (paused) return;
  if (looking) { again = true; return; }
  looking = true;
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" }, cache: "no-store" });
    if (answer.redirected && new URL(answer.url).pathname === "/login") location.reload();
    else if (answer.ok) exchange(new DOMParser().parseFromString(await answer.text(), "text/html"));
  } catch { /* The stream says when the server is back. */ }
  looking = false;
  if (again) { again = false; look(); }
}

function exchange(page) {
  if (paused) return;
  for (const fresh of page.querySelectorAll("[data-part]")) {
    const old = document.getElementById(fresh.id);
    if (!old || old.innerHTML === fresh.innerHTML) continue;
    if (old.dataset.held !== undefined && hold(old, fresh)) continue;
    swap(old, fresh);
  }
  body.dataset.snapshot = page.body.dataset.snapshot;
}

// What the reader is at stays: a part with the focus, a selection or a dialog waits for later.
function isInUse(part) {
  const focus = document.activeElement;
  if (focus && focus !== body && part.contains(focus) && focus.matches("input, select, textarea, button")) return true;
  const selection = getSelection();
  return selection && !selection.isCollapsed && part.contains(selection.anchorNode);
}

function swap(old, fresh) {
  if (isInUse(old)) return;
  const opened = [...old.querySelectorAll("details[open][id]")].map((it) => it.id);
  const focused = old.contains(document.activeElement) ? keyOf(document.activeElement) : null;
  const scrolled = [...old.querySelectorAll(".scroll")].map((it) => it.scrollLeft);
  old.replaceChildren(...document.importNode(fresh, true).childNodes);
  for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
  old.querySelectorAll(".scroll").forEach((it, index) => { it.scrollLeft = scrolled[index] ?? 0; });
  if (focused) document.getElementById(focused)?.querySelector("a")?.focus({ preventScroll: true });
  mark(current);
}

const keyOf = (element) => element.closest("[data-key][id]")?.id ?? null;

// New rows wait behind a pill, known ones change where they stand. With nothing new, or nothing
// there yet, the part is exchanged as usual.
function hold(old, fresh) {
  const known = new Set([...old.querySelectorAll("[data-key]")].map((row) => row.dataset.key));
  const rows = [...fresh.querySelectorAll("[data-key]")];
  const news = rows.filter((row) => !known.has(row.dataset.key));
  if (known.size === 0 || news.length === 0 || !isRead(old)) { pill(old, null); return false; }
  for (const row of rows) {
    const there = document.getElementById(row.id);
    if (there && there.innerHTML !== row.innerHTML && !isInUse(there)) {
      const opened = [...there.querySelectorAll("details[open][id]")].map((it) => it.id);
      there.className = row.className;
      there.innerHTML = row.innerHTML;
      for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
    }
  }
  pill(old, news.length);
  return true;
}

// A list is read once the reader went into it: scrolled down, or with the keys.
const isRead = (part) => scrollY > part.getBoundingClientRect().top + scrollY || (current && part.contains(current));

function pill(part, count) {
  const id = `${part.id}-pill`;
  const there = document.getElementById(id);
  if (!count) { there?.remove(); return; }
  const button = there ?? document.createElement("button");
  button.id = id;
  button.type = "button";
  button.className = "pill";
  button.setAttribute("role", "status");
  button.textContent = `${count} new ${part.dataset.held}`;
  button.onclick = () => { current = null; button.remove(); scrollTo({ top: 0 }); look(); };
  if (!there) part.before(button);
}

// --- the stream ---

function listen() {
  if (body.dataset.live === undefined || stream || paused || document.hidden) return;
  stream = new EventSource("/live");
  stream.addEventListener("tick", (event) => { if (event.data !== body.dataset.snapshot) look(); });
  // A browser tries again by itself but after an answer that is none, such as too many open pages.
  stream.onerror = () => { if (stream?.readyState === EventSource.CLOSED) { hush(); setTimeout(listen, 5000); } };
}

function hush() { stream?.close(); stream = null; }

const button = document.querySelector("[data-pause]");
function pause(now) {
  paused = now;
  if (!button) return;
  button.setAttribute("aria-pressed", String(paused));
  button.textContent = paused ? "Paused" : "Live";
  if (paused) hush(); else { listen(); look(); }
}
if (button) { button.hidden = false; button.onclick = () => pause(!paused); }
document.addEventListener("visibilitychange", () => { if (document.hidden) hush(); else { listen(); if (body.dataset.live !== undefined) look(); } });
addEventListener("pagehide", hush);
addEventListener("pageshow", listen);

// --- copying ---

document.addEventListener("click", async (event) => {
  const source = event.target.closest?.("[data-copy]");
  if (!source) return;
  await navigator.clipboard?.writeText(source.dataset.copy || source.previousElementSibling?.textContent || "");
  const before = source.textContent;
  source.textContent = "Copied";
  setTimeout(() => { source.textContent = before; }, 1500);
});
for (const it of document.querySelectorAll("[data-copy]")) it.hidden = false;

// --- keys ---

const OFF = "aiops-keys-off";
const help = document.getElementById("keys");
const off = document.getElementById("keys-off");
const stored = () => { try { return localStorage.getItem(OFF); } catch { return null; } };
if (off) {
  off.checked = stored() !== null;
  off.onchange = () => { try { off.checked ? localStorage.setItem(OFF, "1") : localStorage.removeItem(OFF); } catch { /* not kept */ } };
}
let current = null;
let going = false;
const rows = () => [...document.querySelectorAll("main [data-key]")];
const PLACES = { o: "/", g: "/graph", r: "/runs", b: "/budgets", l: "/loops", a: "/alerts" };

function mark(row) {
  const there = row && document.getElementById(row.id);
  document.querySelectorAll(".at:not([data-at])").forEach((it) => it.classList.remove("at"));
  current = there ?? null;
  there?.classList.add("at");
}

function step(by, same) {
  let all = rows();
  const agent = current?.dataset.agent;
  if (same && agent) all = all.filter((row) => row.dataset.agent === agent);
  const at = all.findIndex((row) => row.id === current?.id);
  const next = all[at < 0 ? 0 : Math.min(Math.max(at + by, 0), all.length - 1)];
  if (!next) return;
  mark(next);
  next.scrollIntoView({ block: "nearest" });
  next.querySelector("a, summary")?.focus({ preventScroll: true });
}

function place(key) {
  const link = document.querySelector(`.places a[href="${PLACES[key]}"], .places a[href^="${PLACES[key]}?"]`);
  link?.click();
}

const ACTIONS = {
  j: () => step(1), k: () => step(-1), "]": () => step(1, true), "[": () => step(-1, true),
  o: () => (current?.querySelector("a, summary"))?.click(),
  "/": () => document.querySelector(".search input")?.focus(),
  p: () => pause(!paused),
  "?": () => help?.showModal(),
  g: () => { going = true; setTimeout(() => { going = false; }, 1500); },
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || off?.checked || help?.open) return;
  if (event.target.matches?.("input, textarea, select")) { if (event.key === "Escape") event.target.blur(); return; }
  if (going && PLACES[event.key]) { going = false; event.preventDefault(); place(event.key); return; }
  const action = ACTIONS[event.key];
  if (action) { event.preventDefault(); action(); }
});

// --- where a link points into the page ---

document.querySelector("[data-at]")?.scrollIntoView({ block: "center" });
listen();
