// What goes in and out, what waits, what fails and why: the first thing anybody sees.

import { useEffect } from "preact/hooks";
import { useData } from "../api";
import { count, plural, ratePair, short } from "../format";
import { Plot } from "../plot";
import { arriving, ended, noteWaiting, rate } from "../pulse";
import { at } from "../route";
import type { ConsumerRow, Failures, GroupRow, QueueRow, Triggers } from "./kit";
import { Ago, Empty, Meter, Panel, Reading, StateTag, Title, useNow } from "../ui";
import { FailureLine } from "./failures";

/** Between two instants, so many seconds at most: what is told in words. */
function drainText(waiting: number, into: number | undefined, out: number | undefined): [string, string] {
  if (waiting === 0) return ["–", "nothing waits"];
  if (into === undefined || out === undefined) return ["–", "not known yet"];
  const gain = out - into;
  if (gain <= 0.01) return ["grows", "more arrives than ends"];
  return [short(waiting / gain), "at the rate of the last minute"];
}

function Rate({ of }: { of?: number }) {
  const [value, unit] = ratePair(of);
  return <b>{value}<small>{unit}</small></b>;
}

export function Overview({ theme }: { theme: string }) {
  const queues = useData<QueueRow[]>("/queues", 2000);
  const groups = useData<GroupRow[]>("/consumers/groups", 2000);
  const failures = useData<Failures>("/failures?since=24h&limit=100", 4000);
  const triggers = useData<Triggers>("/triggers", 5000);
  const consumers = useData<ConsumerRow[]>("/consumers", 2000);
  useNow();

  const waiting = queues.data?.reduce((sum, row) => sum + row.ready, 0);
  useEffect(() => { if (waiting !== undefined) noteWaiting(waiting); }, [queues.at]);

  const all = groups.data ?? [];
  const slots = all.reduce((sum, row) => sum + row.slots, 0);
  const busy = all.reduce((sum, row) => sum + row.busy, 0);
  const oldest = all.flatMap((row) => row.queues).reduce<{ queue: string; oldest_seconds?: number } | undefined>((worst, row) => ((row.oldest_seconds ?? -1) > (worst?.oldest_seconds ?? -1) ? row : worst), undefined);
  const out = rate(ended);
  const failing = rate((sample) => sample.failed ?? 0, 60);
  const retrying = rate((sample) => sample.retrying ?? 0, 60);
  const into = arriving();
  const [drain, how] = drainText(waiting ?? 0, into, out);
  const coming = (triggers.data?.triggers ?? []).filter((row) => row.next && row.state === "active").sort((a, b) => (a.next! < b.next! ? -1 : 1)).slice(0, 6);

  return (
    <>
      <Title>Overview</Title>
      <div class="figures">
        <div class="figure" title="What ended, plus what the backlog grew by, over the last 30 s"><div class="label">Arriving</div><Rate of={into} /><div class="note">by the backlog</div></div>
        <div class="figure"><div class="label">Ending</div><Rate of={out} /><div class="note">over the last 30 s</div></div>
        <a class={`figure ${(failing ?? 0) > 0 ? "bad" : ""}`} href="#/failures"><div class="label">Failing</div><Rate of={failing} /><div class="note">{(retrying ?? 0) > 0 ? `${ratePair(retrying).join("")} tried again` : "over the last minute"}</div></a>
        <a class="figure" href="#/queues"><div class="label">Waiting</div><b>{count(waiting)}</b><div class="note">{queues.data ? plural(queues.data.length, "queue") : ""}</div></a>
        <a class={`figure ${(oldest?.oldest_seconds ?? 0) > 300 ? "wait" : ""}`} href={oldest?.oldest_seconds !== undefined ? `#/jobs?state=queued&queue=${encodeURIComponent(oldest.queue)}` : "#/jobs?state=queued"}><div class="label">Oldest job</div><b>{oldest?.oldest_seconds === undefined ? "–" : short(oldest.oldest_seconds)}</b><div class="note">{oldest?.oldest_seconds === undefined ? "nothing waits" : `on ${oldest.queue}`}</div></a>
        <div class="figure"><div class="label">Time to drain</div><b>{drain}</b><div class="note">{how}</div></div>
        <a class="figure" href="#/consumers"><div class="label">Running</div><b>{count(busy)}<small>of {count(slots)}</small></b><Meter value={busy} of={slots} label={`${busy} of ${slots} slots are busy`} /></a>
      </div>
      <div class="grid">
        <div class="s7"><Panel title="Jobs that end, each second" more={<span class="legend"><span class="good"><i />succeeded</span><span class="wait"><i />tried again</span><span class="bad"><i />failed</span></span>}>
          <Plot theme={theme} label="Jobs that ended in each second, by how" lines={[{ label: "succeeded", tone: "good", of: (s) => s.succeeded, fill: true }, { label: "tried again", tone: "wait", of: (s) => s.retrying }, { label: "failed", tone: "bad", of: (s) => s.failed }]} />
        </Panel></div>
        <div class="s5"><Panel title="Jobs that wait" more="since this page was opened">
          <Plot theme={theme} label="Jobs that wait on all queues" mean={false} lines={[{ label: "waiting", tone: "run", of: (s) => s.waiting, fill: true }]} />
        </Panel></div>
      </div>
      <div class="grid">
        <div class="s7"><Panel flush title="What fails" more={<a class="link" href="#/failures">all failures</a>}>
          <Reading of={failures}>{({ groups }) => groups.length === 0
            ? <Empty title="Nothing ended badly in the last 24 hours" />
            : [...groups].sort((a, b) => b.count - a.count).slice(0, 8).map((group) => <FailureLine key={group.fingerprint} group={group} />)}
          </Reading>
        </Panel></div>
        <div class="s5">
          <Panel flush title="Consumers" more={<a class="link" href="#/consumers">by group</a>}>
            <Reading of={consumers} rows={3}>{(rows) => rows.length === 0
              ? <Empty title="Nobody consumes">Start one with <code>spinor up</code></Empty>
              : <div class="scroll"><table><tbody>{rows.slice(0, 8).map((row) => (
                <tr key={row.consumer}>
                  <td class="clip"><a href={at("consumers", row.group)}>{row.consumer}</a></td>
                  <td class="tight"><StateTag state={row.silent_ms > 20_000 ? "silent" : row.draining ? "draining" : "running"} /></td>
                  <td class="tight num">{row.busy}<span class="dim"> / {row.slots}</span></td>
                </tr>))}</tbody></table></div>}
            </Reading>
          </Panel>
          <Panel flush title="Coming triggers" more={<a class="link" href="#/triggers">all triggers</a>}>
            <Reading of={triggers} rows={3}>{() => coming.length === 0
              ? <Empty title="No trigger is due" />
              : <table><tbody>{coming.map((row) => (
                <tr key={row.name}><td class="clip"><a href={at("triggers", row.name)}>{row.name}</a></td><td class="tight dim">{row.asked.job?.kind}</td><td class="tight num"><Ago at={row.next} /></td></tr>
              ))}</tbody></table>}
            </Reading>
          </Panel>
        </div>
      </div>
    </>
  );
}
