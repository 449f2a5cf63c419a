// One job: where it stands and why, what it was given, said and answered, and what may be done about it.

import { useEffect, useRef, useState } from "preact/hooks";
import { post, problemOf, useData } from "../api";
import { between, bytes, duration, instant, pretty, tail } from "../format";
import { Icon } from "../icons";
import { at, go } from "../route";
import type { Attempt, JobRecord, Problem, Why } from "../types";
import { useRunning } from "./jobs";
import { Ago, Button, Copy, Dialog, Facts, Json, Meter, Output, Panel, Reading, StateTag, Title, toast, toneOf, useNow } from "../ui";

const ENDED = new Set(["succeeded", "failed", "discarded", "cancelled", "expired", "dead", "lost"]);

export function Job({ id }: { id: string }) {
  const record = useData<JobRecord>(`/jobs/${id}`, 1000);
  return <Reading of={record} rows={10}>{(job) => <Shown job={job} reload={record.reload} />}</Reading>;
}

function Shown({ job: recorded, reload }: { job: JobRecord; reload: () => void }) {
  const ended = ENDED.has(recorded.state);
  const why = useData<Why>(ended ? null : `/jobs/${recorded.id}/why`, 1000);
  const running = useRunning().get(recorded.id);
  // Nothing is recorded at a start: that it runs is known from its consumer.
  const runs = !ended && (why.data?.reason === "running" || (running && why.data === undefined));
  const job = runs ? { ...recorded, state: "running", started: running?.started ?? recorded.started, ended: undefined, consumer: running?.consumer ?? recorded.consumer } : recorded;
  const [picked, pick] = useState<number>();
  const [editing, edit] = useState(false);
  const shown = job.attempts[picked ?? job.attempts.length - 1] ?? job.attempts[job.attempts.length - 1];
  // A row has only the first line; the report has all of it.
  const error = shown?.failure?.message ?? job.error;
  const last = job.attempts[job.attempts.length - 1];

  const cancel = async () => { await post(`/jobs/${job.id}/cancel`, { by: "page" }); toast("Cancel requested."); };
  const replay = async () => { await post(`/jobs/${job.id}/replay`, { by: "page" }); toast("Started anew."); };

  return (
    <>
      <Title more={<>
        {!ended && <Button tone="bad" icon="stop" act={cancel} disabled={!!job.cancel_requested}>{job.cancel_requested ? "Cancel requested" : "Cancel"}</Button>}
        {ended && <Button tone={job.state === "succeeded" ? undefined : "main"} icon="retry" act={replay}>Retry</Button>}
        <Button icon="edit" onClick={() => edit(true)}>Edit and run again</Button>
      </>}>
        <span>{job.kind || "A job of a kind not known"}</span>
        <span class={`state big ${toneOf(job.state)}`}><i />{job.state}</span>
      </Title>
      {job.cancel_requested && !ended && <div class="note-box wait"><Icon name="stop" /><div>{job.cancel_requested.by} wants it to end{job.cancel_requested.why ? `: ${job.cancel_requested.why}` : "."}</div></div>}
      {!ended && job.state !== "running" && why.data && <div class="note-box wait" id="why"><Icon name="help" /><div><b>Why it waits.</b> {why.data.detail}</div></div>}
      {error && job.state !== "succeeded" && !runs && <div class="note-box bad" role="alert"><Icon name="alert" /><div><pre>{error}</pre>{shown?.failure?.cause && <span class="dim">cause: {shown.failure.cause}</span>}{job.fingerprint && <> <a class="link" href={at("failures", job.fingerprint)}>all like this</a></>}</div></div>}
      <Panel><Facts of={[
        ["Job", <Copy text={job.id} />], ["Queue", <a class="link" href={`#/jobs?queue=${job.queue}`}>{job.queue}</a>], ["Created", <span title={instant(job.created)}><Ago at={job.created} /></span>],
        ["Waited", duration(between(job.created, job.started))], ["Ran", <Ran job={job} />], ["Attempt", `${job.attempt}${job.replay ? `, replay ${job.replay}` : ""}`],
        ["Next attempt", job.state === "retrying" && job.retry_at && <Ago at={job.retry_at} />], ["Consumer", job.consumer && <a class="link" href={at("consumers", last?.group ?? "")}>{job.consumer}</a>], ["Host", last?.host], ["Version", job.version],
        ["Exit", last?.exit && (last.exit.signal ? `signal ${last.exit.signal}` : last.exit.code !== undefined ? `code ${last.exit.code}` : undefined)],
        ["CPU", shown?.usage && duration(1000 * (shown.usage.user_seconds + shown.usage.system_seconds))], ["Peak memory", shown?.usage && shown.usage.peak_memory > 0 && bytes(shown.usage.peak_memory)],
        ["May have run before", shown?.maybe_rerun && "an execution before it left no report"],
        ["Run", job.run && <a class="link" href={at("runs", job.run)}>{tail(job.run)}</a>],
      ]} /></Panel>
      {(job.attempts.length > 0 || runs) && <Panel title="Attempts"><Timeline job={job} shown={shown} pick={pick} /></Panel>}
      <div class="grid">
        <div class="s7">
          <Panel title="Output" more={job.state === "running" && <StateTag state="running" more="live" />}>
            {runs || (!ended && job.attempts.length === 0) ? <Live id={job.id} ended={reload} running={!!runs} /> : shown && (shown.stdout?.bytes || shown.stderr?.bytes)
              ? <><Output name="stdout" stream={shown.stdout} /><Output name="stderr" stream={shown.stderr} /></>
              : <p class="dim">It wrote nothing.</p>}
          </Panel>
        </div>
        <div class="s5">
          <Panel title="Args">{job.job ? <Json value={job.job.args ?? null} /> : <p class="dim">Only a report without them was seen.</p>}</Panel>
          {shown?.value !== undefined && shown.value !== null && <Panel title="Result"><Json value={shown.value} /></Panel>}
          {(job.unread?.length ?? 0) > 0 && <div class="note-box wait"><Icon name="alert" /><div>{job.unread!.join("; ")}</div></div>}
          {job.job && <Panel title="As it is recorded"><details><summary class="dim">The job, but for its args</summary><Json value={{ ...job.job, args: undefined }} /></details>{shown && <details><summary class="dim">The report of the execution, but for its output and value</summary><Json value={{ ...shown, stdout: undefined, stderr: undefined, value: undefined }} /></details>}</Panel>}
        </div>
      </div>
      {editing && <Edit job={job} ended={ended} close={() => edit(false)} />}
    </>
  );
}

function Ran({ job }: { job: JobRecord }) {
  const now = useNow();
  return <>{duration(between(job.started, job.state === "running" ? now : job.ended))}</>;
}

/** Every execution in its place in time; what lies between is waiting. */
function Timeline({ job, shown, pick }: { job: JobRecord; shown?: Attempt; pick: (place: number) => void }) {
  const now = useNow();
  const start = Date.parse(job.created);
  const ends = job.attempts.map((one) => Date.parse(one.ended ?? "") || now);
  const runs = job.state === "running" && job.started;
  const whole = Math.max(1, Math.max(...ends, runs ? now : 0) - start);
  const place = (ms: number) => `${Math.min(100, Math.max(0, (100 * ms) / whole))}%`;
  return (
    <div>{job.attempts.map((one, n) => {
      const from = Date.parse(one.started), to = ends[n]!;
      const before = n ? ends[n - 1]! : start;
      return (
        <div key={n} class={`line ${toneOf(one.state)} ${one === shown ? "on" : ""}`}>
          <button class="pick" aria-pressed={one === shown} onClick={() => pick(n)}>{one.replay ? `${one.replay}.` : ""}{one.attempt} <StateTag state={one.state} /></button>
          <div class="bar" title={`${instant(one.started)}, ${one.consumer}${one.maybe_rerun ? "; an execution before it may have been cut" : ""}`}>
            <span class="idle" style={{ left: place(before - start), width: place(from - before) }} />
            <span style={{ left: place(from - start), width: place(to - from) }} />
          </div>
          <span class="what">{duration(to - from)}</span>
        </div>
      );
    })}
    {runs && <div class="line run"><span>{job.attempt} <StateTag state="running" /></span><div class="bar">
      <span class="idle" style={{ left: place((ends[ends.length - 1] ?? start) - start), width: place(Date.parse(job.started!) - (ends[ends.length - 1] ?? start)) }} />
      <span style={{ left: place(Date.parse(job.started!) - start), width: place(now - Date.parse(job.started!)) }} />
    </div><span class="what">{duration(now - Date.parse(job.started!))}</span></div>}
    </div>
  );
}

interface Said { stream: string; text: string }
const KEPT = 200_000;

/** What it writes, as it writes it. */
function Live({ id, ended, running }: { id: string; ended: () => void; running: boolean }) {
  const [said, say] = useState<Said[]>([]);
  const [progress, setProgress] = useState<{ done: number; of?: number; note?: string }>();
  const box = useRef<HTMLPreElement>(null);
  const follows = useRef(true);
  useEffect(() => {
    // A browser has six connections to a host: a tab that nobody sees keeps none.
    let source: EventSource | undefined;
    let gone = false;
    const on = (name: string, then: (of: any) => void) => source!.addEventListener(name, (event) => then(JSON.parse((event as MessageEvent<string>).data).of));
    const open = () => {
      if (document.hidden) { source?.close(); source = undefined; return; }
      if (source || gone) return;
      source = new EventSource(`/api/v1/events?job=${id}`);
      // What is refused now is not asked for again by itself.
      source.onerror = () => { if (source?.readyState === EventSource.CLOSED) { source = undefined; setTimeout(open, 1000); } };
      on("output", (of: Said) => say((before) => {
      let all = [...before, { stream: of.stream, text: of.text }];
      while (all.length > 1 && all.reduce((sum, one) => sum + one.text.length, 0) > KEPT) all = all.slice(1);
      return all;
    }));
      on("progress", (of) => setProgress(of.progress));
      on("started", () => ended());
      on("ended", () => setTimeout(ended, 150));
    };
    open();
    document.addEventListener("visibilitychange", open);
    return () => { gone = true; document.removeEventListener("visibilitychange", open); source?.close(); };
  }, [id]);
  useEffect(() => { if (follows.current && box.current) box.current.scrollTop = box.current.scrollHeight; }, [said]);
  return (
    <>
      {progress && <p><Meter value={progress.done} of={progress.of ?? 1} label="Progress" /> <span class="dim">{progress.of ? `${progress.done} of ${progress.of}` : progress.done}{progress.note ? `: ${progress.note}` : ""}</span></p>}
      <pre class="live-out" ref={box} tabIndex={0} aria-label="Live output" onScroll={(event) => { const at = event.currentTarget; follows.current = at.scrollHeight - at.scrollTop - at.clientHeight < 24; }}>
        {said.length ? said.map((one, n) => <span key={n} class={one.stream === "stderr" ? "e" : ""}>{one.text}</span>) : <span class="dim">{running ? "Waiting for output. What it wrote before this page was opened is shown when the execution ends." : "It has not started."}</span>}
      </pre>
    </>
  );
}

function Edit({ job, ended, close }: { job: JobRecord; ended: boolean; close: () => void }) {
  const run = async (args: unknown, queue: string) => {
    if (ended) {
      await post(`/jobs/${job.id}/replay`, { ...(args === undefined ? {} : { args }), queue, by: "page" });
      toast(args === undefined ? "Started anew." : "Started anew with these args.");
    } else {
      const copy = await post<{ id: string }>("/jobs", { kind: job.kind, queue, args: args === undefined ? job.job?.args ?? null : args });
      toast("A copy was published.");
      go(at("jobs", copy.id));
    }
  };
  const unknown = !job.job || (job.job.args === undefined && (job.unread?.length ?? 0) > 0);
  return <EditArgs unknown={unknown} args={job.job?.args ?? null} queue={job.queue} run={run} close={close} note={ended ? "The job starts anew with these args: its attempts count from 1 again, its history stays." : "It has not ended: a copy with these args is published beside it."} />;
}

/** Args and a queue, changed and then run; what is refused is said here, and nothing typed is lost. */
/** `run` gets args only if somebody changed them: numbers that this language cannot hold would be others otherwise. */
export function EditArgs({ args, queue: before, note, run, close, unknown }: { args: unknown; queue: string; note: string; run: (args: unknown, queue: string) => Promise<void>; close: () => void; unknown?: boolean }) {
  const given = unknown ? "" : typeof args === "string" ? args : pretty(args);
  const [text, set] = useState(given);
  const [queue, setQueue] = useState(before);
  const [problem, setProblem] = useState<Problem>();
  const go = async () => {
    let read: unknown;
    if (text !== given) try { read = JSON.parse(text); } catch (error) { setProblem({ title: "", status: 0, field: "args", detail: String(error) }); return; }
    try { await run(read, queue); close(); } catch (error) { setProblem(problemOf(error)); }
  };
  return (
    <Dialog title="Edit and run again" close={close} wide>
      <p class="dim">{note}</p>
      <div class={`field ${problem?.field?.startsWith("args") ? "wrong-field" : ""}`}><label for="edit-args">Args</label>{unknown && <span class="hint">They cannot be shown; left empty, they stay as they are.</span>}<textarea id="edit-args" rows={14} spellcheck={false} value={text} onInput={(event) => set(event.currentTarget.value)} /></div>
      <div class="field"><label for="edit-queue">Queue</label><input id="edit-queue" value={queue} onInput={(event) => setQueue(event.currentTarget.value)} /></div>
      {problem && <p class="req" role="alert">{problem.field && <code>{problem.field}: </code>}{problem.detail}</p>}
      <div class="ends"><Button onClick={close}>Leave it</Button><Button tone="main" icon="play" act={go}>Run</Button></div>
    </Dialog>
  );
}
