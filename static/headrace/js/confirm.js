// A form with `data-confirm` asks once, with what it will do; `data-confirm-label` is the word of the button.
// A button with `data-open="id"` opens the dialog of that id; one with `data-close` closes its own.
let asking = null;

function dialog() {
  let made = document.getElementById("confirm");
  if (made) return made;
  made = document.createElement("dialog");
  made.id = "confirm";
  made.setAttribute("aria-labelledby", "confirm-title");
  made.innerHTML = '<header id="confirm-title"></header><div class="content"></div><footer><button type="button" data-close>Not now</button><button type="button" class="primary" data-yes></button></footer>';
  made.addEventListener("close", () => {
    asking?.focus?.();
    asking = null;
  });
  made.querySelector("[data-yes]").addEventListener("click", () => {
    const { form, submitter } = made;
    if (made.dataset.isStale) return void location.reload();
    if (!form.isConnected || submitter?.isConnected === false) return void sayStale(made);
    asking = null;
    made.close();
    form.dataset.confirmed = "yes";
    form.requestSubmit(submitter ?? undefined);
  });
  document.body.append(made);
  return made;
}

// The form has left the page (a part of it was replaced): a browser would send nothing, and say nothing.
function sayStale(shown) {
  shown.dataset.isStale = "yes";
  shown.querySelector("header").textContent = "The page has changed";
  shown.querySelector(".content").textContent = "What you were asked about has changed meanwhile: nothing was done. Look at it as it is now, then ask for it again.";
  const yes = shown.querySelector("[data-yes]");
  yes.textContent = "Show it as it is now";
  yes.classList.remove("danger");
  yes.focus();
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  const submitter = event.submitter;
  const words = submitter?.dataset.confirm ?? form.dataset.confirm;
  if (!words || form.dataset.confirmed) {
    delete form.dataset.confirmed;
    return;
  }
  event.preventDefault();
  event.stopImmediatePropagation();
  const shown = dialog();
  const label = submitter?.dataset.confirmLabel ?? form.dataset.confirmLabel ?? submitter?.textContent.trim() ?? "Yes";
  delete shown.dataset.isStale;
  shown.form = form;
  shown.submitter = submitter;
  asking = submitter;
  shown.querySelector("header").textContent = `${label}?`;
  shown.querySelector(".content").textContent = words;
  const yes = shown.querySelector("[data-yes]");
  yes.textContent = `Yes, ${label[0].toLowerCase()}${label.slice(1)}`;
  yes.classList.toggle("danger", Boolean(submitter?.classList.contains("danger")));
  shown.showModal();
  yes.focus();
}, true);

document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-open]");
  if (opener) {
    const opened = document.getElementById(opener.dataset.open);
    opened.addEventListener("close", () => opener.focus(), { once: true });
    opened.showModal();
  }
  const closer = event.target.closest("[data-close]");
  if (closer) closer.closest("dialog").close();
  if (event.target instanceof HTMLDialogElement) event.target.close(); // its backdrop
});
