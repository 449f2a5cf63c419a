// Who runs jobs: groups with what is wanted of them and what is there; their consumers, and what each runs.

import { useEffect, useState } from "preact/hooks";
import { post, problemOf, useData } from "../api";
import { count, plural, short, tail } from "../format";
import { Icon } from "../icons";
import { at } from "../route";
import type { ConsumerRow, GroupRow } from "../types";
import { Button, Empty, Meter, Panel, Reading, StateTag, Title, toast, useNow } from "../ui";

export function Consumers({ only }: { only?: string }) {
  const groups = useData<GroupRow[]>("/consumers/groups", 1500);
  const consumers = useData<ConsumerRow[]>("/consumers", 1500);
  return (
    <>
      <Title>Consumers</Title>
      <Reading of={groups}>{(rows) => rows.length === 0
        ? <Panel><Empty title="Nobody consumes">Start one with <code>spinor up</code></Empty></Panel>
        : rows.filter((row) => !only || row.group === only).map((row) => <Group key={row.group} row={row} consumers={(consumers.data ?? []).filter((one) => one.group === row.group)} />)}
      </Reading>
      {only && <p class="dim"><a class="link" href="#/consumers">All groups</a></p>}
    </>
  );
}

/** A number that is set a moment after the last press, so that five presses are one order. */
function Stepper({ value, set, label, least = 0 }: { value: number; set: (to: number) => Promise<unknown>; label: string; least?: number }) {
  const [wanted, want] = useState<number>();
  useEffect(() => {
    if (wanted === undefined) return;
    const timer = setTimeout(() => { if (wanted !== value) set(wanted).catch((error) => { toast(problemOf(error).detail); want(undefined); }); }, 500);
    return () => clearTimeout(timer);
  }, [wanted]);
  useEffect(() => want(undefined), [value]);
  const now = wanted ?? value;
  return (
    <span class="stepper" role="group" aria-label={label}>
      <button aria-label={`${label}: one less`} disabled={now <= least} onClick={() => want(now - 1)}><Icon name="minus" /></button>
      <output aria-live="polite">{now}</output>
      <button aria-label={`${label}: one more`} onClick={() => want(now + 1)}><Icon name="plus" /></button>
    </span>
  );
}

function Group({ row, consumers }: { row: GroupRow; consumers: ConsumerRow[] }) {
  const name = encodeURIComponent(row.group);
  const each = consumers[0]?.slots ?? 1;
  const scale = async (replicas: number) => {
    const answer = await post<GroupRow>(`/groups/${name}/scale`, { replicas, by: "page" });
    toast(answer.note ?? `${row.group} shall have ${plural(replicas, "consumer")}.`);
  };
  const slots = async (slots: number) => { await post(`/groups/${name}/slots`, { slots, by: "page" }); toast(`Each consumer of ${row.group} takes ${plural(slots, "job")} at once.`); };
  const drain = async () => { await post(`/groups/${name}/drain`, { by: "page" }); toast(`The consumers of ${row.group} drain: they finish what they run and take nothing new.`); };
  const wanted = row.wanted ?? row.running;
  return (
    <Panel flush id={`group-${row.group}`} title={<a href={at("consumers", row.group)}>{row.group}</a>} more={<>
      <label class="wide-only">replicas</label><Stepper label={`Replicas of ${row.group}`} value={wanted} set={scale} />
      <label class="wide-only">slots each</label><Stepper label={`Slots of ${row.group}`} value={row.slots_wanted ?? each} least={1} set={slots} />
      <Button icon="stop" act={drain} disabled={row.running === 0}>Drain</Button>
    </>}>
      <div class="brief">
        <StateTag state={row.running ? "running" : "stopped"} more={`${row.running}${row.wanted !== undefined ? ` of ${row.wanted} wanted by ${row.wanted_by?.by}` : ""}`} />
        {row.draining > 0 && <StateTag state="draining" more={String(row.draining)} />}{row.silent > 0 && <StateTag state="silent" more={String(row.silent)} />}
        <span><b>{count(row.busy)}</b> of {count(row.slots)} slots busy <Meter value={row.busy} of={row.slots} label={`${row.busy} of ${row.slots} slots are busy`} /></span>
        <span>{row.queues.map((queue, n) => <span key={queue.queue}>{n > 0 && ", "}<a class="link" href={`#/jobs?queue=${encodeURIComponent(queue.queue)}`}>{queue.queue}</a> {queue.paused ? "paused" : `${count(queue.ready)} waiting`}{queue.oldest_seconds !== undefined && `, oldest ${short(queue.oldest_seconds)}`}</span>)}</span>
      </div>
      {consumers.length > 0 && <div class="scroll"><table>
        <thead><tr><th>Consumer</th><th>State</th><th>Slots</th><th>Runs</th><th class="wide-only">Version</th><th class="wide-only">Process</th><th class="num wide-only">Up</th><th /></tr></thead>
        <tbody>{consumers.map((one) => <One key={one.consumer} row={one} />)}</tbody>
      </table></div>}
    </Panel>
  );
}

function For({ since }: { since: string }) {
  const now = useNow();
  return <time dateTime={since}>{short(Math.max(0, (now - Date.parse(since)) / 1000))}</time>;
}

function One({ row }: { row: ConsumerRow }) {
  const drain = async () => { await post(`/consumers/${encodeURIComponent(row.consumer)}/drain`, { by: "page" }); toast(`${row.consumer} drains.`); };
  const idle = row.intake !== "taking";
  return (
    <tr data-row>
      <td class="tight mono">{row.consumer}</td>
      <td class="tight"><StateTag state={row.silent_ms > 20_000 ? "silent" : row.draining ? "draining" : "running"} />{idle && !row.draining && <span class="pill wait">{row.intake}</span>}</td>
      <td style={{ minWidth: "96px" }}><span class="slots" role="img" aria-label={`${row.busy} of ${row.slots} slots are busy`}>{Array.from({ length: Math.min(row.slots, 64) }, (_, n) => <i key={n} class={n < row.busy ? "busy" : ""} />)}</span></td>
      <td class="clip">{row.running.length === 0 ? <span class="dim">nothing</span> : row.running.slice(0, 6).map((job, n) => <span key={job.job}>{n > 0 && ", "}<a class="link" href={at("jobs", job.job)} title={tail(job.job)}>{job.kind}</a> <span class="dim"><For since={job.since} /></span></span>)}{row.running.length > 6 && <span class="dim">, and {row.running.length - 6} more</span>}</td>
      <td class="tight wide-only">{row.version}</td>
      <td class="tight dim wide-only">{row.host}:{row.pid}</td>
      <td class="tight num wide-only"><For since={row.started} /></td>
      <td class="tight"><div class="rowacts"><Button act={drain} disabled={row.draining}>Drain</Button></div></td>
    </tr>
  );
}
