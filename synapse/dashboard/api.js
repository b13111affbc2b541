// Asking synapse. Every answer is {value, error, refused, at}: while nothing answers, `value` stays what it was, `at` says
// of when it is, and `error` says why there is nothing newer. `refused`: synapse is there, and says that it has no answer.

const PATIENCE_SECONDS = 15;
const AGAIN_SECONDS = 2;
const REFUSED_SECONDS = 10;

/** One GET. Never throws: an answer that is none is an `error`. `signal` ends it early. */
export async function ask(path, signal, patience = PATIENCE_SECONDS) {
  const at = Date.now() / 1000;
  const limit = AbortSignal.timeout(patience * 1000);
  try {
    const answer = await fetch(path, { signal: signal ? AbortSignal.any([signal, limit]) : limit });
    const text = await answer.text();
    if (answer.ok || text.startsWith("{")) return { value: JSON.parse(text), error: null, at };
    return { value: undefined, error: text.trim().slice(0, 300) || `status ${answer.status}`, refused: answer.status < 500, at };
  } catch (error) {
    if (signal?.aborted) return { value: undefined, error: "ended", at };
    return { value: undefined, error: limit.aborted ? "synapse does not answer in time" : "synapse does not answer", at };
  }
}

/** GET again and again, not while nobody looks, and less often where an answer takes long: a dashboard is never what
 * keeps a host busy. Answers a function that ends it. */
export function poll(path, seconds, tell) {
  const ended = new AbortController();
  let timer = 0;
  let last = { value: undefined, error: null, at: null };

  async function turn() {
    if (document.hidden) {
      document.addEventListener("visibilitychange", turn, { once: true, signal: ended.signal });
      return;
    }
    const began = performance.now();
    const found = await ask(path, ended.signal);
    if (ended.signal.aborted) return;
    last = found.error === null ? found : { ...last, error: found.error, refused: found.refused };
    tell(last);
    const pause = found.error === null ? seconds : found.refused ? Math.max(seconds, REFUSED_SECONDS) : Math.min(seconds, AGAIN_SECONDS);
    timer = setTimeout(turn, Math.max(pause * 1000, 10 * (performance.now() - began)));
  }

  turn();
  return () => {
    ended.abort();
    clearTimeout(timer);
  };
}

/** The events, the oldest first: all that are kept, and then each as it comes. `tell` gets {events, error, known}:
 * while nothing has answered, nothing is known. */
export function follow(service, tell, most = 2000) {
  const ended = new AbortController();
  const query = service ? `&service=${encodeURIComponent(service)}` : "";
  let events = [];

  async function run() {
    let number = null;
    while (!ended.signal.aborted) {
      const path = number === null ? `/events?${query.slice(1)}` : `/events?after=${number}&wait=20s${query}`;
      const found = await ask(path, ended.signal, 30);
      if (ended.signal.aborted) return;
      if (found.error === null) {
        // A synapse that was started anew has a timeline of its own.
        events = [...events, ...found.value.events].slice(-most);
        number = found.value.number;
      }
      tell({ events, error: found.error, known: number !== null });
      if (found.error !== null) await new Promise((done) => setTimeout(done, 3000));
    }
  }

  run();
  return () => ended.abort();
}
