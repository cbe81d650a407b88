// The page of a run: bodies are loaded when they are opened, bars are drawn from the times of the steps, and while the
// run is live the page asks what has changed and swaps only that, by the ids of its elements. Nothing is swapped in which
// the reader has the focus, a selection or an opened panel: that waits until he has left it.
import { Waterfall } from "./waterfall.js";

const page = document.getElementById("run");
const url = page.dataset.url;
const loadedAt = performance.now();
const nowAtLoad = Number(page.dataset.now);
const postponed = new Map(); // element → its new content
let etag = "";
let isAsking = false;
let isOutdated = false; // something has changed since it asked

function nowMs() {
  return page.dataset.end ? Number(page.dataset.end) : nowAtLoad + (performance.now() - loadedAt);
}

const waterfall = new Waterfall(page, nowMs);

function draw() {
  waterfall.draw();
}

function isInUse(element) {
  if (document.querySelector("dialog[open]")) return true; // a question is open: its form must stay in the page
  if (element.contains(document.activeElement)) return true;
  const selection = document.getSelection();
  if (selection && !selection.isCollapsed && selection.rangeCount && selection.getRangeAt(0).intersectsNode(element)) return true;
  return element.querySelector("details[open]:not([data-src])") !== null;
}

function swap(element, content) {
  if (isInUse(element)) {
    postponed.set(element, content);
    return;
  }
  postponed.delete(element);
  element.innerHTML = content;
  reopen(element);
  draw();
}

// A body that was opened stays open and is read again; one that is in use says that there is a newer one.
function reopen(element) {
  for (const details of element.querySelectorAll("details[open][data-src]")) load(details);
}

// Where the login has ended, or the run is gone, the page says so itself.
function hasLeft(answer) {
  if (!answer.redirected && answer.status !== 403 && answer.status !== 404) return false;
  location.reload();
  return true;
}

async function load(details) {
  const body = details.querySelector(".body");
  if (!body || "loaded" in body.dataset) return;
  body.dataset.loaded = "";
  const answer = await fetch(new URL(details.dataset.src, new URL(url, location.href)), { credentials: "same-origin" });
  if (hasLeft(answer)) return;
  body.innerHTML = answer.ok ? await answer.text() : "";
  if (answer.ok) return void window.htmx?.process(body);
  delete body.dataset.loaded;
  body.textContent = `This could not be read (${answer.status}). Close and open it to try again.`;
}

function outdate(details) {
  const body = details.querySelector(".body");
  if (!("loaded" in body.dataset)) return;
  delete body.dataset.loaded;
  if (!details.open) return;
  if (!isInUse(body)) {
    load(details);
    return;
  }
  if (body.querySelector(".newer")) return;
  const button = document.createElement("button");
  button.className = "newer";
  button.textContent = "This step has gone on: show it as it is now";
  button.addEventListener("click", () => load(details));
  body.prepend(button);
}

function show(answer) {
  for (const [id, part] of Object.entries(answer.parts)) {
    const element = document.getElementById(id);
    element.dataset.hash = part.hash;
    swap(element, part.html);
  }
  const steps = document.getElementById("steps");
  for (const line of answer.lines) {
    const summary = document.getElementById(`summary-${line.key}`);
    if (!summary) {
      steps.insertAdjacentHTML("beforeend", line.line);
      continue;
    }
    summary.dataset.hash = line.hash;
    swap(summary, line.summary);
    outdate(document.getElementById(`step-${line.key}`));
  }
  steps.dataset.hash = answer.steps;
  draw();
}

function changed(state) {
  const asked = new URLSearchParams();
  for (const [name, hash] of Object.entries(state.parts)) {
    if (document.getElementById(`run-${name}`).dataset.hash !== hash) asked.append("part", name);
  }
  if (document.getElementById("steps").dataset.hash !== state.steps) {
    asked.append("line", "all");
    return asked;
  }
  const shown = [...document.querySelectorAll("#steps > details > summary > span")];
  state.lines.forEach((hash, position) => {
    if (shown[position].dataset.hash !== hash) asked.append("line", position);
  });
  return asked;
}

async function refresh() {
  isOutdated = isAsking;
  if (isAsking) return;
  isAsking = true;
  try {
    const answer = await fetch(`${url}state/`, { headers: etag ? { "If-None-Match": etag } : {}, cache: "no-store" });
    if (hasLeft(answer) || answer.status !== 200) return;
    const state = await answer.json();
    const asked = changed(state);
    if (asked.size) {
      const parts = await fetch(`${url}parts/?${asked}`, { cache: "no-store" });
      if (hasLeft(parts) || !parts.ok) return;
      show(await parts.json());
    }
    etag = answer.headers.get("ETag");
    if (state.endMs !== null) {
      page.dataset.end = state.endMs;
      delete page.dataset.live;
      draw();
    }
  } catch {
    // The server is away for a moment; the next poll tries again.
  } finally {
    isAsking = false;
    if (isOutdated) refresh();
  }
}

function tick() {
  for (const [element, content] of postponed) swap(element, content);
  if (!page.dataset.end && !document.hidden) draw();
}

page.addEventListener("refresh", refresh);
page.addEventListener("toggle", (event) => event.target.open && event.target.dataset.src && load(event.target), true);
for (const details of page.querySelectorAll("details[open][data-src]")) load(details);

// An address with the id of a step opens it, in the list of steps.
function openNamed() {
  const wanted = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!wanted || !wanted.matches("details.step")) return;
  document.getElementById("tab-steps").click();
  wanted.open = true;
  wanted.scrollIntoView({ block: "start" });
  wanted.querySelector("summary").focus({ preventScroll: true });
}

window.addEventListener("hashchange", openNamed);
openNamed();
draw();
window.addEventListener("resize", draw);
setInterval(tick, 1000);
