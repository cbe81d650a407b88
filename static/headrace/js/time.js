// <hr-time><time datetime="…">: in the viewer's zone, the exact time (and UTC) on hover. `data-relative`: "3 min ago".
// <hr-ticks data-since="…">: the time since then, each second. Deadlines (`data-deadline`) say "in 5 min" and "since".
const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "long" });
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;

function two(number) {
  return String(number).padStart(2, "0");
}

export function clock(at, isLong = true) {
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  const time = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  return isLong ? `${day} ${time}` : time;
}

export function since(at, nowMs = Date.now()) {
  const seconds = (at.getTime() - nowMs) / 1000;
  const [unit, size] = UNITS.find(([, length]) => Math.abs(seconds) >= length) ?? UNITS[3];
  return relative.format(Math.round(seconds / size), unit);
}

export function duration(milliseconds) {
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  if (milliseconds < 60000) return `${(milliseconds / 1000).toFixed(1)} s`;
  const minutes = Math.floor(milliseconds / 60000);
  if (minutes < 60) return `${minutes} m ${Math.floor(milliseconds / 1000) % 60} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} m` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

class Time extends HTMLElement {
  connectedCallback() {
    this.inner = this.querySelector("time");
    if (!this.inner) return;
    this.at = new Date(this.inner.dateTime);
    if (Number.isNaN(this.at.getTime())) return;
    this.inner.title = `${clock(this.at)}.${String(this.at.getMilliseconds()).padStart(3, "0")} ${zone}\n${this.inner.dateTime}`;
    this.say();
    if ("relative" in this.dataset) shown.add(this);
  }

  disconnectedCallback() {
    shown.delete(this);
  }

  say() {
    const isToday = this.at.toDateString() === new Date().toDateString();
    const text = "relative" in this.dataset ? since(this.at) : clock(this.at, !isToday || "long" in this.dataset);
    if (this.inner.textContent !== text) this.inner.textContent = text;
  }
}

class Ticks extends HTMLElement {
  connectedCallback() {
    this.at = new Date(this.dataset.since);
    shown.add(this);
    this.say();
  }

  disconnectedCallback() {
    shown.delete(this);
  }

  say() {
    this.textContent = duration(Math.max(0, Date.now() - this.at.getTime()));
  }
}

const shown = new Set();
customElements.define("hr-time", Time);
customElements.define("hr-ticks", Ticks);
setInterval(() => !document.hidden && shown.forEach((element) => element.say()), 1000);
