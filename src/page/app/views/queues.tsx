// The queues: what waits, who takes it, whether somebody holds it back.

import { post, useData } from "../api";
import { count, short } from "../format";
import type { GroupRow, QueueRow } from "../types";
import { Ago, Button, Empty, Meter, Panel, Reading, StateTag, Title, toast } from "../ui";

export const pauseQueue = (name: string) => post(`/queues/${encodeURIComponent(name)}/pause`, { by: "page" });
export const resumeQueue = (name: string) => post(`/queues/${encodeURIComponent(name)}/resume`, { by: "page" });

export function Queues() {
  const queues = useData<QueueRow[]>("/queues", 1500);
  const groups = useData<GroupRow[]>("/consumers/groups", 2000);
  const oldest = new Map((groups.data ?? []).flatMap((row) => row.queues).map((row) => [row.queue, row.oldest_seconds]));
  return (
    <>
      <Title>Queues</Title>
      <Panel flush><Reading of={queues}>{(rows) => {
        if (!rows.length) return <Empty title="No queue is known">A consumer makes those that its configuration names: <code>queues = ["default"]</code></Empty>;
        const most = Math.max(1, ...rows.map((row) => row.ready));
        return (
          <div class="scroll"><table>
            <thead><tr><th>Queue</th><th>State</th><th class="num">Waiting</th><th class="wide-only"><span class="dim">of the longest</span></th><th class="num wide-only">In hand</th><th class="num wide-only">Oldest</th><th class="num wide-only">Consumers</th><th /></tr></thead>
            <tbody>{rows.map((row) => (
              <tr key={row.name} data-row>
                <td class="kind"><a href={`#/jobs?queue=${encodeURIComponent(row.name)}`}>{row.name}</a></td>
                <td class="tight">{row.paused ? <span title={row.paused.why}><StateTag state="paused" /> <span class="dim wide-only">by {row.paused.by} <Ago at={row.paused.at} /></span></span> : row.consumers === 0 ? <StateTag state="no consumer" /> : <StateTag state="active" />}</td>
                <td class="num tight">{count(row.ready)}</td>
                <td class="wide-only"><Meter value={row.ready} of={most} tone={row.paused ? "wait" : "run"} /></td>
                <td class="num tight wide-only">{count(row.unacked)}</td>
                <td class="num tight wide-only">{oldest.get(row.name) === undefined ? <span class="dim">–</span> : short(oldest.get(row.name)!)}</td>
                <td class="num tight wide-only">{row.heard ?? row.consumers}</td>
                <td class="tight"><div class="rowacts">{row.paused
                  ? <Button icon="play" act={async () => { await resumeQueue(row.name); toast(`${row.name} goes on.`); }}>Resume</Button>
                  : <Button icon="pause" act={async () => { await pauseQueue(row.name); toast(`${row.name} is paused: nobody takes jobs from it.`); }}>Pause</Button>}</div></td>
              </tr>
            ))}</tbody>
          </table></div>
        );
      }}</Reading></Panel>
    </>
  );
}
