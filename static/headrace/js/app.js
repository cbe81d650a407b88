// What every page has: custom elements (they start by themselves, after a swap too), the menu, themes, keys, copying.
import "./organization.js";
import "./time.js";
import "./json.js";
import "./tabs.js";
import "./chart.js";
import "./confirm.js";
import "./keys.js";

const SHOWN_MS = 1600;

export function toast(text) {
  document.querySelector(".toast")?.remove();
  const shown = document.createElement("div");
  shown.className = "toast";
  shown.setAttribute("role", "status");
  shown.textContent = text;
  document.body.append(shown);
  setTimeout(() => shown.remove(), SHOWN_MS);
}

async function copy(button) {
  const text = button.dataset.copy ?? document.getElementById(button.dataset.copyFrom)?.textContent ?? "";
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = document.createElement("textarea"); // plain HTTP: browsers give no clipboard there
    field.value = text;
    (button.closest("dialog") ?? document.body).append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
    button.focus();
  }
  button.classList.add("done");
  setTimeout(() => button.classList.remove("done"), SHOWN_MS);
  toast("Copied");
}

const THEMES = ["system", "light", "dark"];

function theme() {
  return document.documentElement.dataset.theme ?? "system";
}

function nextTheme(button) {
  const next = THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length];
  if (next === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  try {
    if (next === "system") localStorage.removeItem("headrace-theme");
    else localStorage.setItem("headrace-theme", next);
  } catch {
    // It holds for this page.
  }
  sayTheme(button);
  document.dispatchEvent(new CustomEvent("headrace:theme"));
}

function sayTheme(button) {
  const text = `Theme: ${theme()}`;
  button.title = text;
  button.setAttribute("aria-label", text);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy], [data-copy-from], [data-theme-switch], [data-menu], [data-dismiss]");
  if (button) {
    if ("themeSwitch" in button.dataset) nextTheme(button);
    else if ("menu" in button.dataset) toggleMenu(button);
    else if ("dismiss" in button.dataset) button.closest(".message").remove();
    else copy(button);
  }
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});

function toggleMenu(button) {
  const isOpen = document.getElementById("side").classList.toggle("open");
  button.setAttribute("aria-expanded", isOpen);
}

// Groups of the navigation stay as they were left.
for (const group of document.querySelectorAll("#side details")) {
  const name = `headrace-menu-${group.dataset.group}`;
  try {
    if (localStorage.getItem(name) === "closed" && !group.querySelector("[aria-current]")) group.open = false;
    group.addEventListener("toggle", () => localStorage.setItem(name, group.open ? "open" : "closed"));
  } catch {
    // They are all open.
  }
}
document.querySelectorAll("[data-theme-switch]").forEach(sayTheme);

// A table that is wider than its card is scrolled by the keyboard, too, where nothing in it can be reached.
function reachTables() {
  for (const table of document.querySelectorAll(".table")) {
    if (table.scrollWidth > table.clientWidth && !table.querySelector("a[href], button, input, select, summary")) {
      table.tabIndex = 0;
      table.setAttribute("role", "region");
      table.setAttribute("aria-label", table.closest("section")?.querySelector("h2")?.textContent ?? document.title);
    } else if (table.tabIndex === 0) {
      for (const name of ["tabindex", "role", "aria-label"]) table.removeAttribute(name);
    }
  }
}
addEventListener("load", reachTables);
addEventListener("resize", reachTables);
document.addEventListener("htmx:afterSettle", reachTables);
