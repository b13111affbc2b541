// Numbers and times as text. What is not known is a dash, never a zero. The same rounding as `synapse stat`.

export const UNKNOWN = "–";

const known = (value) => value !== null && value !== undefined && Number.isFinite(value);

/** `99.67%`, rounded down: 100.00% is said only where nothing failed. */
export function percent(share) {
  return known(share) ? `${(Math.floor(share * 10000 + 1e-6) / 100).toFixed(2)}%` : UNKNOWN;
}

/** Requests a second: `0.25`, `20.5`, `1234`. */
export function perSecond(rate) {
  if (!known(rate)) return UNKNOWN;
  if (rate >= 100) return rate.toFixed(0);
  return rate >= 1 || rate === 0 ? rate.toFixed(1) : rate.toFixed(2);
}

/** Milliseconds: `3.1ms`, `120ms`, `1.2s`, `12s`. */
export function duration(milliseconds) {
  if (!known(milliseconds)) return UNKNOWN;
  if (milliseconds >= 9950) return `${(milliseconds / 1000).toFixed(0)}s`;
  if (milliseconds >= 999.5) return `${(milliseconds / 1000).toFixed(1)}s`;
  return milliseconds >= 99.5 ? `${milliseconds.toFixed(0)}ms` : `${milliseconds.toFixed(1)}ms`;
}

export function count(number) {
  return known(number) ? number.toLocaleString("en", { maximumFractionDigits: 0 }) : UNKNOWN;
}

export function bytes(number) {
  if (!known(number)) return UNKNOWN;
  for (const [unit, size] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]]) {
    if (number >= size) return `${(number / size).toFixed(1)} ${unit}`;
  }
  return `${number.toFixed(0)} B`;
}

/** Seconds since the epoch as this machine's time of day; `fine` with milliseconds. */
export function clock(at, fine = false) {
  if (!known(at)) return UNKNOWN;
  const when = new Date(at * 1000);
  const two = (part) => String(part).padStart(2, "0");
  const time = `${two(when.getHours())}:${two(when.getMinutes())}:${two(when.getSeconds())}`;
  return fine ? `${time}.${String(when.getMilliseconds()).padStart(3, "0")}` : time;
}

export function day(at) {
  if (!known(at)) return UNKNOWN;
  const when = new Date(at * 1000);
  const two = (part) => String(part).padStart(2, "0");
  return `${when.getFullYear()}-${two(when.getMonth() + 1)}-${two(when.getDate())}`;
}

/** `4s`, `12m`, `3h`, `9d`: the largest unit that is not zero. */
export function age(seconds) {
  if (!known(seconds)) return UNKNOWN;
  for (const [unit, length] of [["d", 86400], ["h", 3600], ["m", 60]]) {
    if (seconds >= length) return `${Math.floor(seconds / length)}${unit}`;
  }
  return `${Math.max(0, Math.floor(seconds))}s`;
}
