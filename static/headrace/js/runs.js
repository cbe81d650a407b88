// The list of runs: rows that change are swapped by their ids, new ones are put in front while nobody points at the
// list, and offered with a button else. Choosing rows, the times of the filters (in the viewer's zone; the address has
// UTC), and zooming by the chart.
import { duration } from "./time.js";
import { hasAnswerSwitched, shown as shownOrganization } from "./organization.js";

const COUNTS_EVERY_MS = 20000; // or a third as often as the rows, where those have to wait
const PAGE = 50;
const ENDS = ["completed", "failed", "cancelled"];
let isAsking = false;
let isOutdated = false; // something has changed since it asked
let waiting = []; // new rows that are not shown yet
let older = ""; // where they go on, if they are a page
let countedAt = performance.now();

const list = () => document.querySelector("#runs .list");
const body = () => document.querySelector("#runs tbody");

function isInUse(row) {
  return row.contains(document.activeElement) || row.querySelector("input:checked") !== null;
}

function parse(html) {
  const made = document.createElement("template");
  made.innerHTML = html.trim();
  return made.content.firstElementChild;
}

// What the stream tells of a run that is shown: whether its row says it by now, so that nothing is fetched for it.
function isSaid(word) {
  const row = document.getElementById(`run-${word.run}`);
  if (!row) return false;
  if ("ended" in row.dataset) return true;
  if (word.kind === "run-status" && ENDS.includes(word.status)) {
    end(row, word);
    return true;
  }
  return word.status !== "waiting" && row.querySelector(".status.running") !== null;
}

// The list is fetched some time later, and brings the rest of the row.
function end(row, { run, status, at, error }) {
  const pill = row.querySelector(".status");
  if (pill) Object.assign(pill, { className: `status ${status}`, textContent: status });
  const cell = (name) => row.querySelector(`[data-column=${name}]`);
  const ticks = row.querySelector("hr-ticks");
  if (ticks && at) {
    const lasted = Object.assign(document.createElement("span"), { className: "duration" });
    lasted.textContent = duration(Math.max(0, new Date(at) - new Date(ticks.dataset.since)));
    ticks.replaceWith(lasted);
  }
  if (cell("ended") && at) cell("ended").replaceChildren(moment(at));
  if (cell("error")) cell("error").textContent = error;
  const box = row.querySelector("input[name=run]");
  if (box && !box.checked) box.value = `${run}:${status}`; // one that was chosen before says what was seen then
}

function moment(at) {
  const inner = Object.assign(document.createElement("time"), { dateTime: at, textContent: at });
  const made = document.createElement("hr-time");
  made.append(inner);
  return made;
}

// A dialog is open: what it asks about stays as it is.
const isAsked = () => document.querySelector("dialog[open]") !== null;

// Under a pointer, a focus or a choice nothing moves.
function isHeld() {
  if (isAsked()) return true;
  const table = document.querySelector("#runs .table");
  return Boolean(table && (table.matches(":hover") || table.contains(document.activeElement) || table.querySelector("input:checked") || document.querySelector("#runs tr.cursor")));
}

async function refresh() {
  const shown = list();
  isOutdated = isAsking;
  if (isAsking || !shown?.dataset.rowsUrl) return;
  isAsking = true;
  try {
    const rows = [...document.querySelectorAll("#runs tbody tr[id]")];
    const asked = rows.filter((row, place) => place === 0 || !("ended" in row.dataset)); // what has ended stays as it is
    const hash = (row) => ("ended" in row.dataset ? "ended" : row.dataset.hash);
    const known = [...waiting.map((each) => `${each.id}:new`), ...asked.map((row) => `${row.id.slice(4)}:${hash(row)}`)];
    const separator = shown.dataset.rowsUrl.includes("?") && !shown.dataset.rowsUrl.endsWith("?") ? "&" : "";
    const answer = await fetch(`${shown.dataset.rowsUrl}${separator}shown=${known.slice(0, 200).join(",")}`, { cache: "no-store", headers: shownOrganization });
    if (hasAnswerSwitched(answer)) return;
    if (answer.redirected || answer.status === 403) return void location.reload();
    if (!answer.ok || shown !== list() || isAsked()) return;
    const told = await answer.json();
    shown.dataset.pause = told.pauseMs;
    take(told);
  } catch {
    // The server is away for a moment; the next poll tries again.
  } finally {
    isAsking = false;
    if (isOutdated) refresh();
  }
}

function take(told) {
  for (const [id, html] of Object.entries(told.rows)) {
    const row = document.getElementById(`run-${id}`);
    const late = waiting.find((each) => each.id === id);
    if (late) late.html = html;
    if (!row || isInUse(row)) continue;
    const next = parse(html);
    if (row.classList.contains("cursor")) next.classList.add("cursor");
    row.replaceWith(next);
  }
  if (told.older) older = told.older; // a page of new ones: what was shown is beyond it
  waiting = [...told.new, ...(told.older ? [] : waiting)];
  if (waiting.length && !isHeld()) show();
  else sayFresh();
  if (performance.now() - countedAt > Math.max(COUNTS_EVERY_MS, 3 * told.pauseMs)) count();
}

function show() {
  const pager = document.querySelector("#runs .pager button[hx-get]");
  // The first run of an empty list: the table comes with it. More than a page: there may be some between.
  if (!body() || (waiting.length >= PAGE && !(older && pager))) {
    waiting = [];
    return void window.htmx?.ajax("GET", `${location.pathname}?${list().dataset.query}`, "#runs");
  }
  if (older && waiting.length >= PAGE) {
    body().replaceChildren();
    const next = pager.cloneNode(true);
    next.setAttribute("hx-get", older);
    pager.replaceWith(next);
    window.htmx?.process(next);
  }
  older = "";
  for (const each of [...waiting].reverse()) {
    if (document.getElementById(`run-${each.id}`)) continue;
    const row = parse(each.html);
    row.classList.add("is-new");
    body().prepend(row);
  }
  waiting = [];
  for (const row of [...body().children].slice(100)) row.remove();
  sayFresh();
}

function sayFresh() {
  const button = document.querySelector("#runs .fresh");
  if (!button) return;
  button.hidden = waiting.length === 0;
  button.querySelector("[data-fresh]").textContent = waiting.length >= PAGE ? "50 or more" : waiting.length;
}

function count() {
  countedAt = performance.now();
  const counts = document.querySelector("#runs .counts");
  if (counts && !counts.matches(":hover")) window.htmx?.trigger(counts, "counts");
}

function choose() {
  const bar = document.querySelector("#runs .selection");
  if (!bar) return;
  const boxes = [...document.querySelectorAll("#runs tbody input[name=run]")];
  const chosen = boxes.filter((box) => box.checked);
  bar.hidden = chosen.length === 0;
  bar.querySelector("[data-count]").textContent = chosen.length;
  for (const box of boxes) box.closest("tr").setAttribute("aria-selected", box.checked);
  const words = chosen.length === 1 ? "1 run is" : `${chosen.length} runs are`;
  for (const button of bar.querySelectorAll("button[data-verb]")) {
    button.dataset.template ??= button.dataset.confirm;
    button.dataset.confirm = button.dataset.template.replace("{n}", words);
    button.dataset.confirmLabel = `${button.dataset.verb} ${chosen.length} run${chosen.length === 1 ? "" : "s"}`;
  }
  const all = document.querySelector("#runs [data-all]");
  all.checked = boxes.length > 0 && chosen.length === boxes.length;
  all.indeterminate = chosen.length > 0 && chosen.length < boxes.length;
}

// Times: a field shows the viewer's, the address has UTC.
const two = (number) => String(number).padStart(2, "0");

function local(text) {
  const at = new Date(/[zZ]|[+-]\d\d:?\d\d$/.test(text) ? text : `${text}Z`);
  if (Number.isNaN(at.getTime())) return "";
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}T${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

for (const field of document.querySelectorAll("input[data-utc]")) {
  if (field.dataset.utc) field.value = local(field.dataset.utc);
}

document.addEventListener("htmx:configRequest", (event) => {
  if (!event.target.matches("form.filters")) return;
  const given = event.detail.parameters;
  for (const field of document.querySelectorAll("input[data-utc]")) {
    const kept = /^\d+[smhd]/.test(field.dataset.utc) && !field.value ? field.dataset.utc : null;
    if (field.value) given[field.name] = new Date(field.value).toISOString();
    else if (kept && !field.dataset.touched) given[field.name] = kept;
  }
  for (const name of Object.keys(given)) {
    if (given[name] === "" || (name === "sort" && given[name] === "created")) delete given[name];
  }
});

document.addEventListener("input", (event) => {
  if (event.target.matches("input[data-utc]")) event.target.dataset.touched = "yes";
});

// What is not part of the table follows its filters: exports, saved views and columns.
function follow() {
  const query = list()?.dataset.query ?? "";
  for (const link of document.querySelectorAll("[data-export]")) link.href = `${link.href.split("?")[0]}?${query}`;
  const save = document.querySelector("[data-save-view] input[name=query]");
  const columns = [...document.querySelectorAll("[data-columns] input[name=columns]:checked")].map((box) => box.value).join(",");
  if (save) save.value = `${query}${query ? "&" : ""}columns=${columns}`;
  const form = document.querySelector("[data-columns]");
  if (!form) return;
  for (const hidden of form.querySelectorAll("input[type=hidden]")) hidden.remove();
  for (const [name, value] of new URLSearchParams(query)) {
    form.append(Object.assign(document.createElement("input"), { type: "hidden", name, value }));
  }
}

document.addEventListener("htmx:afterSwap", (event) => {
  if (event.target.id !== "runs") return;
  waiting = [];
  older = "";
  countedAt = performance.now();
  follow();
});

document.addEventListener("headrace:told", (event) => {
  if (event.target.matches("#runs .list") && isSaid(event.detail)) event.preventDefault();
});
document.addEventListener("refresh", (event) => event.target.matches(".list") && refresh(), true);
document.addEventListener("change", (event) => {
  const box = event.target;
  if (box.matches("#runs [data-all]")) {
    for (const each of document.querySelectorAll("#runs tbody input[name=run]")) each.checked = box.checked;
  }
  if (box.matches("#runs input[type=checkbox]")) choose();
});
document.addEventListener("click", (event) => {
  if (event.target.closest("#runs .fresh")) show();
  if (event.target.closest("#runs [data-none]")) {
    for (const each of document.querySelectorAll("#runs input[type=checkbox]")) each.checked = false;
    choose();
  }
});

document.addEventListener("headrace:range", (event) => {
  if (!event.target.closest("#runs")) return;
  const query = new URLSearchParams(list().dataset.query);
  query.set("since", new Date(event.detail.since * 1000).toISOString());
  query.set("until", new Date(event.detail.until * 1000).toISOString());
  location.search = query.toString();
});
follow();
