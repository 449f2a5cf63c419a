// Every job that is recorded, by what one asks for; the address holds the question.

import { useEffect, useMemo, useState } from "preact/hooks";
import { get, query, useData } from "../api";
import type { ConsumerRow } from "../types";
import { between, duration, tail } from "../format";
import { amend, at, go, type Route } from "../route";
import type { JobRow, KindRow, Paged, QueueRow } from "../types";
import { Ago, Button, Empty, Panel, Reading, StateTag, Title, useNow } from "../ui";
import { Going, RetryAll } from "./replays";

export const STATES = ["queued", "running", "retrying", "succeeded", "failed", "discarded", "cancelled", "expired", "dead", "lost"];
const WORDS = ["state", "kind", "queue", "since", "until", "run", "fingerprint", "text"] as const;
const PAGE = 50;

/** `state:failed kind:mail.send`, or an id, or a state alone, or any words: where the search box leads. */
export function search(text: string): string {
  const asked = new URLSearchParams();
  const words: string[] = [];
  for (const word of text.trim().split(/\s+/).filter(Boolean)) {
    if (/^[0-9a-f]{8}-[0-9a-f-]{27}$/i.test(word)) return at("jobs", word.toLowerCase());
    const [name, value] = word.includes(":") ? [word.slice(0, word.indexOf(":")), word.slice(word.indexOf(":") + 1)] : [STATES.includes(word) ? "state" : "text", word];
    if (name === "text" || !(WORDS as readonly string[]).includes(name)) words.push(name === "text" ? value : word);
    else if (value) asked.set(name, value);
  }
  if (words.length) asked.set("text", words.join(" "));
  return `#/jobs${asked.size ? `?${asked}` : ""}`;
}

/** What is asked for, as the search box writes it. */
export const asWords = (of: URLSearchParams) => WORDS.filter((word) => of.get(word)).map((word) => (word === "text" ? of.get(word) : `${word}:${of.get(word)}`)).join(" ");

/** Which jobs run, by what the consumers say of themselves: nothing is recorded at a start. */
export function useRunning(): Map<string, JobRow> {
  const consumers = useData<ConsumerRow[]>("/consumers", 1500);
  return useMemo(() => new Map((consumers.data ?? []).filter((one) => one.silent_ms < 20_000).flatMap((one) => one.running.map((job) => [job.job, {
    id: job.job, kind: job.kind, queue: "", state: "running", attempt: 1, replay: 0, created: job.since, started: job.since, consumer: one.consumer,
  }] as const))), [consumers.at]);
}

/** A row of the record, with what its consumer says of it now. */
export function live(row: JobRow, running: Map<string, JobRow>): JobRow {
  const there = running.get(row.id);
  return there && (row.state === "queued" || row.state === "retrying") ? { ...row, state: "running", started: there.started, consumer: there.consumer, error: undefined } : row;
}

export function Jobs({ route }: { route: Route }) {
  const asked = Object.fromEntries(WORDS.map((word) => [word, route.query.get(word) ?? undefined]));
  const cursor = route.query.get("cursor") ?? undefined;
  const runs = asked.state === "running";
  const listed = useData<Paged<JobRow>>(`/jobs${query({ ...asked, state: runs ? undefined : asked.state, limit: runs ? 200 : PAGE, cursor })}`, runs ? 4000 : 2000);
  const running = useRunning();
  const jobs = { ...listed, data: listed.data && (runs ? { rows: runningOnly(listed.data.rows, running, asked) } : { ...listed.data, rows: listed.data.rows.map((row) => live(row, running)) }) };
  const queues = useData<QueueRow[]>("/queues", 10_000);
  const kinds = useData<KindRow[]>("/kinds", 10_000);
  const set = (word: string, value?: string) => amend(route, { [word]: value, cursor: undefined });
  const text = asWords(route.query);
  // A replay is told by state, kind, queue and fingerprint alone.
  const again = asked.state && BAD.has(asked.state) && !asked.run && !asked.text && !asked.since && !asked.until;
  const [asking, ask] = useState(false);
  const [going, follow] = useState<string>();
  return (
    <>
      <Title more={<>{again && <Button icon="retry" onClick={() => ask(true)}>Retry all that match</Button>}<Button act={() => save(asked)} title="The first 10 000 that match, as lines of JSON">Export</Button><a class="button" href="#/publish">Publish a job</a></>}>Jobs</Title>
      {going && <Going id={going} />}
      {asking && <RetryAll title="Retry all that match" filter={{ states: [asked.state], kind: asked.kind, queue: asked.queue, fingerprint: asked.fingerprint }} close={() => ask(false)} ordered={(id) => { follow(id); ask(false); }} />}
      <div class="facets" role="group" aria-label="State">
        <button class="chip" aria-pressed={!asked.state} onClick={() => set("state")}>any state</button>
        {STATES.map((state) => <button key={state} class="chip" aria-pressed={asked.state === state} onClick={() => set("state", asked.state === state ? undefined : state)}><StateTag state={state} /></button>)}
        <span class="split" />
        <Pick label="any kind" value={asked.kind} from={(kinds.data ?? []).map((row) => row.kind)} pick={(value) => set("kind", value)} />
        <Pick label="any queue" value={asked.queue} from={(queues.data ?? []).map((row) => row.name)} pick={(value) => set("queue", value)} />
        <Pick label="any time" value={asked.since} from={["15m", "1h", "24h", "7d"]} pick={(value) => set("since", value)} say={(value) => `last ${value}`} />
        {(["until", "run", "fingerprint", "text"] as const).filter((word) => asked[word]).map((word) => <button key={word} class="chip" aria-pressed="true" onClick={() => set(word)}>{word} {tail(asked[word]!)} ✕</button>)}
      </div>
      <Panel flush>
        <Reading of={jobs} rows={12}>{({ rows, next, looked }) => rows.length === 0 && !next
          ? <Empty title={text ? `No job matches ${text}` : "No job was published yet"}>{text ? <a href="#/jobs">Show all jobs</a> : <>Publish one <a href="#/publish">here</a>, or with <code>spinor publish noop</code></>}</Empty>
          : <>
            {rows.length > 0 && <JobTable rows={rows} />}
            {looked && <p class="dim pad" role="status">{rows.length ? `${rows.length} found` : "None found"} so far: what was created since {new Date(looked).toLocaleString()} was looked at.</p>}
            {(next || cursor) && <div class="pager">{cursor && <Button onClick={() => history.back()}>Newer</Button>}{next && <Button onClick={() => go(`#/jobs${query({ ...asked, cursor: next })}`)}>{looked ? "Look further back" : "Older"}</Button>}</div>}
          </>}
        </Reading>
      </Panel>
    </>
  );
}

/** Those that run: the newest of the record, and those older than all it lists, of which only the consumer is asked. */
function runningOnly(rows: JobRow[], running: Map<string, JobRow>, asked: Record<string, string | undefined>): JobRow[] {
  const listed = rows.filter((row) => running.has(row.id)).map((row) => live(row, running)).filter((row) => row.state === "running");
  const seen = new Set(rows.map((row) => row.id));
  const others = asked.queue || asked.run || asked.fingerprint || asked.text ? [] : [...running.values()].filter((row) => !seen.has(row.id) && (!asked.kind || row.kind === asked.kind));
  return [...listed, ...others].sort((a, b) => ((a.started ?? "") < (b.started ?? "") ? -1 : 1));
}

/** Gives the browser a file of what matches, one job a line. */
async function save(asked: Record<string, string | undefined>) {
  const lines: string[] = [];
  let cursor: string | undefined;
  do {
    const page: Paged<JobRow> = await get(`/jobs${query({ ...asked, limit: 1000, cursor })}`);
    lines.push(...page.rows.map((row) => JSON.stringify(row)));
    cursor = page.next;
  } while (cursor && lines.length < 10_000);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([lines.map((line) => `${line}\n`).join("")], { type: "application/x-ndjson" }));
  link.download = "jobs.ndjson";
  link.click();
  URL.revokeObjectURL(link.href);
}

function Pick({ label, value, from, pick, say = (name) => name }: { say?: (name: string) => string; label: string; value?: string; from: string[]; pick: (value?: string) => void }) {
  const names = value && !from.includes(value) ? [value, ...from] : from;
  return (
    <span class={`chip ${value ? "set" : ""}`}>
      <select aria-label={label} value={value ?? ""} onChange={(event) => pick(event.currentTarget.value || undefined)}>
        <option value="">{label}</option>{names.map((name) => <option key={name} value={name}>{say(name)}</option>)}
      </select>
    </span>
  );
}

/** How long a job took, takes or waits. */
function Took({ row }: { row: JobRow }) {
  const now = useNow();
  if (row.state === "queued") return <span class="dim">waits {duration(between(row.created, now))}</span>;
  if (row.state === "running") return <>{duration(between(row.started, now))}</>;
  return <>{duration(between(row.started, row.ended))}</>;
}

/** States whose jobs can be started anew together. */
const BAD = new Set(["failed", "discarded", "expired", "dead", "lost", "cancelled"]);

export function JobTable({ rows }: { rows: JobRow[] }) {
  return (
    <div class="scroll"><table>
      <thead><tr><th>State</th><th>Kind</th><th class="wide-only">Job</th><th class="wide-only">Queue</th><th class="wide-only">Error, or where it ran</th><th class="num wide-only">Took</th><th class="num">Created</th></tr></thead>
      <tbody>{rows.map((row) => (
        <tr key={row.id} class="link-row" data-row onClick={(event) => { if (!(event.target as HTMLElement).closest("a")) go(at("jobs", row.id)); }}>
          <td class="tight"><StateTag state={row.state} more={row.attempt > 1 ? `×${row.attempt}` : undefined} />{row.cancel_requested && row.state === "running" && <span class="pill wait">to be cancelled</span>}</td>
          <td class="kind"><a href={at("jobs", row.id)}>{row.kind || "not known"}</a>{row.error && row.state !== "succeeded" && <div class="only-small err-line">{row.error}</div>}</td>
          <td class="tight mono dim wide-only">{tail(row.id)}</td>
          <td class="tight wide-only">{row.queue}</td>
          {row.error && row.state !== "succeeded" ? <td class="clip err wide-only" title={row.error}>{row.error}</td> : <td class="clip dim wide-only">{row.consumer}</td>}
          <td class="tight num wide-only"><Took row={row} /></td>
          <td class="tight num"><Ago at={row.created} /></td>
        </tr>
      ))}</tbody>
    </table></div>
  );
}

/** The search box of the frame. */
export function useSearchText(route: Route): [string, (text: string) => void] {
  const [text, set] = useState(asWords(route.query));
  useEffect(() => { set(route.path[0] === "jobs" && !route.path[1] ? asWords(route.query) : ""); }, [route]);
  return [text, set];
}
