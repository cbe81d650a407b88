// The bars of a waterfall get their places here: the content policy allows no style attributes in a page.
function placeBars() {
  for (const bar of document.querySelectorAll(".bar[data-left]")) {
    bar.style.left = `${bar.dataset.left}%`;
    bar.style.width = `${bar.dataset.width}%`;
  }
}
placeBars();
document.addEventListener("htmx:afterSwap", placeBars);

// Live parts are replaced as a whole; what the reader has opened stays open.
let openDetails = [];
document.addEventListener("htmx:beforeSwap", () => {
  openDetails = [...document.querySelectorAll("details[open][id]")].map((element) => element.id);
});
document.addEventListener("htmx:afterSwap", () => {
  for (const id of openDetails) document.getElementById(id)?.setAttribute("open", "");
});
