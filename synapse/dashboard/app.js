// The frame around the pages: which one is shown, and whether all is well.

import { render } from "./vendor/preact.mjs";
import { EventsPage } from "./events.js";
import { HealthPage, troublesOf } from "./health.js";
import { Overview } from "./overview.js";
import { html, Live, Mark } from "./parts.js";
import { ServicePage } from "./service.js";
import { Topology } from "./topology.js";

const PAGES = [
  { path: "", title: "Services", page: Overview },
  { path: "topology", title: "Topology", page: Topology },
  { path: "events", title: "Events", page: EventsPage },
  { path: "health", title: "Health", page: HealthPage },
];

function route() {
  const [path, ...rest] = location.hash.replace(/^#\/?/, "").split("/");
  if (path === "service" && rest.length) {
    try {
      return { path, name: decodeURIComponent(rest.join("/")) };
    } catch {
      return { path: "" };
    }
  }
  return { path: PAGES.some((page) => page.path === path) ? path : "" };
}

/** Whether all is well, else the worst that is not, in a few words. */
function Well({ found, status }) {
  if (!found || (found.value === undefined && !found.error)) return html`<${Mark} level="unknown">asking<//>`;
  if (found.error) return html`<${Mark} level="bad">${found.error}<//>`;
  const { ready, missing, degraded } = found.value;
  if (!ready) return html`<${Mark} level="bad">not ready: ${missing.join(", ")}<//>`;
  const troubles = troublesOf(status);
  if (troubles.length) {
    const [{ level, service, text }] = troubles;
    return html`<${Mark} level=${level}>${troubles.length > 1 ? `${troubles.length} troubles: ` : ""}${service ? `${service}: ` : ""}${text}<//>`;
  }
  return degraded.length ? html`<${Mark} level="warn">${degraded.join(", ")}<//>` : html`<${Mark} level="ok">well<//>`;
}

class App extends Live {
  componentDidMount() {
    this.setState(route());
    addEventListener("hashchange", () => {
      this.setState(route(), () => {
        // A new page begins at its top, for the keyboard too.
        document.getElementById("main").focus();
        scrollTo(0, 0);
      });
    });
    this.watch("ready", "/readyz", 5);
    this.watch("status", "/status", 5);
  }

  shown() {
    const { path, name } = this.state;
    if (path === "service") return html`<${ServicePage} key=${`service ${name}`} name=${name} />`;
    const { page } = PAGES.find((each) => each.path === path) ?? PAGES[0];
    return html`<${page} key=${path} status=${this.state.status} />`;
  }

  render(props, { path, name, ready, status }) {
    // Through a tunnel every host has the same address: its name says which one it is.
    const host = status?.value?.host ?? (status ? location.host : "");
    const current = PAGES.find((each) => each.path === path);
    document.title = `${current?.title ?? name ?? "synapse"} · ${host} · synapse`;
    return html`
      <a class="skip" href="#main" onClick=${skip}>Skip to the page</a>
      <header class="top">
        <p class="brand">synapse <span class="muted" title=${location.host}>${host}</span></p>
        <nav aria-label="Pages"><ul>${PAGES.map((each) => html`<li key=${each.path}>
          <a href=${`#/${each.path}`} aria-current=${each.path === path || (path === "service" && each.path === "") ? "page" : undefined}>${each.title}</a>
        </li>`)}</ul></nav>
        <p class="well" role="status"><a href="#/health"><${Well} found=${ready} status=${status?.value} /></a></p>
      </header>
      <main id="main" tabindex="-1">${path === undefined ? null : this.shown()}</main>`;
  }
}

function skip(event) {
  event.preventDefault();
  document.getElementById("main").focus();
}

render(html`<${App} />`, document.getElementById("app"));
