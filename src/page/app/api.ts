// Asks the API; remembers what it said last. Every view reads through `useData`, so that each is loading, empty, wrong or
// stale in the same way.

import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import type { Problem } from "./types";
import { onPulse } from "./pulse";

export class Refused extends Error {
  constructor(public problem: Problem) { super(problem.detail); }
}

const listeners = new Set<() => void>();
let loggedOut = () => {};

/** What to do when the session is over. */
export function onLoggedOut(then: () => void) { loggedOut = then; }

/** Something was changed here: every view reads again. */
export function changed() { listeners.forEach((tell) => tell()); }

async function ask<T>(method: string, path: string, body?: unknown): Promise<T> {
  let response: Response;
  try {
    response = await fetch(`/api/v1${path}`, {
      method,
      headers: { "X-Spinor": "1", ...(body === undefined ? {} : { "Content-Type": "application/json" }) },
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "same-origin",
      signal: AbortSignal.timeout(60_000),
    });
  } catch {
    throw new Refused({ title: "No answer", status: 0, detail: "Spinor does not answer. It may have been stopped; this page goes on when it is back." });
  }
  if (response.status === 401 && path !== "/session") loggedOut();
  const text = await response.text();
  let answer: unknown;
  try { answer = text ? JSON.parse(text) : undefined; } catch { answer = undefined; }
  if (!response.ok) {
    const problem = answer as Problem | undefined;
    throw new Refused(problem?.detail ? problem : { title: "Refused", status: response.status, detail: `HTTP status ${response.status}` });
  }
  return answer as T;
}

export const get = <T>(path: string) => ask<T>("GET", path);
export const post = async <T>(path: string, body: unknown = {}) => {
  const answer = await ask<T>("POST", path, body);
  changed();
  setTimeout(changed, 600);
  return answer;
};
export const remove = async <T>(path: string, body?: unknown) => {
  const answer = await ask<T>("DELETE", path, body);
  changed();
  return answer;
};

export const problemOf = (error: unknown): Problem =>
  error instanceof Refused ? error.problem : { title: "The page has a fault", status: 0, detail: String(error) };

/** A query string of what is set. */
export function query(values: Record<string, string | number | undefined>): string {
  const set = Object.entries(values).filter(([, value]) => value !== undefined && value !== "");
  return set.length ? `?${new URLSearchParams(set.map(([key, value]) => [key, String(value)]))}` : "";
}

export interface Seen<T> {
  data?: T;
  /** Why the last reading failed; what was read before it is still there. */
  problem?: Problem;
  /** When `data` was read. */
  at: number;
  reload: () => void;
}

/** Reads a path again when jobs start or end (`every` ms at most), when something was changed here, and now and then. */
export function useData<T>(path: string | null, every = 2000): Seen<T> {
  const [seen, setSeen] = useState<{ path: string | null; data?: T; problem?: Problem; at: number }>({ path, at: 0 });
  const state = useRef({ path, busy: false, again: false, last: 0 });
  state.current.path = path;

  const load = useCallback(async () => {
    const { current } = state;
    const asked = current.path;
    if (asked === null) return;
    if (current.busy) { current.again = true; return; }
    current.busy = true;
    current.last = Date.now();
    try {
      const data = await get<T>(asked);
      if (current.path === asked) setSeen({ path: asked, data, at: Date.now() });
    } catch (error) {
      const problem = problemOf(error);
      if (current.path === asked) setSeen((before) => before.path === asked ? { ...before, problem } : { path: asked, problem, at: 0 });
    }
    // A slow answer is not asked for again at once.
    current.last = Date.now();
    current.busy = false;
    if (current.again || current.path !== asked) { current.again = false; void load(); }
  }, []);

  useEffect(() => { void load(); }, [path]);
  useEffect(() => {
    const tell = () => void load();
    listeners.add(tell);
    const stop = onPulse((beat) => {
      const idle = Date.now() - state.current.last;
      const busy = beat ? beat.started + beat.steps + (beat.succeeded ?? 0) + (beat.failed ?? 0) + (beat.retrying ?? 0) > 0 : false;
      if (!document.hidden && idle >= (busy ? every : Math.max(5000, every))) tell();
    });
    const shown = () => { if (!document.hidden) tell(); };
    document.addEventListener("visibilitychange", shown);
    return () => { listeners.delete(tell); stop(); document.removeEventListener("visibilitychange", shown); };
  }, [every]);

  const fresh = seen.path === path ? seen : { at: 0, data: undefined, problem: undefined };
  return { data: fresh.data, problem: fresh.problem, at: fresh.at, reload: () => void load() };
}
