// Keeps the live parts of pages fresh: elements with `data-live`, the milliseconds between polls. Where they have
// `data-followed` too, the organization's stream tells of their changes, and polls are rarer. `data-pause`: the
// milliseconds between two fetches at least, which the server says when it has many to answer.
//
// All tabs of a browser that show one organization share one stream: over HTTP/1.1 a browser opens six connections to a
// host, and a stream in each tab would take them all. The tab that holds a Web Lock reads the stream and tells the others over a broadcast channel;
// when it closes, the next one gets the lock. Where there is no lock (plain HTTP, but for localhost), no stream, or it
// is refused, each tab polls.
(() => {
  const TICK_MS = 250;
  const CHANGED_MS = 300; // after a change a part is fetched at once, but at most so often
  const TOGETHER_MS = 20; // the messages of one look of the server come one after the other
  const SLOWER = 3; // with a stream, polls are so many times rarer: for what it does not tell, such as runs in the queue
  const PULSE_MS = 3000;
  const SILENT_MS = 70000; // without a word for so long there is no stream: a hidden tab may speak once a minute only
  const REFUSED_MS = 30000;

  const organization = document.body.dataset.organization; // each has a stream of its own
  const shared = "headrace-stream " + organization;
  const channel = "BroadcastChannel" in window ? new BroadcastChannel(shared) : null;
  let heardAt = -Infinity;
  let lastId = "";
  let isWaiting = false;
  const fetched = new WeakMap(); // part → when it was fetched
  const changed = new WeakSet(); // parts of which the stream has told
  const HIDDEN_MS = 15000;
  let soonest = null; // the next look at what has changed: when it is, and its timer
  let release = null; // ends this tab's turn as the reader of the stream
  let hiddenAt = null;

  function hear(word) {
    heardAt = word.isLost ? -Infinity : performance.now();
    if (!word.id) return;
    lastId = word.id;
    for (const part of document.querySelectorAll("[data-live]")) {
      if (part.dataset.run && part.dataset.run !== word.run) continue;
      const told = new CustomEvent("headrace:told", { detail: word, bubbles: true, cancelable: true });
      if (part.dispatchEvent(told)) changed.add(part); // else it shows that already
    }
    soon(TOGETHER_MS);
  }

  function soon(ms) {
    const at = performance.now() + ms;
    if (soonest && soonest.at <= at) return;
    clearTimeout(soonest?.timer);
    const timer = setTimeout(() => {
      soonest = null;
      tick();
    }, ms);
    soonest = { at, timer };
  }

  function tell(word) {
    hear(word);
    channel.postMessage(word);
  }

  function said(message) {
    const word = { id: message.lastEventId, run: "" };
    try {
      const data = JSON.parse(message.data);
      word.run = data.executionId ?? "";
      Object.assign(word, { kind: message.type, status: data.status, at: data.at, error: data.error?.message ?? "" });
    } catch {
      // Something has changed, whatever it is.
    }
    return word;
  }

  function read(turn) {
    if (turn.isOver) return;
    const query = new URLSearchParams({ org: organization, ...(lastId ? { lastEventId: lastId } : {}) });
    const source = new EventSource(document.body.dataset.api + "stream?" + query);
    const pulse = setInterval(() => source.readyState === EventSource.OPEN && tell({}), PULSE_MS);
    turn.source = source;
    turn.pulse = pulse;
    source.onopen = () => tell({});
    for (const name of ["step-status", "run-status"]) {
      source.addEventListener(name, (message) => tell(said(message)));
    }
    source.onerror = () => {
      tell({ isLost: true });
      if (source.readyState !== EventSource.CLOSED) return; // it comes back by itself
      clearInterval(pulse);
      setTimeout(() => read(turn), REFUSED_MS);
    };
  }

  function follow() {
    if (isWaiting || !channel || !navigator.locks || !("EventSource" in window)) return;
    isWaiting = true;
    channel.onmessage = (message) => hear(message.data);
    const turn = { isOver: false };
    const ended = new Promise((resolve) => {
      release = () => {
        turn.isOver = true;
        turn.source?.close();
        clearInterval(turn.pulse);
        isWaiting = false;
        release = null;
        resolve();
      };
    });
    navigator.locks.request(shared, () => (read(turn), ended)).catch(() => {});
  }

  // A tab that nobody looks at gives the stream to one that somebody does; where all are hidden, it is closed.
  function rest() {
    if (!document.hidden) hiddenAt = null;
    else if (hiddenAt === null) hiddenAt = performance.now();
    else if (release && performance.now() - hiddenAt > HIDDEN_MS) release();
  }

  // While a dialog is open nothing is swapped: the form that it asks about, or its own, may be in a live part.
  const isAsked = () => document.querySelector("dialog[open]") !== null;

  function tick() {
    const parts = document.querySelectorAll("[data-live]");
    rest();
    if (document.hidden) return;
    if (document.querySelector("[data-followed]")) follow();
    if (isAsked()) return;
    const now = performance.now();
    const isFollowing = now - heardAt < SILENT_MS;
    for (const part of parts) {
      const slower = isFollowing && "followed" in part.dataset ? SLOWER : 1;
      const dueMs = changed.has(part) ? CHANGED_MS : slower * part.dataset.live;
      if (!fetched.has(part)) fetched.set(part, now);
      const leftMs = Math.max(dueMs, part.dataset.pause ?? 0) - (now - fetched.get(part));
      if (leftMs > 0) {
        if (changed.has(part)) soon(leftMs);
        continue;
      }
      fetched.set(part, now);
      changed.delete(part);
      htmx.trigger(part, "refresh");
    }
  }

  // What was asked for before the dialog opened, and comes now: it is asked for again afterwards.
  document.addEventListener("htmx:beforeSwap", (event) => {
    const part = event.detail.requestConfig?.elt;
    if (!part?.matches("[data-live]") || !isAsked()) return;
    event.detail.shouldSwap = false;
    changed.add(part);
  });

  setInterval(tick, TICK_MS);
  document.addEventListener("visibilitychange", tick);
})();
