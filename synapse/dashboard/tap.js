// Requests as they end. It costs nothing while nobody listens: the tap ends with this page, or when it is stopped.

import { ask } from "./api.js";
import { clock, count, duration, UNKNOWN } from "./format.js";
import { html, Live, Mark, Section, Table } from "./parts.js";

const SHOWN = 200;
const FIELDS = [
  { key: "path", title: "Path", hint: "begins with" }, { key: "method", title: "Method", hint: "GET" },
  { key: "status", title: "Status", hint: "5xx or 503" }, { key: "from", title: "From", hint: "a caller" },
];

export class Tap extends Live {
  constructor(props) {
    super(props);
    this.state = { running: null, requests: [], missed: 0, error: null, path: "", method: "", status: "", from: "" };
    this.number = 0;
  }

  componentWillUnmount() {
    super.componentWillUnmount();
    this.state.running?.abort();
  }

  stop() {
    this.state.running?.abort();
    this.setState({ running: null });
  }

  async start() {
    this.stop();
    const running = new AbortController();
    this.setState({ running, requests: [], missed: 0, error: null });
    const query = new URLSearchParams({ service: this.props.service });
    for (const { key } of FIELDS) if (this.state[key].trim()) query.set(key, this.state[key].trim());
    let id = null;
    while (!running.signal.aborted) {
      const next = id === null ? query : new URLSearchParams({ service: this.props.service, id, wait: "1" });
      const found = await ask(`/telemetry/tap?${next}`, running.signal);
      if (running.signal.aborted) return;
      if (found.error !== null) {
        this.setState({ error: found.error, running: null });
        return;
      }
      id = found.value.id;
      const newest = found.value.requests.map((request) => ({ ...request, number: ++this.number })).reverse();
      this.setState(({ requests, missed }) => ({ requests: [...newest, ...requests].slice(0, SHOWN), missed: missed + found.value.missed }));
    }
  }

  render({ service }, { running, requests, missed, error }) {
    const columns = [
      { key: "at", title: "ended", cell: (row) => clock(row.at, true) },
      { key: "from", title: "from", wide: true, cell: (row) => row.source || UNKNOWN },
      { key: "to", title: "instance", wide: true, cell: (row) => row.instance || "none reached" },
      { key: "what", title: "request", class: "words", cell: (row) => (row.mode === "tcp" ? "a connection" : `${row.method} ${row.path}`) },
      { key: "status", title: "status", number: true, cell: (row) => html`<${Status} row=${row} />` },
      { key: "took", title: "took", number: true, cell: (row) => duration(row.total_ms) },
      { key: "retries", title: "retries", number: true, wide: true, cell: (row) => (row.retries ? count(row.retries) : "") },
    ];
    return html`<${Section} id="tap" title="Live requests" note="as they end; nothing is kept">
      <form class="bar" onSubmit=${(event) => { event.preventDefault(); this.start(); }}>
        ${FIELDS.map(({ key, title, hint }) => html`<label key=${key}>${title} <input type="text" size="10" value=${this.state[key]} placeholder=${hint} onInput=${(event) => this.setState({ [key]: event.target.value })} /></label>`)}
        <button type="submit">${running ? "Begin again" : "Listen"}</button>
        ${running ? html`<button type="button" onClick=${() => this.stop()}>Stop</button>` : null}
      </form>
      ${error ? html`<p class="notice bad" role="alert">the tap ended: ${error}</p>` : null}
      ${running || requests.length ? html`<${Table} caption=${`Requests to ${service}, the newest first${missed ? `; ${count(missed)} more than can be shown` : ""}`} columns=${columns} rows=${requests} rowKey=${(row) => row.number} empty="listening" />` : null}
    <//>`;
  }
}

function Status({ row }) {
  const text = row.mode === "tcp" || !row.status ? row.termination : row.status;
  if (row.status >= 500 || (row.mode === "tcp" && row.termination !== "--")) return html`<${Mark} level="bad">${text}<//>`;
  return row.status >= 400 || row.termination !== "--" ? html`<${Mark} level="warn">${text}<//>` : text;
}
