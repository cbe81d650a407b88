// A form with `data-selection`: its bar (`.selection`) is shown while rows are chosen, says how many, and the question of
// a button (`data-asks`, with {n}) says it too. The box in the head of the table chooses all rows.
function boxes(form) {
  return [...form.querySelectorAll("tbody input[type=checkbox]")];
}

function show(form) {
  const chosen = boxes(form).filter((box) => box.checked);
  const bar = form.querySelector(".selection");
  bar.hidden = chosen.length === 0;
  for (const place of bar.querySelectorAll("[data-number]")) place.textContent = chosen.length;
  const things = chosen.length === 1 ? form.dataset.selection : `${form.dataset.selection}s`;
  for (const place of bar.querySelectorAll("[data-things]")) place.textContent = things;
  for (const button of bar.querySelectorAll("[data-asks]")) {
    button.dataset.confirm = button.dataset.asks.replaceAll("{n}", `${chosen.length} ${things}`).replaceAll("{are}", chosen.length === 1 ? "is" : "are");
  }
  for (const box of boxes(form)) box.closest("tr").setAttribute("aria-selected", box.checked);
  const all = form.querySelector("thead input[type=checkbox]");
  if (all) {
    all.checked = chosen.length > 0 && chosen.length === boxes(form).length;
    all.indeterminate = chosen.length > 0 && !all.checked;
  }
}

document.addEventListener("change", (event) => {
  const form = event.target.closest("form[data-selection]");
  if (!form || event.target.type !== "checkbox") return;
  if (event.target.closest("thead")) for (const box of boxes(form)) box.checked = event.target.checked;
  show(form);
});

document.querySelectorAll("form[data-selection]").forEach(show); // what the browser has kept chosen
