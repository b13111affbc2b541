// Curves. Where nothing is known there is a gap, and no line across it.

import { Component, createRef } from "./vendor/preact.mjs";
import { clock, duration, percent, perSecond } from "./format.js";
import { html } from "./parts.js";

const HOUR = 3600;

/** A small curve of the rate in the last hour; red below it where requests failed. */
export function Sparkline({ points, label }) {
  const width = 120, height = 24;
  if (!points) return html`<span class="spark muted" title="not known">–</span>`;
  const rates = points.map((point) => point.rate).filter((rate) => rate !== null);
  if (!rates.length) return html`<span class="spark muted" title="nothing is known of the last hour">–</span>`;
  const end = points[points.length - 1].at, top = Math.max(...rates, 1e-9);
  const x = (at) => width - ((end - at) / HOUR) * width;
  const y = (rate) => height - 2 - (rate / top) * (height - 6);
  let path = "", failed = "", pen = false;
  for (const point of points) {
    if (point.rate === null) { pen = false; continue; }
    const left = x(point.at).toFixed(1);
    path += pen ? `L${left} ${y(point.rate).toFixed(1)}` : `M${left} ${y(point.rate).toFixed(1)}h0.1`;
    pen = true;
    if (point.success_rate !== null && point.success_rate < 0.99) failed += `M${left} ${height}v-3`;
  }
  const told = `${label}: at most ${perSecond(top)} requests a second in the last hour, now ${perSecond(points[points.length - 1].rate)}`;
  return html`<svg class="spark" viewBox=${`0 0 ${width} ${height}`} width=${width} height=${height} role="img" aria-label=${told}>
    <title>${told}</title><path class="base" d=${`M0 ${height - 0.5}H${width}`} /><path class="failed" d=${failed} /><path class="curve" d=${path} />
  </svg>`;
}

const CHARTS = [
  { title: "requests a second", text: perSecond, series: [{ key: "rate", label: "rate", ink: "--series-1" }] },
  { title: "success rate", text: percent, share: true, series: [{ key: "success_rate", label: "success", ink: "--series-2" }] },
  { title: "latency", text: duration, series: [{ key: "p50_ms", label: "p50", ink: "--series-1" }, { key: "p99_ms", label: "p99", ink: "--series-3", dash: [4, 3] }] },
];

/** The curves of a service over the last hour. */
export function ServiceCharts({ points }) {
  return html`<div class="charts">${CHARTS.map((chart) => html`<${Chart} key=${chart.title} chart=${chart} points=${points} />`)}</div>`;
}

class Chart extends Component {
  constructor(props) {
    super(props);
    this.place = createRef();
    this.dark = matchMedia("(prefers-color-scheme: dark)");
    this.again = () => this.draw(true);
  }

  componentDidMount() {
    this.draw();
    this.seen = new ResizeObserver(() => this.fit());
    this.seen.observe(this.place.current);
    this.dark.addEventListener("change", this.again);
  }

  componentDidUpdate() {
    this.draw();
  }

  componentWillUnmount() {
    this.seen.disconnect();
    this.dark.removeEventListener("change", this.again);
    this.plot?.destroy();
  }

  fit() {
    const width = this.place.current?.clientWidth;
    if (this.plot && width && width !== this.plot.width) this.plot.setSize({ width, height: 150 });
  }

  draw(anew = false) {
    const { chart, points } = this.props;
    if (!points?.length) return;
    const data = [points.map((point) => point.at), ...chart.series.map(({ key }) => points.map((point) => point[key]))];
    if (this.plot && !anew) {
      this.plot.setData(data);
      return;
    }
    this.plot?.destroy();
    this.plot = new window.uPlot(this.options(chart), data, this.place.current);
  }

  options({ series, text, share }) {
    const style = getComputedStyle(document.documentElement);
    const ink = (name) => style.getPropertyValue(name).trim();
    const axis = { stroke: ink("--muted"), grid: { stroke: ink("--line"), width: 1 }, ticks: { stroke: ink("--line"), width: 1, size: 4 }, font: "11px system-ui, sans-serif" };
    const clockText = (seconds) => new Date(seconds * 1000).toTimeString().slice(0, 5);
    // Where nobody points at a moment, the legend says the newest.
    const pointed = (told) => (plot, value, one, at) => told(at === null ? plot.data[one].at(-1) : value);
    return {
      width: this.place.current.clientWidth || 300,
      height: 150,
      cursor: { drag: { x: false, y: false }, y: false },
      legend: { live: true },
      scales: {
        x: { range: (plot, least, most) => [most - HOUR, most] },
        y: { range: (plot, least, most) => share ? [Math.min(0.98, least ?? 1), 1] : [0, Math.max(most ?? 0, 0.1) * 1.1] },
      },
      axes: [
        { ...axis, values: (plot, times) => times.map(clockText) },
        { ...axis, size: 56, values: (plot, values) => values.map((value) => (value === null ? "" : text(value))) },
      ],
      series: [
        { label: "at", value: pointed(clock) },
        ...series.map((one) => ({ label: one.label, stroke: ink(one.ink), width: 1.5, dash: one.dash, spanGaps: false, points: { show: false }, value: pointed(text) })),
      ],
    };
  }

  render({ chart, points }) {
    const last = points?.[points.length - 1];
    const now = chart.series.map(({ key, label }) => `${label} ${chart.text(last?.[key])}`).join(", ");
    return html`<figure><figcaption>${chart.title}</figcaption>
      <div ref=${this.place} role="img" aria-label=${`${chart.title} in the last hour; now ${now}`}></div>
      ${points && !points.length ? html`<p class="muted">nothing is known of the last hour</p>` : null}
    </figure>`;
  }
}
