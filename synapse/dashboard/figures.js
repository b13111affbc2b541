// Columns of traffic figures, the same wherever they stand, and how much a success rate is worth worrying about.

import { count, duration, percent, perSecond } from "./format.js";
import { html, Mark } from "./parts.js";

export function successLevel(rate) {
  if (rate === null || rate === undefined) return "unknown";
  return rate < 0.95 ? "bad" : rate < 0.99 ? "warn" : "ok";
}

export function Success({ row }) {
  const rate = row?.success_rate;
  if (rate === null || rate === undefined) {
    const silent = row && row.rate === 0;
    return html`<span class="muted" title=${silent ? "no requests" : "not known"}>${silent ? "none" : "–"}</span>`;
  }
  const level = successLevel(rate);
  return level === "ok" ? percent(rate) : html`<${Mark} level=${level}>${percent(rate)}<//>`;
}

/** Columns for rows that have a `figures`: a row of /telemetry/stat, /telemetry/edges or /telemetry/routes, or nothing. */
export const trafficColumns = [
  { key: "success", title: "success", number: true, cell: ({ figures }) => html`<${Success} row=${figures} />`, by: ({ figures }) => figures?.success_rate },
  { key: "rate", title: "req/s", number: true, cell: ({ figures }) => perSecond(figures?.rate), by: ({ figures }) => figures?.rate },
  { key: "p50", title: "p50", number: true, wide: true, cell: ({ figures }) => duration(figures?.p50_ms), by: ({ figures }) => figures?.p50_ms },
  { key: "p95", title: "p95", number: true, wide: true, cell: ({ figures }) => duration(figures?.p95_ms), by: ({ figures }) => figures?.p95_ms },
  { key: "p99", title: "p99", number: true, cell: ({ figures }) => duration(figures?.p99_ms), by: ({ figures }) => figures?.p99_ms },
];

export const retries = { key: "retries", title: "retries", number: true, wide: true, cell: ({ figures }) => count(figures?.retries), by: ({ figures }) => figures?.retries };

/** The hosts of the fleet whose figures are missing in what is shown, and why. */
export function Mute({ hosts }) {
  const lines = (hosts ?? []).filter((one) => one.error).map(({ host, address, error }) =>
    html`<li key=${address}><${Mark} level="warn">${host.includes(address) ? host : `${host} (${address})`} is missing here: ${error}<//></li>`);
  return lines.length ? html`<ul class="notice">${lines}</ul>` : null;
}

/** What a reader has to know of the figures: what they do not cover, and what was lost. */
export function Coverage({ answer }) {
  if (!answer) return null;
  const notes = [];
  const { window_seconds: window, covered_seconds: covered } = answer;
  if (covered === null || covered === undefined) notes.push("not known how much of the time is covered");
  else if (covered === 0) notes.push("nothing of this time is known: the feed is off, or synapse has just started");
  else if (window - covered >= 1) notes.push(`${covered.toFixed(0)} s of ${window.toFixed(0)} s covered`);
  const lost = Object.entries(answer.dropped ?? {}).filter(([, number]) => number);
  if (lost.length) notes.push(`lines of the feed that are not counted: ${lost.map(([why, number]) => `${count(number)} ${why}`).join(", ")}`);
  if (answer.note) notes.push(answer.note);
  return notes.length ? html`<p class="muted">${notes.join("; ")}</p>` : null;
}
