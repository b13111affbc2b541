// Who calls whom: callers on the left, whom they call on the right. The table below it says the same in words.

import dagre from "./vendor/dagre.esm.js";
import { Coverage, Mute, successLevel, trafficColumns } from "./figures.js";
import { duration, percent, perSecond } from "./format.js";
import { html, Live, Scope, serviceLink, Table, Trouble } from "./parts.js";

const HEIGHT = 44;
const NARROW = 640;
const WIDE_SIZES = { rankdir: "LR", nodesep: 22, ranksep: 64, label: 92, least: 116, letters: 26 };
const NARROW_SIZES = { rankdir: "TB", nodesep: 10, ranksep: 34, label: 56, least: 100, letters: 18 };

export class Topology extends Live {
  constructor(props) {
    super(props);
    this.state = { fleet: true, chosen: false };
  }

  componentDidMount() {
    this.look(true);
    this.watch("services", "/services", 10);
  }

  look(fleet, chosen = false) {
    this.setState({ fleet, chosen, edges: undefined });
    this.watch("edges", fleet ? "/fleet/edges?window=60" : "/telemetry/edges?window=60", 5);
  }

  /** Where no fleet is announced there is this host. */
  componentDidUpdate() {
    const { fleet, chosen, edges } = this.state;
    if (fleet && !chosen && edges?.value?.hosts.length === 0) this.look(false);
  }

  render(props, { fleet, edges, services }) {
    const found = this.value("edges")?.edges;
    const known = this.value("services")?.services.map((one) => one.service);
    const merged = found && together(found);
    return html`<h1>Topology</h1>
      <${Trouble} of=${{ edges, services }} />
      <${Mute} hosts=${this.value("edges")?.hosts} />
      <form class="bar" onSubmit=${(event) => event.preventDefault()}><${Scope} fleet=${fleet} onChange=${(wanted) => this.look(wanted, true)} />
        <p class="muted">who called whom in the last minute${found && fleet ? `, by ${this.value("edges").hosts.filter((one) => !one.error).length} of ${this.value("edges").hosts.length} hosts` : ""}</p></form>
      ${merged === undefined ? html`<p class="muted">${edges?.error ? "not known" : "asking"}</p>`
        : merged.length ? html`<${Graph} edges=${merged} known=${known ?? []} />`
        : html`<p class="notice">nobody called anybody in the last minute</p>`}
      ${merged?.length ? html`<${Edges} edges=${found} known=${known ?? []} />` : null}
      <${Coverage} answer=${this.value("edges")} />`;
  }
}

/** One edge for each caller and callee, of however many hosts. The slowest p99 of them stands for all. */
function together(edges) {
  const merged = new Map();
  for (const edge of edges) {
    const key = JSON.stringify([edge.source, edge.service]);
    const one = merged.get(key) ?? { source: edge.source, service: edge.service, rate: 0, success: 0, failures: 0, p99_ms: null };
    one.rate += edge.rate ?? 0;
    one.success += edge.success;
    one.failures += edge.failures;
    if (edge.p99_ms !== null) one.p99_ms = Math.max(one.p99_ms ?? 0, edge.p99_ms);
    merged.set(key, one);
  }
  return [...merged.values()].map((one) => ({ ...one, success_rate: one.success + one.failures ? one.success / (one.success + one.failures) : null }));
}

/** Nodes and edges with their places, and the path of each edge's line. */
export function layout(edges, known, narrow) {
  const { rankdir, nodesep, ranksep, label, least, letters } = narrow ? NARROW_SIZES : WIDE_SIZES;
  const graph = new dagre.graphlib.Graph();
  graph.setGraph({ rankdir, nodesep, ranksep, marginx: 8, marginy: 8 });
  graph.setDefaultEdgeLabel(() => ({}));
  const names = [...new Set(edges.flatMap((edge) => [edge.source, edge.service]))].sort();
  for (const name of names) {
    const shown = name.length > letters ? `${name.slice(0, letters - 1)}…` : name;
    graph.setNode(name, { name, shown, isService: known.includes(name), width: Math.max(least, shown.length * 7.8 + 24), height: HEIGHT });
  }
  for (const edge of edges) graph.setEdge(edge.source, edge.service, { edge, width: label, height: 16, labelpos: "c" });
  dagre.layout(graph);
  const { width, height } = graph.graph();
  const lines = graph.edges().map((each) => {
    const line = graph.edge(each);
    return { ...line, path: curve(fromSideToSide(line.points, graph.node(each.v), graph.node(each.w), narrow), narrow) };
  });
  return { width, height, nodes: graph.nodes().map((name) => graph.node(name)), edges: lines };
}

/** A line that goes on in the direction of reading leaves its caller on that side, and no neighbour hides it. */
function fromSideToSide(points, source, target, narrow) {
  const [along, across, length, breadth] = narrow ? ["y", "x", "height", "width"] : ["x", "y", "width", "height"];
  if (source[along] + source[length] / 2 > target[along] - target[length] / 2) return points;
  const end = (node, point, side) => {
    const reach = node[breadth] / 2 - 8;
    return { [along]: node[along] + (side * node[length]) / 2, [across]: Math.max(node[across] - reach, Math.min(node[across] + reach, point[across])) };
  };
  return [end(source, points[0], 1), ...points.slice(1, -1), end(target, points.at(-1), -1)];
}

class Graph extends Live {
  constructor(props) {
    super(props);
    this.query = matchMedia(`(max-width: ${NARROW}px)`);
    this.turned = () => this.forceUpdate();
  }

  componentDidMount() {
    this.query.addEventListener("change", this.turned);
  }

  componentWillUnmount() {
    this.query.removeEventListener("change", this.turned);
  }

  /** Places stay as they are while the same edges are there: figures change, the picture does not jump. */
  placed() {
    const { edges, known } = this.props;
    const key = JSON.stringify([edges.map((edge) => [edge.source, edge.service]), known, this.query.matches]);
    if (this.key !== key) [this.key, this.place] = [key, layout(edges, known, this.query.matches)];
    return this.place;
  }

  render({ edges }) {
    const { width, height, nodes, edges: lines } = this.placed();
    const of = new Map(edges.map((edge) => [JSON.stringify([edge.source, edge.service]), edge]));
    const incoming = Map.groupBy(edges, (edge) => edge.service);
    return html`<div class="rolls graph" role="region" aria-label="Graph of calls" tabindex="0">
      <svg viewBox=${`0 0 ${width} ${height}`} width=${width} style=${{ minWidth: `${Math.round(width * 0.85)}px` }} role="group" aria-label=${`${nodes.length} callers and services, ${lines.length} edges between them; the table below has them in words`}>
        <defs>${["ok", "warn", "bad", "unknown"].map((level) => html`<marker key=${level} id=${`arrow-${level}`} viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" markerUnits="userSpaceOnUse" orient="auto-start-reverse"><path class=${`arrow ${level}`} d="M0 0L8 4L0 8z" /></marker>`)}</defs>
        ${lines.map(({ edge, path, x, y }) => html`<${Line} key=${`${edge.source} ${edge.service}`} edge=${of.get(JSON.stringify([edge.source, edge.service]))} path=${path} at=${{ x, y }} narrow=${this.query.matches} />`)}
        ${nodes.map((node) => html`<${Node} key=${node.name} node=${node} incoming=${incoming.get(node.name) ?? []} />`)}
      </svg></div>`;
  }
}

function Line({ edge, path, at, narrow }) {
  const level = successLevel(edge.success_rate);
  const told = `${edge.source} to ${edge.service}: ${perSecond(edge.rate)} requests a second, ${percent(edge.success_rate)} success, p99 ${duration(edge.p99_ms)}`;
  const fails = level === "bad" || level === "warn", rate = `${perSecond(edge.rate)}/s`, failing = `✕ ${percent(edge.success_rate)}`;
  const text = !fails ? rate : narrow ? failing : `${rate} ${failing}`;
  const width = text.length * 6.6 + 4;
  return html`<g class=${`edge ${level}`}><title>${told}</title>
    <path d=${path} stroke-width=${1 + Math.min(3, Math.log10(1 + edge.rate))} marker-end=${`url(#arrow-${level})`} />
    <rect class="plate" x=${at.x - width / 2} y=${at.y - 8} width=${width} height="16" />
    <text x=${at.x} y=${at.y + 4} text-anchor="middle">${text}</text>
  </g>`;
}

/** A smooth line through the points that the layout gave. */
function curve(points, narrow) {
  let path = `M${points[0].x} ${points[0].y}`;
  for (let at = 1; at < points.length; at++) {
    const [from, to] = [points[at - 1], points[at]];
    const [across, down] = [(from.x + to.x) / 2, (from.y + to.y) / 2];
    path += narrow ? `C${from.x} ${down} ${to.x} ${down} ${to.x} ${to.y}` : `C${across} ${from.y} ${across} ${to.y} ${to.x} ${to.y}`;
  }
  return path;
}

function Node({ node, incoming }) {
  const rate = incoming.reduce((sum, edge) => sum + edge.rate, 0);
  const good = incoming.reduce((sum, edge) => sum + edge.success, 0), bad = incoming.reduce((sum, edge) => sum + edge.failures, 0);
  const level = incoming.length ? successLevel(good + bad ? good / (good + bad) : null) : "source";
  const under = incoming.length ? `${perSecond(rate)}/s ${good + bad ? percent(good / (good + bad)) : ""}` : "calls only";
  const box = html`<rect x=${node.x - node.width / 2} y=${node.y - node.height / 2} width=${node.width} height=${node.height} rx="6" />
    <text class="name" x=${node.x} y=${node.y - 3} text-anchor="middle">${node.shown}</text>
    <text class="under" x=${node.x} y=${node.y + 13} text-anchor="middle">${under}</text>`;
  return node.isService
    ? html`<a class=${`node ${level}`} href=${serviceLink(node.name)} aria-label=${`${node.name}, ${under}`}><title>${node.name}, ${under}</title>${box}</a>`
    : html`<g class=${`node ${level}`}><title>${node.name}, ${under}</title>${box}</g>`;
}

function Edges({ edges, known }) {
  const name = (text) => (known.includes(text) ? html`<a href=${serviceLink(text)}>${text}</a>` : text);
  const columns = [
    { key: "source", title: "caller", cell: (row) => name(row.source) },
    { key: "kind", title: "known by", wide: true, cell: (row) => row.source_kind },
    { key: "host", title: "host", under: true, cell: (row) => html`<span class="muted">${row.host}</span>` },
    { key: "service", title: "callee", class: "named", cell: (row) => name(row.service) },
    ...trafficColumns,
  ];
  const rows = edges.map((edge) => ({ ...edge, figures: edge }));
  return html`<${Table} caption="Every edge of the last minute" columns=${columns} rows=${rows}
    rowKey=${(row) => `${row.host} ${row.source_kind} ${row.source} ${row.service}`} empty="nobody called anybody in the last minute" />`;
}
