// Why did this change? One timeline, the newest first.

import { clock, day } from "./format.js";
import { html, Live, Mark, serviceLink, Table, Trouble } from "./parts.js";

const SHOWN = 300;
const QUIET = "quiet";
const EVERYTHING = "";

/** Weights follow every breath of the instances: they are shown to who asks for them. */
export const isQuiet = (one) => one.kind !== "weights";
const LEVELS = { info: "info", warning: "warn", error: "bad" };

export class EventsPage extends Live {
  constructor(props) {
    super(props);
    this.state = { text: "", kind: QUIET, level: "" };
  }

  componentDidMount() {
    this.watchEvents(null);
  }

  render(props, { events, text, kind, level }) {
    const all = events?.events ?? [];
    const kinds = [...new Set(all.map((one) => one.kind))].sort();
    const wanted = all.filter((one) => (kind === QUIET ? isQuiet(one) : kind === EVERYTHING || one.kind === kind) && (!level || one.level !== "info") && matches(one, text));
    const set = (key) => (event) => this.setState({ [key]: event.target.value });
    return html`<h1>Events</h1>
      <${Trouble} of=${{ events: events && { ...events, value: events.events.length ? all : undefined, at: all.at(-1)?.at } }} />
      <form class="bar" onSubmit=${(event) => event.preventDefault()}>
        <label>Find <input type="search" value=${text} onInput=${set("text")} placeholder="service, address, word" /></label>
        <label>About <select value=${kind} onChange=${set("kind")}><option value=${QUIET}>all but weights</option><option value=${EVERYTHING}>everything</option>${kinds.map((each) => html`<option key=${each} value=${each}>${each}</option>`)}</select></label>
        <label>Show <select value=${level} onChange=${set("level")}><option value="">all</option><option value="trouble">only troubles</option></select></label>
      </form>
      <${Timeline} events=${wanted} caption=${caption(wanted.length, all.length)} of=${events} />`;
  }
}

const caption = (some, all) => (some === all ? `What changed on this host: ${all} events` : `${some} of ${all} events`);
const matches = (one, text) => `${one.service ?? ""} ${one.kind} ${one.what} ${one.why}`.toLowerCase().includes(text.toLowerCase());

/** The newest first, of what `follow` found. `short` leaves the service out, on its own page. */
export function Timeline({ events, caption, of, short }) {
  const newest = events.slice(-SHOWN).reverse();
  const columns = [
    { key: "at", title: "when", cell: (row) => html`<time datetime=${new Date(row.at * 1000).toISOString()} title=${day(row.at)}>${isToday(row.at) ? "" : `${day(row.at)} `}${clock(row.at)}</time>` },
    { key: "kind", title: "about", wide: true, cell: (row) => html`<span class="muted">${row.kind}</span>` },
    ...(short ? [] : [{ key: "service", title: "service", under: true, class: "named", cell: (row) => (row.service ? html`<a href=${serviceLink(row.service)}>${row.service}</a>` : html`<span class="muted">host</span>`) }]),
    { key: "what", title: "what, and why", class: "words", cell: (row) => html`<${Words} event=${row} />` },
  ];
  return html`<${Table} caption=${caption} columns=${columns} rows=${newest} rowKey=${(row) => row.number} empty=${of?.known ? "nothing" : of?.error ? "not known" : "asking"} />
    ${events.length > SHOWN ? html`<p class="muted">the newest ${SHOWN} are shown; synapse events prints all</p>` : null}`;
}

function Words({ event }) {
  const level = LEVELS[event.level] ?? "info";
  const what = level === "info" ? event.what : html`<${Mark} level=${level}>${event.what}<//>`;
  return html`${what}${event.why ? html` <span class="muted">(${event.why})</span>` : null}`;
}

const isToday = (at) => new Date(at * 1000).toDateString() === new Date().toDateString();
