// Keys: `/` the search box, `?` help, `g` and a letter to a page, `j` / `k` through the rows of a list, Enter opens one,
// `x` chooses it, Escape leaves a field. They do nothing while somebody types.
let isGoing = false;

function isTyping(element) {
  return element.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(element.tagName) && !/^(checkbox|radio|button)$/.test(element.type);
}

function rows() {
  return [...document.querySelectorAll("[data-rows] tbody tr")].filter((row) => row.querySelector("a[href]"));
}

function step(by) {
  const all = rows();
  if (!all.length) return;
  const at = all.findIndex((row) => row.classList.contains("cursor"));
  const to = Math.min(Math.max(at < 0 ? (by > 0 ? 0 : all.length - 1) : at + by, 0), all.length - 1);
  all[at]?.classList.remove("cursor");
  all[to].classList.add("cursor");
  all[to].scrollIntoView({ block: "nearest" });
  all[to].querySelector("a[href]").focus({ preventScroll: true });
}

function go(letter) {
  const link = document.querySelector(`#side a[data-key="${CSS.escape(letter)}"]`);
  if (link) location.href = link.href;
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") {
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
    if (isTyping(event.target) && !event.target.closest("dialog")) event.target.blur();
    return;
  }
  if (isTyping(event.target) || document.querySelector("dialog[open]")) return;
  if (isGoing) {
    isGoing = false;
    go(event.key);
    return;
  }
  const search = document.querySelector("[data-search]");
  if (event.key === "/" && search) {
    event.preventDefault();
    search.focus();
    search.select();
  } else if (event.key === "?") document.getElementById("keys").showModal();
  else if (event.key === "g") {
    isGoing = true;
    setTimeout(() => (isGoing = false), 1500);
  } else if (event.key === "j") step(1);
  else if (event.key === "k") step(-1);
  else if (event.key === "x") document.querySelector("[data-rows] tr.cursor input[type=checkbox]")?.click();
});
