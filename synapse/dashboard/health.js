// The pair itself: registry, HAProxy, configuration, the feed, certificates; and what is wrong with any of it.

import { age, clock, count, day } from "./format.js";
import { html, Live, Mark, Section, serviceLink, Table, Trouble } from "./parts.js";

/** What an instance gets that takes twice as long as the quick ones. Less than that is worth a word, and not every breath. */
const SLOW_SHARE = 0.25;

/** Everything that is wrong by /status, the worst first: {level, service (null for the host), text}. */
export function troublesOf(status) {
  if (!status) return [];
  const found = [];
  const say = (level, service, text) => found.push({ level, service, text });
  if (status.error) say("bad", null, status.error);
  const links = { "the registry": status.registry, ...prefixed(status.registries) };
  for (const [name, link] of Object.entries(links)) {
    if (link && !link.connected) say("warn", null, `${name} is away: ${link.detail}`);
  }
  if (status.haproxy && !status.haproxy.running) say("bad", null, "HAProxy does not run, or does not answer");
  for (const [service, texts] of Object.entries(status.problems ?? {})) {
    for (const text of texts) say("bad", service || null, text);
  }
  if (status.stale) say("warn", null, `nobody has confirmed the instances of ${status.stale.services.join(", ")} since ${clock(status.stale.since)}: ${status.stale.reason}`);
  if (status.needs_restart?.length) say("warn", null, `edited settings that only a restart applies: ${status.needs_restart.join(", ")}`);
  if (status.actions_problem) say("warn", null, `actions cannot be asked for: ${status.actions_problem}`);
  for (const { file, problem, warning } of status.certificates ?? []) if (problem || warning) say(problem ? "bad" : "warn", null, `${file.path}: ${problem ?? warning}`);
  for (const [name, service] of Object.entries(status.services ?? {})) {
    if (service.refused_definition) say("bad", name, `definition not in use: ${service.refused_definition}`);
    if (service.origin !== "listing") say("warn", name, `${service.origin}: ${service.reason}`);
    if (service.refused_nodes?.length) say("warn", name, `registry nodes that are refused: ${service.refused_nodes.length}`);
    const serving = service.instances.filter((one) => one.state === "serving").length;
    if (!service.discovery_only && !serving) say("bad", name, service.instances.length ? "no instance serves" : "no instance is registered");
    else {
      const down = service.instances.filter((one) => one.state === "down").length;
      if (down) say("warn", name, `HAProxy finds ${down} of ${service.instances.length} down`);
      const out = service.instances.filter((one) => one.state === "out").length;
      if (out) say("warn", name, `the breaker is open for ${out} of ${service.instances.length}`);
      const slow = service.instances.filter(isSlow);
      if (slow.length) say("warn", name, slow.length === 1 ? `one of ${service.instances.length}: ${slow[0].balance.why}` : `${slow.length} of ${service.instances.length} get less than a quarter of their share`);
    }
  }
  return found.sort((one, other) => (other.level === "bad") - (one.level === "bad"));
}

/** Whether an instance serves, but is more than twice as slow as the quick ones, or fails. */
export const isSlow = ({ state, balance }) => state === "serving" && balance?.breaker === "closed" && balance.share < SLOW_SHARE;

const prefixed = (links) => Object.fromEntries(Object.entries(links ?? {}).map(([name, link]) => [`the registry ${name}`, link]));

export class HealthPage extends Live {
  componentDidMount() {
    this.watch("stat", "/telemetry/stat?window=60", 5);
  }

  render({ status }, { stat }) {
    const told = status?.value;
    return html`<h1>Health of the pair</h1>
      <${Trouble} of=${{ status, feed: stat }} />
      ${told ? html`<${Wrong} troubles=${troublesOf(told)} known=${told.services} /><div class="columns"><${Links} told=${told} /><${HAProxy} told=${told} /><${Feed} stat=${stat} /></div>
        <${Certificates} told=${told} /><${Held} told=${told} /><${Plan} told=${told} />` : html`<p class="muted">${status?.error ? "not known" : "asking"}</p>`}`;
  }
}

/** `known`: the services that have a page. A definition that is refused need not have one. */
function Wrong({ troubles, known }) {
  const name = (service) => (service in known ? html`<a href=${serviceLink(service)}>${service}</a>` : service);
  const lines = troubles.map((one, at) => html`<li key=${at}><${Mark} level=${one.level}>${one.service ? html`${name(one.service)}: ` : null}${one.text}<//></li>`);
  return html`<${Section} id="wrong" title="What is wrong">
    ${lines.length ? html`<ul class="plain">${lines}</ul>` : html`<p><${Mark} level="ok">nothing<//></p>`}<//>`;
}

function Facts({ facts }) {
  return html`<dl>${facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value ?? html`<span class="muted">not known</span>`}</dd></div>`)}</dl>`;
}

function Links({ told }) {
  const links = { "the registry": told.registry, ...prefixed(told.registries) };
  return html`<${Section} id="registry" title="Registry and synapse"><${Facts} facts=${[
    ...Object.entries(links).map(([name, link]) => [name, link && html`<${Mark} level=${link.connected ? "ok" : "warn"}>${link.connected ? "answers" : "is away"}<//> ${link.detail}`]),
    ...(told.registry?.session ? [["session", told.registry.session]] : []),
    ["synapse runs since", told.started && `${day(told.started)} ${clock(told.started)} (${age(told.at - told.started)})`],
    ["synapse", told.version],
    ["last turn of the loop", told.at && `${clock(told.at)} (${age(Date.now() / 1000 - told.at)} ago)`],
    ["services", Object.keys(told.services).length],
  ]} /><//>`;
}

function HAProxy({ told }) {
  const { haproxy } = told;
  const repairs = Object.entries(haproxy.drift.repairs).map(([kind, times]) => `${times} × ${kind}`).join(", ");
  return html`<${Section} id="haproxy" title="HAProxy"><${Facts} facts=${[
    ["state", html`<${Mark} level=${haproxy.running ? "ok" : "bad"}>${haproxy.running ? `running, pid ${haproxy.pid}` : "does not run, or does not answer"}<//>`],
    ["version", haproxy.version],
    ["structure", haproxy.structure],
    ["last started or reloaded for", haproxy.last_reload.length ? haproxy.last_reload.join("; ") : "nothing, by this synapse"],
    ["old processes", haproxy.old_workers],
    ["changed by others", repairs || "never"],
    ...(haproxy.drift.last.length ? [["the last of these", `${haproxy.drift.last.join("; ")}, at ${clock(haproxy.drift.at)}`]] : []),
  ]} /><//>`;
}

function Feed({ stat }) {
  const answer = stat?.value;
  const lost = (why) => answer && count(answer.dropped?.[why]);
  return html`<${Section} id="feed" title="Feed of requests"><${Facts} facts=${[
    ["of the last minute is known", answer && (answer.covered_seconds === null ? null : answer.covered_seconds < 60 ? `${answer.covered_seconds.toFixed(0)} s` : "all")],
    ["dropped by HAProxy", answer && (answer.dropped?.haproxy === null ? null : lost("haproxy"))],
    ["dropped on the way", lost("receiver")],
    ["not understood", lost("unparsed")],
    ["forged", lost("forged")],
    ["counters in memory", answer?.limits && `${count(answer.limits.cells)} of at most ${count(answer.limits.cells_limit)}`],
  ]} /><//>`;
}

function Certificates({ told }) {
  if (!told.certificates.length) return null;
  const columns = [
    { key: "file", title: "file", class: "words", cell: ({ file }) => file.path },
    { key: "kind", title: "kind", wide: true, cell: ({ file }) => file.kind },
    { key: "expires", title: "expires", cell: ({ expires }) => (expires === null ? "–" : `${day(expires)} (in ${age(expires - told.at)})`) },
    { key: "state", title: "state", class: "words", cell: ({ problem, warning }) => html`<${Mark} level=${problem ? "bad" : warning ? "warn" : "ok"}>${problem ?? warning ?? "in use"}<//>` },
  ];
  return html`<${Section} id="certificates" title="Certificates"><${Table} caption="Certificates and authorities that HAProxy has" columns=${columns}
    rows=${told.certificates} rowKey=${({ file }) => `${file.kind} ${file.path} ${file.key}`} empty="none" /><//>`;
}

function Held({ told }) {
  if (!told.holds.length) return null;
  const columns = [
    { key: "address", title: "instance", cell: (row) => row.address },
    { key: "service", title: "service", class: "named", cell: (row) => html`<a href=${serviceLink(row.service)}>${row.service}</a>` },
    { key: "left", title: "for", cell: (row) => (row.until === null ? "until unheld" : age(row.until - told.at)) },
    { key: "why", title: "why", class: "words", cell: (row) => `${row.reason}${row.owner ? ` (${row.owner})` : ""}` },
  ];
  return html`<${Section} id="holds" title="Held on this host"><${Table} caption="Instances that somebody holds" columns=${columns} rows=${told.holds} rowKey=${(row) => `${row.service} ${row.address}`} empty="none" /><//>`;
}

function Plan({ told }) {
  const { plan } = told;
  if (plan.at === null) return null;
  const more = plan.more_actions ? ` and ${plan.more_actions} more` : "";
  return html`<${Section} id="plan" title="Last change of HAProxy" note=${`${day(plan.at)} ${clock(plan.at)}`}>
    ${plan.reload.length ? html`<p>a start or reload: ${plan.reload.join("; ")}</p>` : null}
    ${plan.actions.length ? html`<details><summary>commands at run time: ${plan.actions.length}${more}</summary><pre>${plan.actions.join("\n")}</pre></details>` : null}
  <//>`;
}
