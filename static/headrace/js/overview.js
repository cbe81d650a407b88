// A click on a point of a chart, or a drawn range, opens the runs behind it.
document.addEventListener("headrace:range", (event) => {
  const place = event.target.closest("[data-behind]");
  const kind = event.target.closest("[data-kind].chart")?.dataset.kind;
  if (!place || !kind) return;
  const [since, until] = [event.detail.since, event.detail.until].map((seconds) => new Date(Math.round(seconds) * 1000).toISOString());
  location.assign(`${place.dataset.behind}?${new URLSearchParams({ kind, since, until })}`);
});
