// What pages do beyond showing: look again when something happened, keys, copying. All of them
// work without it.

const body = document.body;
let paused = false;
let looking = false;
let again = false;
let missed = false;
let stream = null;
let current = null;

// --- looking again ---

const PATIENCE_MS = 10_000;

async function look() {
  if (paused) return;
  if (looking) { again = true; return; }
  looking = true;
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" }, cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
    if (answer.redirected && new URL(answer.url).pathname === "/login") location.reload();
    else if (answer.ok) exchange(new DOMParser().parseFromString(await answer.text(), "text/html"));
  } catch { /* The stream says when the server is back. */ }
  looking = false;
  if (again) { again = false; look(); }
}

function exchange(page) {
  if (paused) return;
  missed = false;
  for (const fresh of page.querySelectorAll("[data-part]")) {
    const old = document.getElementById(fresh.id);
    if (!old || old.innerHTML === fresh.innerHTML) continue;
    if (old.dataset.held !== undefined && hold(old, fresh)) continue;
    if (!swap(old, fresh)) missed = true;
  }
  body.dataset.snapshot = page.body.dataset.snapshot;
}

// What the reader is at stays: a part with the focus in a field or with a selection waits until it
// is left.
function isInUse(part) {
  const focus = document.activeElement;
  if (focus && focus !== body && part.contains(focus) && focus.matches("input, select, textarea")) return true;
  const selection = getSelection();
  return selection && !selection.isCollapsed && part.contains(selection.anchorNode);
}

let catching = 0;
function catchUp() {
  if (!missed) return;
  clearTimeout(catching);
  catching = setTimeout(look, 300);
}
document.addEventListener("focusout", catchUp);
document.addEventListener("selectionchange", catchUp);

function swap(old, fresh) {
  if (isInUse(old)) return false;
  const opened = [...old.querySelectorAll("details[open][id]")].map((it) => it.id);
  const focus = focusIn(old);
  const scrolled = [...old.querySelectorAll(".scroll")].map((it) => it.scrollLeft);
  old.replaceChildren(...document.importNode(fresh, true).childNodes);
  for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
  old.querySelectorAll(".scroll").forEach((it, index) => { it.scrollLeft = scrolled[index] ?? 0; });
  showCopies(old);
  focus?.();
  mark(current);
  return true;
}

// Where the focus is in a part, and how to bring it back to the same thing.
const FOCUSABLE = "a, button, summary, [tabindex]";
function focusIn(part) {
  const at = document.activeElement;
  if (!at || at === body || !part.contains(at)) return null;
  const row = at.closest("[data-key][id]")?.id;
  const sign = (it) => `${it.tagName} ${it.getAttribute("href") ?? ""} ${it.textContent}`;
  const wanted = sign(at);
  return () => {
    const within = (row && document.getElementById(row)) || part;
    const found = [...within.querySelectorAll(FOCUSABLE)].find((it) => sign(it) === wanted);
    found?.focus({ preventScroll: true });
  };
}

// New rows wait behind a pill, known ones change where they stand. With nothing new, or nothing
// there yet, the part is exchanged as usual.
function hold(old, fresh) {
  const known = new Set([...old.querySelectorAll("[data-key]")].map((row) => row.dataset.key));
  const rows = [...fresh.querySelectorAll("[data-key]")];
  const news = rows.filter((row) => !known.has(row.dataset.key));
  if (known.size === 0 || news.length === 0 || !isRead(old)) { pill(old, null); return false; }
  for (const row of rows) {
    const there = document.getElementById(row.id);
    if (!there || there.innerHTML === row.innerHTML) continue;
    there.className = row.className;
    if (!swap(there, row)) missed = true;
  }
  pill(old, news.length);
  return true;
}

// A list is read once the reader went into it: scrolled down, or with the keys.
const isRead = (part) => part.getBoundingClientRect().top < 0 || (current && part.contains(current));

function pill(part, count) {
  const id = `${part.id}-pill`;
  let there = document.getElementById(id);
  if (!count) { there?.remove(); return; }
  if (!there) {
    there = document.createElement("div");
    there.id = id;
    there.className = "pill-place";
    there.setAttribute("role", "status");
    const button = document.createElement("button");
    button.type = "button";
    button.className = "pill";
    button.onclick = () => { current = null; there.remove(); scrollTo({ top: 0 }); look(); };
    there.append(button);
    part.before(there);
  }
  const words = `${count} new ${count === 1 ? part.dataset.held.replace(/s$/, "") : part.dataset.held}`;
  if (there.firstChild.textContent !== words) there.firstChild.textContent = words;
}

// --- the stream ---

const RETRY_MS = 5000;
const button = document.querySelector("[data-pause]");
function tell(word) { if (button && button.textContent !== word) button.textContent = word; }

function listen() {
  if (body.dataset.live === undefined || stream || paused || document.hidden) return;
  stream = new EventSource("/live");
  stream.onopen = () => tell("Live");
  stream.addEventListener("tick", (event) => { if (event.data !== body.dataset.snapshot) look(); });
  stream.onerror = () => {
    if (!stream) return;
    tell("Not connected");
    // A browser tries again by itself but after an answer that is none: too many open pages, or a
    // session that ended, which looking shows.
    if (stream.readyState === EventSource.CLOSED) { hush(); look(); setTimeout(listen, RETRY_MS); }
  };
}

function hush() { stream?.close(); stream = null; }

function pause(now) {
  paused = now;
  if (!button) return;
  tell(paused ? "Paused" : "Live");
  if (paused) hush(); else { listen(); look(); }
}
if (button) { button.hidden = false; button.onclick = () => pause(!paused); }
document.addEventListener("visibilitychange", () => { if (document.hidden) hush(); else { listen(); if (body.dataset.live !== undefined) look(); } });
addEventListener("pagehide", hush);
addEventListener("pageshow", listen);

// --- copying ---

// Browsers copy for pages from this machine and for secure ones alone.
function showCopies(within) {
  if (navigator.clipboard) for (const it of within.querySelectorAll("[data-copy]")) it.hidden = false;
}
showCopies(document);

document.addEventListener("click", async (event) => {
  const source = event.target.closest?.("[data-copy]");
  if (!source) return;
  const before = source.textContent;
  try {
    await navigator.clipboard.writeText(source.dataset.copy || source.previousElementSibling?.textContent || "");
    source.textContent = "Copied";
  } catch { source.textContent = "Not copied"; }
  setTimeout(() => { source.textContent = before; }, 1500);
});

// --- keys ---

const OFF = "aiops-keys-off";
const help = document.getElementById("keys");
const off = document.getElementById("keys-off");
const stored = () => { try { return localStorage.getItem(OFF); } catch { return null; } };
if (off) {
  off.checked = stored() !== null;
  off.onchange = () => { try { off.checked ? localStorage.setItem(OFF, "1") : localStorage.removeItem(OFF); } catch { /* not kept */ } };
}
const opener = document.querySelector("[data-keys]");
if (opener) { opener.hidden = false; opener.onclick = () => help?.showModal(); }
let going = false;
// Of a page with a list to read: its rows; else all.
const rows = () => [...(document.querySelector("main [data-held]") ?? document.querySelector("main")).querySelectorAll("[data-key]")];
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
