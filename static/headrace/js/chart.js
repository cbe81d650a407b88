// <hr-chart data-points='{"x": [seconds…], "series": [{"label", "color", "values": […]}]}' data-kind="bars|lines">.
// Colours are names of tokens. `data-stacked` piles the series up. A click (bars) or a drawn range sends "headrace:range"
// with {since, until} in seconds: pages that filter by time listen to it.
import { clock } from "./time.js";

const LIBRARY = new URL("../vendor/uplot-1.6.min.js", import.meta.url).href;
let loading = null;

function load() {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = LIBRARY;
    script.onload = () => resolve(window.uPlot);
    script.onerror = reject;
    document.head.append(script);
  });
  return loading;
}

// A canvas knows no custom properties and no light-dark(): the browser works the colour out on an element.
function color(element, token) {
  const probe = document.createElement("span");
  probe.style.color = `var(--${token})`;
  element.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function stacked(values) {
  const sums = values[0].map(() => 0);
  return values.map((row) => row.map((value, at) => (sums[at] += value ?? 0)));
}

// "09:15", and the day where it has changed (or where a bar is a day).
function tick(mark, before, gap) {
  const at = clock(new Date(mark * 1000));
  const day = at.slice(5, 10);
  if (gap >= 86400) return day;
  if (before !== undefined && clock(new Date(before * 1000)).slice(5, 10) !== day) return day;
  return gap < 10 ? at.slice(11) : at.slice(11, 16);
}

class Chart extends HTMLElement {
  connectedCallback() {
    this.draw();
    this.redraw = () => this.draw();
    document.addEventListener("headrace:theme", this.redraw);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", this.redraw);
    this.watch = new ResizeObserver(() => this.plot?.setSize(this.size()));
    this.watch.observe(this);
  }

  disconnectedCallback() {
    document.removeEventListener("headrace:theme", this.redraw);
    matchMedia("(prefers-color-scheme: dark)").removeEventListener("change", this.redraw);
    this.watch?.disconnect();
    this.plot?.destroy();
  }

  static observedAttributes = ["data-points"];

  attributeChangedCallback(_name, before) {
    if (before !== null && this.isConnected) this.draw();
  }

  size() {
    return { width: Math.max(this.clientWidth, 120), height: Number(this.dataset.height ?? 110) };
  }

  async draw() {
    const { x, series } = JSON.parse(this.dataset.points);
    const uPlot = await load();
    if (!this.isConnected) return;
    this.plot?.destroy();
    if (!x.length) return;
    const isBars = this.dataset.kind !== "lines";
    let values = series.map((each) => each.values);
    if ("stacked" in this.dataset) values = stacked(values);
    const order = "stacked" in this.dataset ? series.map((_, at) => series.length - 1 - at) : series.map((_, at) => at);
    const soft = color(this, "soft");
    const line = color(this, "line");
    const gap = x.length > 1 ? x[1] - x[0] : 60;
    const axis = { stroke: soft, grid: { stroke: line, width: 1 }, ticks: { show: false }, font: "11px system-ui", size: 26 };
    const options = {
      ...this.size(),
      cursor: { y: false, drag: { x: true, y: false, setScale: false }, points: { show: !isBars } },
      legend: { show: "legend" in this.dataset, live: "legend" in this.dataset },
      scales: { x: { time: true, range: isBars ? (_u, low, high) => [low - gap / 2, high + gap / 2] : undefined }, y: { range: (_u, _low, high) => [0, Math.max(high * 1.1, 1)] } },
      axes: [{ ...axis, values: (_u, marks) => marks.map((mark, at) => tick(mark, marks[at - 1], gap)) }, { ...axis, size: 38, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 1e5, 1e6] }],
      series: [{}, ...order.map((at) => this.series(uPlot, series[at], isBars))],
      hooks: { setSelect: [(plot) => this.range(plot)] },
    };
    this.plot = new uPlot(options, [x, ...order.map((at) => values[at])], this);
    this.plot.over.addEventListener("click", () => this.click(x, gap));
  }

  series(uPlot, each, isBars) {
    const stroke = color(this, each.color ?? "accent");
    if (isBars) return { label: each.label, fill: stroke, stroke, width: 0, paths: uPlot.paths.bars({ size: [0.86, 60], gap: 0 }), points: { show: false } };
    return { label: each.label, stroke, width: 1.5, points: { show: false } };
  }

  click(x, gap) {
    const at = this.plot.cursor.idx;
    if (at === null || at === undefined || this.plot.select.width > 2) return;
    this.send(x[at] - gap / 2, x[at] + gap / 2);
  }

  range(plot) {
    if (plot.select.width < 3) return;
    this.send(plot.posToVal(plot.select.left, "x"), plot.posToVal(plot.select.left + plot.select.width, "x"));
  }

  send(since, until) {
    this.dispatchEvent(new CustomEvent("headrace:range", { bubbles: true, detail: { since, until } }));
  }
}

customElements.define("hr-chart", Chart);
