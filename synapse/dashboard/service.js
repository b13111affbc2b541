// One service: its figures and curves, its instances, who calls it and whom it calls, its routes, requests as they end.

import { ServiceCharts } from "./charts.js";
import { isQuiet, Timeline } from "./events.js";
import { Coverage, retries, Success, trafficColumns } from "./figures.js";
import { clock, count, duration, perSecond, UNKNOWN } from "./format.js";
import { Instances } from "./instances.js";
import { html, Live, Mark, Section, serviceLink, Table, Trouble } from "./parts.js";
import { Tap } from "./tap.js";

export class ServicePage extends Live {
  componentDidMount() {
    const name = encodeURIComponent(this.props.name);
    this.watch("explain", `/explain/${name}`, 3);
    this.watch("services", "/services", 30);
    this.watchEvents(this.props.name);
  }

  /** Of a service without the proxy nobody knows any figures. */
  componentDidUpdate() {
    const told = this.value("explain")?.services[this.props.name];
    if (!told || told.discovery_only || this.ends.has("stat")) return;
    const name = encodeURIComponent(this.props.name);
    this.watch("stat", `/telemetry/stat?service=${name}&window=60`, 2);
    this.watch("instances", `/telemetry/stat?service=${name}&by=instance&window=60`, 2);
    this.watch("points", `/telemetry/points?service=${name}&window=3600`, 10);
    this.watch("edges", "/telemetry/edges?window=60", 5);
    this.watch("routes", `/telemetry/routes?service=${name}&window=60`, 5);
  }

  render({ name }, { stat, instances, explain, points, edges, routes, events }) {
    const told = this.value("explain")?.services[name];
    const figures = this.value("stat")?.rows.find((row) => row.service === name);
    if (this.value("explain") && !told) {
      return html`<h1>${name}</h1><p class="notice">No service of this name is defined or used on this host.</p>`;
    }
    const hasFigures = told && !told.discovery_only && !stat?.refused;
    return html`<h1>${name} ${told ? html`<small>${told.discovery_only ? "discovery only" : told.listen ?? "not offered"}</small>` : null}</h1>
      <${Trouble} of=${{ figures: stat, instances: explain, curves: points, edges, routes }} />
      <${State} told=${told} splits=${this.value("explain")?.splits?.[name]} faults=${this.value("explain")?.faults} name=${name} />
      ${hasFigures ? html`<${Tiles} figures=${figures} />
        <${Coverage} answer=${this.value("stat")} />
        <${ServiceCharts} points=${this.value("points")?.points} />` : null}
      <${Instances} told=${told} rows=${this.value("instances")?.rows} at=${this.value("explain")?.at} />
      ${hasFigures ? html`
        <div class="columns"><${Callers} name=${name} edges=${this.value("edges")?.edges} services=${this.value("services")?.services} />
        <${Callees} name=${name} edges=${this.value("edges")?.edges} /></div>
        <${Routes} rows=${this.value("routes")?.rows} />
        <${Tap} service=${name} />` : null}
      <${Section} id="changes" title="What changed"><${Timeline} short events=${(events?.events ?? []).filter(isQuiet)} of=${events} caption=${`Events of ${name} and of this host, without weights`} /><//>`;
  }
}

/** What is special about a service, in words; nothing where all is as usual. */
function State({ told, splits, faults, name }) {
  if (!told) return null;
  const lines = [];
  if (told.refused_definition) lines.push(["bad", `its definition is not in use: ${told.refused_definition}`]);
  if (told.origin !== "listing") lines.push(["warn", `${told.origin}: ${told.reason}`]);
  if (told.held_back_until !== null) lines.push(["warn", `held back until ${clock(told.held_back_until)}, or until somebody accepts the listing: synapse accept`]);
  for (const node of told.refused_nodes) lines.push(["warn", `refused node ${node.node}: ${node.reason}`]);
  for (const fault of faults ?? []) if (fault.service === name) lines.push(["warn", `requests fail on purpose: ${fault.words}${fault.owner ? ` (${fault.owner})` : ""}`]);
  const shares = (splits ?? []).map((one) => `${one.to} ${one.percent}%${one.ordered ? " (ordered here)" : ""}`);
  const rings = told.rings.map((ring) => `${ring.name} ${ring.ready}/${ring.registered}${ring.used ? "" : " (backup)"}`);
  return html`${lines.length ? html`<ul class="notice">${lines.map(([level, text], at) => html`<li key=${at}><${Mark} level=${level}>${text}<//></li>`)}</ul>` : null}
    ${shares.length ? html`<p class="muted">shares of the requests: ${shares.join(", ")}</p>` : null}
    ${rings.length ? html`<p class="muted">rings, ready of registered: ${rings.join(", ")}; ${told.placement}</p>` : null}`;
}

function Tiles({ figures }) {
  const tiles = [
    ["success", html`<${Success} row=${figures} />`], ["requests a second", perSecond(figures?.rate)],
    ["p50", duration(figures?.p50_ms)], ["p95", duration(figures?.p95_ms)], ["p99", duration(figures?.p99_ms)],
    ["connections", count(figures?.connections)], ["retries", count(figures?.retries)],
    ["5xx", count(figures?.classes?.["5xx"])],
  ];
  return html`<dl class="tiles" aria-label="The last minute">${tiles.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

const figured = (rows, keep = () => true) => (rows ?? []).filter(keep).map((row) => ({ ...row, figures: row }));
const fewer = trafficColumns.filter((column) => column.key !== "p95");
const nothing = (rows) => (rows ? "none in the last minute" : "not known");

const KINDS = {
  listener: "by the listener that it used", header: "by the header that it sent", process: "by the process behind its port",
  announced: "the service that this host announces", host: "the host: nothing more is known",
};

function Callers({ name, edges, services }) {
  const isService = (source) => services?.some((one) => one.service === source);
  const columns = [
    { key: "source", title: "caller", cell: (row) => (isService(row.source) ? html`<a href=${serviceLink(row.source)}>${row.source}</a>` : row.source) },
    { key: "kind", title: "known by", wide: true, cell: (row) => html`<span title=${KINDS[row.source_kind]}>${row.source_kind}</span>` },
    { key: "host", title: "from", wide: true, cell: (row) => row.host },
    ...fewer,
  ];
  return html`<${Section} id="callers" title="Callers"><${Table} caption=${`Who called ${name}`} columns=${columns}
    rows=${figured(edges, (row) => row.service === name)} rowKey=${(row) => `${row.host} ${row.source_kind} ${row.source}`} empty=${nothing(edges)} /><//>`;
}

function Callees({ name, edges }) {
  const columns = [{ key: "service", title: "callee", cell: (row) => html`<a href=${serviceLink(row.service)}>${row.service}</a>` }, ...fewer];
  return html`<${Section} id="callees" title="Callees"><${Table} caption=${`Whom ${name} called from this host`} columns=${columns}
    rows=${figured(edges, (row) => row.source === name)} rowKey=${(row) => `${row.host} ${row.source_kind} ${row.service}`} empty=${nothing(edges)} /><//>`;
}

function Routes({ rows }) {
  const columns = [
    { key: "route", title: "route", class: "words", cell: (row) => html`<span class="muted">${row.method || UNKNOWN}</span> ${row.route || UNKNOWN}` },
    ...trafficColumns, retries,
  ];
  return html`<${Section} id="routes" title="Routes"><${Table} caption="By method and path" columns=${columns} rows=${figured(rows)}
    rowKey=${(row) => `${row.method} ${row.route}`} empty=${nothing(rows)} /><//>`;
}
