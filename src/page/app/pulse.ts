// The pulse of the whole: one line a second, kept for fifteen minutes while the page is open.

import type { Beat } from "./types";

export interface Sample extends Beat { at: number; waiting?: number }

const KEPT = 900;
const ring: Sample[] = [];
const listeners = new Set<(beat: Beat | null) => void>();
let source: EventSource | null = null;
let begun = false;
let lastBeat = 0;
let waiting: number | undefined;
export let since = Date.now();

/** Tells each second; `null` while nothing is heard. */
export function onPulse(listen: (beat: Beat | null) => void): () => void {
  listeners.add(listen);
  return () => listeners.delete(listen);
}

export const samples = (): readonly Sample[] => ring;
export const isLive = () => Date.now() - lastBeat < 4000;

/** The backlog as it was read last; every sample from now on carries it. */
export function noteWaiting(jobs: number) { waiting = jobs; }

/** A second that was heard, by this tab or by the one that listens for all. */
function heard(beat: Beat) {
  lastBeat = Date.now();
  ring.push({ ...beat, at: Math.floor(lastBeat / 1000), waiting });
  if (ring.length > KEPT) ring.shift();
  listeners.forEach((tell) => tell(beat));
}

function listen(told: (beat: Beat) => void) {
  source = new EventSource("/api/v1/pulse");
  source.addEventListener("beat", (event) => told(JSON.parse((event as MessageEvent<string>).data) as Beat));
  source.addEventListener("error", () => {
    // A browser tries again by itself, but for an answer that is no stream.
    if (source?.readyState === EventSource.CLOSED) setTimeout(() => listen(told), 3000);
  });
}

/** A browser has six connections to a server, and each tab could keep one: one tab listens, and tells the others. */
export function start() {
  if (begun) return;
  begun = true;
  since = Date.now();
  if (!navigator.locks || !window.BroadcastChannel) { listen(heard); return; }
  const others = new BroadcastChannel("spinor-pulse");
  others.onmessage = (event: MessageEvent<Beat>) => heard(event.data);
  // Held until the tab is closed; then another gets it.
  void navigator.locks.request("spinor-pulse", () => new Promise(() => listen((beat) => { heard(beat); others.postMessage(beat); })));
}

setInterval(() => { if (!isLive()) listeners.forEach((tell) => tell(null)); }, 1000);

/** What happened a second, over the last so many seconds that were heard. */
export function rate(of: (sample: Sample) => number, seconds = 30): number | undefined {
  const last = ring.slice(-seconds).filter((sample) => sample.succeeded !== undefined);
  return last.length ? last.reduce((sum, sample) => sum + of(sample), 0) / last.length : undefined;
}

export const ended = (sample: Sample) => (sample.succeeded ?? 0) + (sample.failed ?? 0);

/** What arrives a second: what ended for good, and what the backlog grew by. */
export function arriving(seconds = 30): number | undefined {
  const last = ring.slice(-seconds).filter((sample) => sample.waiting !== undefined);
  const [first, end] = [last[0], last[last.length - 1]];
  if (!first || !end || end.at - first.at < 5) return undefined;
  const grown = (end.waiting ?? 0) - (first.waiting ?? 0);
  const out = rate(ended, seconds);
  return out === undefined ? undefined : Math.max(0, out + grown / (end.at - first.at));
}
