// Keeps the live parts of pages fresh: elements with `data-live` (milliseconds between polls) and perhaps `data-run`.
//
// All tabs of a browser share one stream: over HTTP/1.1 a browser opens six connections to a host, and a stream in each
// tab would take them all. The tab that holds a Web Lock reads the stream and tells the others over a broadcast channel;
// when it closes, the next one gets the lock. Where there is no lock (plain HTTP, but for localhost), no stream, or it
// is refused, each tab polls.
(() => {
  const TICK_MS = 250;
  const CHANGED_MS = 1000; // after a change a part is fetched, at most so often
  const SLOWER = 3; // with a stream, polls are so many times rarer: for times that pass, and what the stream does not tell
  const PULSE_MS = 3000;
  const SILENT_MS = 10000; // after so long without a word from the tab with the stream, the others poll
  const REFUSED_MS = 30000;

  const channel = "BroadcastChannel" in window ? new BroadcastChannel("headrace-stream") : null;
  let heardAt = -Infinity;
  let lastId = "";
  let isWaiting = false;
  let fetchedAt = performance.now();
  const changed = new Set();

  function hear(word) {
    heardAt = performance.now();
    if (word.id) lastId = word.id;
    if (word.run) changed.add(word.run);
  }

  function tell(word) {
    hear(word);
    channel.postMessage(word);
  }

  function read() {
    const source = new EventSource("/api/stream" + (lastId ? "?lastEventId=" + encodeURIComponent(lastId) : ""));
    const pulse = setInterval(() => source.readyState === EventSource.OPEN && tell({}), PULSE_MS);
    source.onopen = () => tell({});
    for (const name of ["step-status", "run-status"]) {
      source.addEventListener(name, (message) => {
        tell({ id: message.lastEventId, run: JSON.parse(message.data).executionId });
      });
    }
    source.onerror = () => {
      if (source.readyState !== EventSource.CLOSED) return; // it comes back by itself
      clearInterval(pulse);
      setTimeout(read, REFUSED_MS);
    };
  }

  function follow() {
    if (isWaiting || !channel || !navigator.locks || !("EventSource" in window)) return;
    isWaiting = true;
    channel.onmessage = (message) => hear(message.data);
    const untilTheTabCloses = new Promise(() => {});
    navigator.locks.request("headrace-stream", () => (read(), untilTheTabCloses)).catch(() => {});
  }

  function tick() {
    const parts = document.querySelectorAll("[data-live]");
    if (parts.length) follow();
    if (document.hidden) return;
    const now = performance.now();
    const slower = now - heardAt < SILENT_MS ? SLOWER : 1;
    for (const part of parts) {
      const isChanged = part.dataset.run ? changed.has(part.dataset.run) : changed.size > 0;
      const dueMs = isChanged ? Math.min(CHANGED_MS, part.dataset.live) : slower * part.dataset.live;
      if (now - fetchedAt < dueMs) continue;
      fetchedAt = now;
      changed.clear();
      htmx.trigger(part, "refresh");
    }
  }

  setInterval(tick, TICK_MS);
  document.addEventListener("visibilitychange", tick);
})();
