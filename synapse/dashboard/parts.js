// The pieces that pages are made of. Whatever synapse answers becomes text nodes and attributes, never markup.

import { Component, h } from "./vendor/preact.mjs";
import htm from "./vendor/htm.module.js";
import { follow, poll } from "./api.js";
import { clock } from "./format.js";

export const html = htm.bind(h);

/** A component that asks synapse while it is shown: `watch` in `componentDidMount`. */
export class Live extends Component {
  constructor(props) {
    super(props);
    this.state = {};
    this.ends = new Map();
  }

  /** Ask for this again and again, in place of what was asked for under the same key. */
  watch(key, path, seconds) {
    this.ends.get(key)?.();
    this.ends.set(key, poll(path, seconds, (found) => this.setState({ [key]: found })));
  }

  watchEvents(service) {
    this.ends.set("events", follow(service, (found) => this.setState({ events: found })));
  }

  /** Ask no more; what is known of it is forgotten. */
  unwatch(key) {
    this.ends.get(key)?.();
    this.ends.delete(key);
    this.setState({ [key]: undefined });
  }

  componentWillUnmount() {
    for (const end of this.ends.values()) end();
  }

  /** What is known under this key, undefined while nothing is. */
  value(key) {
    return this.state[key]?.value;
  }
}

/** Says what keeps these sources from being of now, each reason once; nothing while all is well. */
export function Trouble({ of }) {
  const late = Object.entries(of).filter(([, found]) => found?.error).map(([name, found]) => ({ name, ...found }));
  const reasons = [...Map.groupBy(late, ({ error, value }) => JSON.stringify([error, value === undefined])).entries()];
  const lines = reasons.map(([key, group]) => {
    const [{ error, refused, value }] = group;
    const shown = value === undefined ? "nothing is known" : `what is shown is of ${clock(Math.min(...group.map(({ at }) => at)))}`;
    return html`<li key=${key}>${group.map(({ name }) => name).join(", ")}: ${error}${refused ? "" : `; ${shown}`}</li>`;
  });
  if (!lines.length) return null;
  return late.every(({ refused }) => refused) ? html`<ul class="notice">${lines}</ul>` : html`<ul class="notice bad" role="alert">${lines}</ul>`;
}

const MARKS = { ok: "●", warn: "▲", bad: "✕", unknown: "?" };

/** A state by shape, colour and word. */
export function Mark({ level, children }) {
  return html`<span class=${`mark ${level}`}><span aria-hidden="true">${MARKS[level]}</span> ${children}</span>`;
}

const classOf = (column) => `${column.number ? "number" : ""} ${column.wide || column.under ? "wide" : ""} ${column.class ?? ""}`;

/** A table that rolls sideways in itself where it must. `columns`: {key, title, number, wide, under, cell(row)}. On a
 * phone a `wide` column is left out, and what is in an `under` column stands beneath the row's name. */
export function Table({ caption, columns, rows, rowKey, empty, sort, onSort }) {
  const beneath = columns.filter((column) => column.under);
  const heads = columns.map((column) => {
    const order = sort?.key === column.key ? (sort.down ? "descending" : "ascending") : undefined;
    const title = onSort && column.by
      ? html`<button type="button" onClick=${() => onSort(column.key)}>${column.title}${order ? html`<span aria-hidden="true">${sort.down ? " ↓" : " ↑"}</span>` : null}</button>`
      : column.title;
    return html`<th key=${column.key} scope="col" class=${classOf(column)} aria-sort=${order} title=${column.hint}>${title}</th>`;
  });
  const body = rows.map((row) => html`<tr key=${rowKey(row)} class=${row.rowClass}>${columns.map((column, at) => {
    const cell = column.cell(row);
    return at === 0
      ? html`<th key=${column.key} scope="row" class=${classOf(column)}>${cell}${beneath.map((each) => html`<div key=${each.key} class="narrow">${each.cell(row)}</div>`)}</th>`
      : html`<td key=${column.key} class=${classOf(column)}>${cell}</td>`;
  })}</tr>`);
  return html`<div class="rolls" role="region" aria-label=${caption} tabindex="0"><table>
    <caption>${caption}</caption>
    <thead><tr>${heads}</tr></thead>
    <tbody>${body.length ? body : html`<tr><td colspan=${columns.length} class="muted">${empty}</td></tr>`}</tbody>
  </table></div>`;
}

export function Section({ title, note, children, id }) {
  return html`<section aria-labelledby=${`${id}-title`} id=${id}>
    <h2 id=${`${id}-title`}>${title}${note ? html` <small>${note}</small>` : null}</h2>
    ${children}
  </section>`;
}

/** This host or the fleet: whose figures are shown. */
export function Scope({ fleet, onChange }) {
  const choice = (value, text) => html`<label><input type="radio" name="scope" checked=${fleet === value} onChange=${() => onChange(value)} /> ${text}</label>`;
  return html`<fieldset><legend>Figures of</legend>${choice(false, "this host")}${choice(true, "the fleet")}</fieldset>`;
}

export const serviceLink = (name) => `#/service/${encodeURIComponent(name)}`;
