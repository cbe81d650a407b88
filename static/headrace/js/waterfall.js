// The scale of a waterfall: milliseconds after the run's creation → percent of the track. It can be zoomed (buttons,
// dragging over the axis), and stretches in which nothing worked can be folded to a narrow gap.
import { duration } from "./time.js";

const GAP_SHARE = 0.025; // of the width, for each stretch of idle time that is folded
const WORKING = new Set(["queued", "throttled", "running", "failed", "lost"]);
const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5, 6e5, 9e5, 18e5, 36e5, 72e5, 108e5, 216e5, 432e5, 864e5, 1728e5, 6048e5];
const TICKS = 6;

export class Waterfall {
  constructor(page, now) {
    this.page = page;
    this.now = now;
    this.axis = page.querySelector("#axis");
    this.from = 0;
    this.to = null; // to the end
    this.hidesIdle = false;
    page.querySelector("#waterfall").addEventListener("click", (event) => this.press(event.target));
    page.querySelector("[data-idle]").addEventListener("change", (event) => {
      this.hidesIdle = event.target.checked;
      this.from = 0;
      this.to = null;
      this.draw();
    });
    this.axis.addEventListener("pointerdown", (event) => this.drag(event));
    this.axis.addEventListener("dblclick", () => this.all());
  }

  end() {
    return Math.max(this.now(), 1);
  }

  all() {
    this.from = 0;
    this.to = null;
    this.draw();
  }

  press(target) {
    const zoom = target.closest("[data-zoom]")?.dataset.zoom;
    if (!zoom) return;
    if (zoom === "all") return void this.all();
    const to = this.to ?? this.length();
    const span = to - this.from;
    const middle = this.from + span / 2;
    const wanted = zoom === "in" ? span / 2 : span * 2;
    this.set(middle - wanted / 2, middle + wanted / 2);
  }

  set(from, to) {
    const whole = this.length();
    this.from = Math.max(0, from);
    this.to = to >= whole * 0.999 && this.from === 0 ? null : Math.min(to, whole);
    if (this.to !== null && this.to - this.from < 1) this.to = this.from + 1;
    this.draw();
  }

  drag(event) {
    const box = this.axis.getBoundingClientRect();
    const start = event.clientX;
    const drawn = document.createElement("div");
    drawn.className = "drawn";
    this.axis.append(drawn);
    this.axis.setPointerCapture(event.pointerId);
    const share = (x) => Math.min(Math.max((x - box.left) / box.width, 0), 1);
    const move = (each) => {
      drawn.style.left = `${Math.min(share(start), share(each.clientX)) * 100}%`;
      drawn.style.width = `${Math.abs(share(each.clientX) - share(start)) * 100}%`;
    };
    const stop = (each) => {
      this.axis.removeEventListener("pointermove", move);
      drawn.remove();
      if (Math.abs(each.clientX - start) < 5) return;
      const span = (this.to ?? this.length()) - this.from;
      const [low, high] = [share(start), share(each.clientX)].sort((a, b) => a - b);
      this.set(this.from + low * span, this.from + high * span);
    };
    this.axis.addEventListener("pointermove", move);
    this.axis.addEventListener("pointerup", stop, { once: true });
  }

  // The stretches of time: [from, to, its start on the scale, its length there, whether it is idle].
  measure() {
    const end = this.end();
    if (!this.hidesIdle) {
      this.pieces = [[0, end, 0, end, false]];
      return;
    }
    const work = [...this.page.querySelectorAll(".bar[data-since]")]
      .filter((bar) => WORKING.has(bar.classList[1]))
      .map((bar) => [Number(bar.dataset.since), "until" in bar.dataset ? Number(bar.dataset.until) : end])
      .sort((a, b) => a[0] - b[0]);
    const merged = [];
    for (const [since, until] of work) {
      const last = merged.at(-1);
      if (last && since <= last[1]) last[1] = Math.max(last[1], until);
      else merged.push([since, until]);
    }
    const busy = merged.reduce((sum, [since, until]) => sum + until - since, 0);
    const gap = Math.max(busy * GAP_SHARE, 1);
    this.pieces = [];
    let at = 0;
    let place = 0;
    const add = (to, isIdle) => {
      const length = isIdle ? Math.min(to - at, gap) : to - at;
      if (to > at) this.pieces.push([at, to, place, length, isIdle && length < to - at]);
      place += Math.max(length, 0);
      at = Math.max(at, to);
    };
    for (const [since, until] of merged) {
      add(since, true);
      add(until, false);
    }
    add(end, true);
  }

  length() {
    const last = this.pieces?.at(-1);
    return last ? last[2] + last[3] : this.end();
  }

  place(ms) {
    const piece = this.pieces.find(([, to]) => ms <= to) ?? this.pieces.at(-1);
    const share = piece[1] > piece[0] ? (ms - piece[0]) / (piece[1] - piece[0]) : 0;
    return piece[2] + Math.min(Math.max(share, 0), 1) * piece[3];
  }

  percent(ms) {
    const to = this.to ?? this.length();
    return ((this.place(ms) - this.from) / Math.max(to - this.from, 1e-6)) * 100;
  }

  // The content policy allows no style attributes in a page: bars get their places here.
  draw() {
    this.measure();
    const end = this.end();
    for (const bar of this.page.querySelectorAll(".bar[data-since]")) {
      const since = Number(bar.dataset.since);
      const isOpen = !("until" in bar.dataset);
      const until = isOpen ? end : Number(bar.dataset.until);
      const left = this.percent(since);
      const right = this.percent(until);
      bar.hidden = right < 0 || left > 100;
      const start = Math.min(Math.max(left, 0), 99.65);
      bar.style.left = `${start}%`;
      bar.style.width = `${Math.min(Math.max(right - start, 0.35), 100 - start)}%`;
      bar.classList.toggle("open", isOpen);
      bar.title = `${bar.dataset.word}: ${duration(Math.max(until - since, 0))} (from +${duration(since)})`;
    }
    this.ticks();
    for (const text of this.page.querySelectorAll("[data-ticks]")) {
      text.textContent = duration(Number(text.dataset.before || 0) + end - Number(text.dataset.ticks));
    }
  }

  ticks() {
    const drawn = this.axis.querySelector(".drawn");
    const made = [];
    const mark = (ms, className) => {
      const left = this.percent(ms);
      if (left < -0.01 || left > (className === "tick" ? 94 : 100)) return;
      const tick = document.createElement("span");
      tick.className = className;
      tick.style.left = `${left}%`;
      if (className === "tick") tick.textContent = ms === 0 ? "0" : duration(ms).replace(".0 s", " s").replace(" 0 s", "").replace(" 0 m", "");
      made.push(tick);
      return tick;
    };
    const to = this.to ?? this.length();
    let last = -Infinity;
    for (const [since, until, place, length, isIdle] of this.pieces) {
      if (isIdle) {
        const gap = mark(since, "gap");
        if (gap) gap.style.width = `${(length / (to - this.from)) * 100}%`;
        continue;
      }
      const seen = [Math.max(since, since + this.from - place), Math.min(until, since + to - place)];
      const step = STEPS.find((each) => (to - this.from) / each <= TICKS) ?? STEPS.at(-1);
      for (let ms = Math.ceil(seen[0] / step) * step; ms <= seen[1]; ms += step) {
        const left = this.percent(ms);
        if (left - last < 9) continue;
        if (mark(ms, "tick")) last = left;
      }
    }
    this.axis.replaceChildren(...made, ...(drawn ? [drawn] : []));
  }
}
