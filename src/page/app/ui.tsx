// The parts that every view is made of.

import type { ComponentChildren, JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { Seen } from "./api";
import { problemOf } from "./api";
import { ago, bytes, clock, instant, pretty } from "./format";
import { Icon } from "./icons";
import type { Problem, Stream } from "./types";

const clocks = new Set<(now: number) => void>();
setInterval(() => { if (!document.hidden) { const now = Date.now(); clocks.forEach((tell) => tell(now)); } }, 1000);

/** The instant, again every second; one clock for all. */
export function useNow(): number {
  const [now, set] = useState(Date.now());
  useEffect(() => { clocks.add(set); return () => { clocks.delete(set); }; }, []);
  return now;
}

const TONES: Record<string, string> = {
  running: "run", succeeded: "good", queued: "calm", retrying: "wait", delayed: "wait", failed: "bad", dead: "bad", lost: "bad", discarded: "bad",
  cancelled: "over", expired: "over", skipped: "over", waiting: "calm", active: "good", paused: "wait", draining: "wait", silent: "bad", retired: "over",
  "in force": "good", missing: "bad", differs: "bad",
  up: "good", down: "bad", blocked: "wait", closed: "bad", interrupted: "bad", published: "run", done: "good", stopped: "over", stopping: "wait", starting: "run",
};
export const toneOf = (state: string) => TONES[state] ?? "calm";

export function StateTag({ state, more }: { state: string; more?: string }) {
  return <span class={`state ${toneOf(state)}`}><i aria-hidden="true" />{state}{more && <em>{more}</em>}</span>;
}

export function Ago({ at }: { at?: string }) {
  const now = useNow();
  return at ? <time dateTime={at} title={instant(at)}>{ago(at, now)}</time> : <span class="dim">–</span>;
}

type ButtonProps = { children: ComponentChildren; tone?: "main" | "bad" | "quiet"; act?: () => unknown; icon?: string } & Omit<JSX.HTMLAttributes<HTMLButtonElement>, "icon">;

/** A button; while what it does goes on it cannot be pressed, and what goes wrong is told. */
export function Button({ children, tone, act, icon, ...rest }: ButtonProps & { disabled?: boolean; title?: string; type?: "submit" | "button" }) {
  const [busy, setBusy] = useState(false);
  const press = async () => {
    if (!act) return;
    setBusy(true);
    try { await act(); } catch (error) { toast(problemOf(error)); }
    setBusy(false);
  };
  return (
    <button type="button" class={`button ${tone ?? ""}`} {...rest} disabled={rest.disabled || busy} aria-busy={busy} onClick={act ? press : rest.onClick}>
      {icon && <Icon name={icon} />}{children}
    </button>
  );
}

interface Toast { id: number; text: ComponentChildren; bad: boolean }
let toasts: Toast[] = [];
let tellToasts = () => {};
let nextToast = 1;

/** Says in a corner what was done, or what went wrong. */
export function toast(what: Problem | ComponentChildren) {
  const problem = what as Problem;
  const bad = typeof problem === "object" && problem !== null && "detail" in problem;
  const text = bad ? <><b>{problem.title}</b>{problem.field ? <> <code>{problem.field}</code></> : null} {problem.detail}</> : (what as ComponentChildren);
  const id = nextToast++;
  toasts = [...toasts.slice(-3), { id, text, bad }];
  tellToasts();
  setTimeout(() => drop(id), bad ? 12_000 : 5000);
}
function drop(id: number) { toasts = toasts.filter((one) => one.id !== id); tellToasts(); }

export function Toasts() {
  const [, set] = useState(0);
  tellToasts = () => set((n) => n + 1);
  return (
    <div class="toasts" role="status" aria-live="polite">
      {toasts.map((one) => (
        <div key={one.id} class={`toast ${one.bad ? "bad" : ""}`}>
          <span>{one.text}</span><button class="bare" aria-label="Dismiss" onClick={() => drop(one.id)}><Icon name="close" /></button>
        </div>
      ))}
    </div>
  );
}

/** Bars where text will be, once it takes long enough to be noticed. */
export function Loading({ rows = 6 }: { rows?: number }) {
  return <div class="loading" aria-busy="true" aria-label="Loading">{Array.from({ length: rows }, (_, row) => <span key={row} />)}</div>;
}

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return <div class="empty"><b>{title}</b>{children && <p>{children}</p>}</div>;
}

export function Wrong({ problem, retry }: { problem: Problem; retry?: () => void }) {
  return (
    <div class="wrong" role="alert">
      <Icon name="alert" /><div><b>{problem.title}</b><p>{problem.detail}</p></div>
      {retry && <Button act={retry}>Try again</Button>}
    </div>
  );
}

/** One reading in its four states: loading, wrong, stale, there. */
export function Reading<T>({ of, rows, children }: { of: Seen<T>; rows?: number; children: (data: T) => ComponentChildren }) {
  if (of.data === undefined) return of.problem ? <Wrong problem={of.problem} retry={of.reload} /> : <Loading rows={rows} />;
  return (
    <>
      {of.problem && <div class="stale" role="status"><Icon name="alert" />as of {clock(of.at)}: {of.problem.detail}</div>}
      {children(of.data)}
    </>
  );
}

export function Panel({ title, more, children, flush, id }: { title?: ComponentChildren; more?: ComponentChildren; children: ComponentChildren; flush?: boolean; id?: string }) {
  return (
    <section class={`panel ${flush ? "flush" : ""}`} id={id}>
      {title && <header><h2>{title}</h2>{more && <div class="more">{more}</div>}</header>}
      {children}
    </section>
  );
}

export function Title({ children, more }: { children: ComponentChildren; more?: ComponentChildren }) {
  return <div class="title"><h1>{children}</h1><div class="actions">{more}</div></div>;
}

/** A dialog of the browser's own: it keeps the focus, and Escape closes it. */
export function Dialog({ title, close, children, wide }: { title: string; close: () => void; children: ComponentChildren; wide?: boolean }) {
  const box = useRef<HTMLDialogElement>(null);
  useEffect(() => { box.current?.showModal(); }, []);
  return (
    <dialog ref={box} class={wide ? "wide" : ""} aria-label={title} onClose={close} onClick={(event) => { if (event.target === box.current) close(); }}>
      <header><h2>{title}</h2><button class="bare" aria-label="Close" onClick={close}><Icon name="close" /></button></header>
      <div class="body">{children}</div>
    </dialog>
  );
}

export function Copy({ text, children }: { text: string; children?: ComponentChildren }) {
  const [done, set] = useState(false);
  const copy = async () => { await navigator.clipboard?.writeText(text); set(true); setTimeout(() => set(false), 1200); };
  return <button class="copy" title={`Copy ${text}`} onClick={copy}>{children ?? <code>{text}</code>}<Icon name={done ? "check" : "copy"} /></button>;
}

/** JSON with its keys set apart. */
/** Characters that are shown of JSON unless somebody asks for all. */
const LONGEST = 50_000;

export function Json({ value }: { value: unknown }) {
  const [whole, show] = useState(false);
  let text: string;
  try { text = pretty(value); } catch { return <p class="dim">It is nested too deeply to be shown.</p>; }
  if (text.length > LONGEST) {
    return <>
      <pre class="json" tabIndex={0}>{whole ? text : `${text.slice(0, LONGEST)}\n…`}</pre>
      {!whole && <Button onClick={() => show(true)}>Show all {bytes(text.length)}</Button>}
    </>;
  }
  const parts = text.split(/("(?:[^"\\]|\\.)*"(?=:))/);
  return <pre class="json" tabIndex={0}>{parts.map((part, n) => (n % 2 ? <b key={n}>{part}</b> : part))}</pre>;
}

export function Output({ name, stream }: { name: string; stream?: Stream }) {
  if (!stream || !stream.bytes) return null;
  return (
    <div class={`output ${name}`}>
      <div class="label">{name}, {bytes(stream.bytes)}</div>
      <pre tabIndex={0}>{stream.head}{stream.tail !== undefined && <em>{`\n… ${bytes(stream.dropped ?? 0)} left out …\n`}</em>}{stream.tail}</pre>
    </div>
  );
}

export function Meter({ value, of, tone = "run", label }: { value: number; of: number; tone?: string; label?: string }) {
  const share = of > 0 ? Math.min(1, value / of) : 0;
  return <span class={`meter ${tone}`} role="img" aria-label={label ?? `${value} of ${of}`}><span style={{ width: `${share * 100}%` }} /></span>;
}

export function Facts({ of }: { of: [string, ComponentChildren][] }) {
  return <dl class="facts">{of.filter(([, value]) => value !== undefined && value !== null && value !== "" && value !== false).map(([name, value]) => <div key={name}><dt>{name}</dt><dd>{value}</dd></div>)}</dl>;
}
