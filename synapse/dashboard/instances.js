// A service's instances: what each gets, how it answers, and why it gets no more than that.

import { age, count, UNKNOWN } from "./format.js";
import { retries, trafficColumns } from "./figures.js";
import { isSlow } from "./health.js";
import { html, Mark, Section, Table } from "./parts.js";

const NONE = "(none)";
const ADDRESSES = new Intl.Collator("en", { numeric: true });
const LEVELS = { serving: "ok", down: "bad", out: "bad", draining: "warn", "not in HAProxy": "unknown" };

export function Instances({ told, rows, at }) {
  const known = told?.instances ?? [], strangers = told?.strangers ?? [];
  const figures = new Map((rows ?? []).map((row) => [row.instance, row]));
  const listed = [...known, ...strangers.map((one) => ({ ...one, stranger: true, labels: {} }))];
  const gone = [...figures.keys()].filter((address) => address && !listed.some((one) => one.address === address));
  const all = [...listed, ...gone.map((address) => ({ address, state: address === NONE ? "none reached" : "gone", labels: {} }))]
    .map((one) => ({ ...one, figures: figures.get(one.address) }))
    .sort((one, other) => isWell(one) - isWell(other) || ADDRESSES.compare(one.address, other.address));
  const columns = [
    { key: "address", title: "instance", cell: (row) => html`${row.address}${row.name ? html` <span class="muted wide">${row.name}</span>` : null}` },
    { key: "state", title: "state", under: true, cell: (row) => html`<${Mark} level=${isSlow(row) ? "warn" : LEVELS[row.state] ?? "unknown"}>${row.role === "backup" && row.state === "serving" ? "backup" : row.state}<//>` },
    { key: "weight", title: "weight", number: true, wide: true, cell: (row) => weight(row) },
    ...trafficColumns, retries,
    { key: "why", title: "why", class: "words", under: true, cell: (row) => reasons(row, at).join("; ") },
  ];
  const serving = known.filter((one) => one.state === "serving").length;
  const note = told ? `${serving} of ${known.length} serve` : null;
  return html`<${Section} id="instances" title="Instances" note=${note}><${Table} caption="Instances, the last minute" columns=${columns} rows=${all}
    rowKey=${(row) => row.address} empty=${told ? "no instance is registered" : "not known"} /><//>`;
}

/** The others stand first: among sixty nobody would find them. */
const isWell = (row) => row.state === "serving" && !isSlow(row);

/** The registered weight, and the share of it that the instance gets for how it answers. */
function weight(row) {
  if (row.weight === undefined) return UNKNOWN;
  const base = row.weight === null ? "usual" : count(row.weight), share = row.balance?.share;
  return share === undefined || share === 1 ? base : `${(share * 100).toFixed(0)}% of ${base}`;
}

/** Why an instance is not as the others: what synapse says of it, in the words of whoever decided it. */
function reasons(row, at) {
  const found = [];
  if (row.stranger) found.push("in HAProxy, but no instance of the service any more");
  if (row.state === "none reached") found.push("requests for which there was no instance");
  if (row.state === "gone") found.push("answered within the last minute, and is no instance any more");
  if (row.held) {
    const left = row.held.until === null ? "" : ` for ${age(row.held.until - at)} more`;
    found.push(`held here${left}: ${row.held.reason}${row.held.owner ? ` (${row.held.owner})` : ""}`);
  }
  const { balance } = row;
  if (balance && balance.breaker !== "closed") {
    const left = balance.until === null ? "" : `, for ${Math.max(0, balance.until - at).toFixed(1)} s more`;
    found.push(balance.breaker === "open" ? `the breaker is open${left}: ${balance.why}` : `the breaker tries it with a few requests, after ${balance.why}`);
  } else if (balance?.why) found.push(balance.why);
  const drain = row.labels?.maintenance, owner = row.labels?.maintenance_owner;
  if (drain) found.push(`drained: ${drain}${owner ? ` (${owner})` : ""}`);
  else if (row.weight === 0) found.push("registered with weight 0");
  if (row.why && !row.held) found.push(row.why);
  if (row.listed === false) found.push("not in the registry now");
  if (row.state === "down") found.push("HAProxy's check fails");
  return found;
}
