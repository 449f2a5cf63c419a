// How figures, instants and durations are written.

export function count(n: number | undefined): string {
  if (n === undefined) return "–";
  return n.toLocaleString("en-US").replace(/,/g, "\u202f");
}

export function rateText(n: number | undefined): string {
  if (n === undefined) return "–";
  if (n === 0) return "0";
  return n < 10 ? n.toFixed(1) : count(Math.round(n));
}

/** A rate and its unit: what is rare is told by the minute. */
export function ratePair(n: number | undefined): [string, string] {
  return n !== undefined && n > 0 && n < 0.95 ? [rateText(n * 60), "/min"] : [rateText(n), "/s"];
}

/** Milliseconds as people say them, with two figures that matter. */
export function duration(ms: number | undefined): string {
  if (ms === undefined || Number.isNaN(ms)) return "–";
  if (ms < 0) ms = 0;
  if (ms < 0.5) return "< 1 ms";
  if (ms < 1000) return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
  const s = ms / 1000;
  if (s < 60) return `${s < 10 ? s.toFixed(1) : Math.floor(s)} s`;
  const m = Math.floor(s / 60);
  if (m < 60) return `${m} min ${pad(Math.floor(s % 60))} s`;
  const h = Math.floor(m / 60);
  if (h < 48) return `${h} h ${pad(m % 60)} min`;
  return `${Math.floor(h / 24)} d ${h % 24} h`;
}

const pad = (n: number) => String(n).padStart(2, "0");

export function ago(at: string | undefined, now: number): string {
  if (!at) return "–";
  const s = Math.round((now - Date.parse(at)) / 1000);
  if (s < 0) return `in ${short(-s)}`;
  if (s < 3) return "now";
  return `${short(s)} ago`;
}

export function short(s: number): string {
  if (s < 60) return `${Math.round(s)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 48 * 3600) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86400)} d`;
}

export function clock(at: string | number | undefined): string {
  if (at === undefined) return "–";
  const date = new Date(at);
  return `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`;
}

export function instant(at: string | undefined): string {
  if (!at) return "–";
  const date = new Date(at);
  return `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())} ${clock(at)}`;
}

export const between = (from?: string, to?: string | number) =>
  from === undefined || to === undefined ? undefined : (typeof to === "number" ? to : Date.parse(to)) - Date.parse(from);

export function bytes(n: number): string {
  if (n < 1024) return `${n} B`;
  if (n < 1024 * 1024) return `${(n / 1024).toFixed(1)} KiB`;
  return `${(n / 1024 / 1024).toFixed(1)} MiB`;
}

/** The part of an id by which people tell jobs apart: its end. */
export const tail = (id: string) => id.slice(-8);

export const plural = (n: number, one: string, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

/** JSON on lines that stay short where they can. */
export const pretty = (value: unknown) => JSON.stringify(value, null, 2) ?? "";
