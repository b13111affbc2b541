// Every service at once: how well its requests go, how many instances it has, and what is wrong.

import { ask } from "./api.js";
import { Sparkline } from "./charts.js";
import { Coverage, Mute, successLevel, trafficColumns } from "./figures.js";
import { UNKNOWN } from "./format.js";
import { troublesOf } from "./health.js";
import { html, Live, Mark, Scope, serviceLink, Table, Trouble } from "./parts.js";

const ROUND_SECONDS = 30;

export class Overview extends Live {
  constructor(props) {
    super(props);
    this.state = { curves: {}, sort: null, filter: "", fleet: false };
    this.left = new AbortController();
    this.sortBy = (key) => this.setState(({ sort }) => ({ sort: sort?.key === key ? (sort.down ? { key, down: false } : null) : { key, down: true } }));
  }

  componentDidMount() {
    this.look(false);
    this.watch("services", "/services", 5);
    this.draw();
  }

  /** Whose figures. */
  look(fleet) {
    this.setState({ fleet, stat: undefined });
    this.watch("stat", fleet ? "/fleet/stat?window=60" : "/telemetry/stat?window=60", fleet ? 5 : 2);
  }

  componentWillUnmount() {
    super.componentWillUnmount();
    this.left.abort();
  }

  /** The small curves, one question at a time, and only of rows that somebody sees. */
  async draw() {
    while (!this.left.signal.aborted) {
      const began = performance.now();
      let asked = 0;
      for (const row of document.querySelectorAll("tr [data-service]")) {
        const { top, bottom } = row.getBoundingClientRect();
        if (document.hidden || bottom < 0 || top > innerHeight) continue;
        const name = row.dataset.service;
        asked += 1;
        const found = await ask(`/telemetry/points?service=${encodeURIComponent(name)}&window=3600`, this.left.signal);
        if (this.left.signal.aborted) return;
        if (found.refused) break; // the feed is off: nothing is known of the others either
        if (found.error === null) this.setState(({ curves }) => ({ curves: { ...curves, [name]: found.value.points } }));
      }
      const rest = (asked ? ROUND_SECONDS : 0.5) * 1000 - (performance.now() - began);
      await new Promise((done) => setTimeout(done, Math.max(500, rest)));
    }
  }

  rows() {
    const services = this.value("services")?.services, figures = this.value("stat")?.rows, status = this.props.status?.value;
    const names = new Set([...(services ?? []).map((one) => one.service), ...(figures ?? []).map((one) => one.service)]);
    const troubles = Map.groupBy(troublesOf(status), (one) => one.service);
    const rows = [...names].map((name) => ({
      name,
      service: services?.find((one) => one.service === name),
      figures: figures?.find((one) => one.service === name),
      told: status?.services[name],
      troubles: troubles.get(name) ?? [],
    }));
    const wanted = rows.filter((row) => row.name.toLowerCase().includes(this.state.filter.toLowerCase()));
    return wanted.sort((one, other) => this.order(one, other) || one.name.localeCompare(other.name));
  }

  /** Those with troubles first, unless somebody wants another order; what is not known goes last. */
  order(one, other) {
    const { sort } = this.state;
    if (!sort) return rank(other) - rank(one);
    const { by } = this.columns().find((column) => column.key === sort.key);
    const [mine, theirs] = [by(one), by(other)];
    if (mine === null || mine === undefined || theirs === null || theirs === undefined) return (mine ?? null) === null ? ((theirs ?? null) === null ? 0 : 1) : -1;
    const order = typeof mine === "string" ? mine.localeCompare(theirs) : mine - theirs;
    return sort.down ? -order : order;
  }

  columns() {
    return [
      { key: "service", title: "service", by: (row) => row.name, cell: (row) => html`<a href=${serviceLink(row.name)}>${row.name}</a>` },
      ...trafficColumns,
      { key: "hour", title: "last hour", wide: true, cell: (row) => row.service?.listen && html`<span data-service=${row.name}><${Sparkline} points=${this.state.curves[row.name]} label=${row.name} /></span>` },
      { key: "up", title: "up", number: true, hint: "instances that take requests, of all that are registered", by: (row) => upOf(row)?.up, cell: (row) => html`<${Up} row=${row} />` },
      { key: "troubles", title: "what is wrong", class: "words", under: true, by: (row) => row.troubles.length, cell: (row) => row.troubles.map((one, at) => html`<div key=${at}><${Mark} level=${one.level}>${one.text}<//></div>`) },
    ];
  }

  render({ status }, { stat, services, sort, filter, fleet }) {
    const rows = this.rows(), wrong = rows.filter((row) => row.troubles.length).length;
    const host = troublesOf(status?.value).filter((one) => one.service === null);
    const caption = `Services: ${rows.length}${wrong ? `, ${wrong} with something wrong` : ""}; the last minute, ${fleet ? "of the fleet" : `on ${this.value("stat")?.host ?? "this host"}`}`;
    return html`<h1 class="unseen">Services</h1>
      <${Trouble} of=${{ figures: stat, services, status }} />
      <${Mute} hosts=${this.value("stat")?.hosts} />
      ${host.length ? html`<ul class="notice">${host.map((one, at) => html`<li key=${at}><${Mark} level=${one.level}>${one.text}<//></li>`)}</ul>` : null}
      <form class="bar" onSubmit=${(event) => event.preventDefault()}><label>Find <input type="search" value=${filter} onInput=${(event) => this.setState({ filter: event.target.value })} placeholder="a service" /></label>
        <${Scope} fleet=${fleet} onChange=${(wanted) => this.look(wanted)} /></form>
      <${Table} caption=${caption} columns=${this.columns()} rows=${rows} rowKey=${(row) => row.name} sort=${sort} onSort=${this.sortBy}
        empty=${services?.value === undefined ? (services?.error ? "not known" : "asking") : filter ? "no service has this in its name" : "no service is defined or used here"} />
      <${Coverage} answer=${this.value("stat")} />`;
  }
}

const RANKS = { bad: 2, warn: 1 };
const rank = (row) => Math.max(...[successLevel(row.figures?.success_rate), ...row.troubles.map((one) => one.level)].map((level) => RANKS[level] ?? 0));

/** How many instances serve, of how many; null while that is not known. Without a proxy HAProxy finds nothing of them. */
function upOf({ told, service }) {
  if (told && !told.discovery_only) {
    return { up: told.instances.filter((one) => one.state === "serving").length, all: told.instances.length };
  }
  return service ? { up: service.traffic, all: service.instances } : null;
}

function Up({ row }) {
  const counts = upOf(row);
  if (!counts) return UNKNOWN;
  const text = `${counts.up}/${counts.all}`;
  return counts.up === counts.all && counts.all ? text : html`<${Mark} level=${counts.up ? "warn" : "bad"}>${text}<//>`;
}
