// What fires when, what it fired, and by hand.

import { useState } from "preact/hooks";
import { post, useData } from "../api";
import { count, duration, instant, tail } from "../format";
import { Icon } from "../icons";
import { at, go } from "../route";
import type { TriggerRow, TriggerShown } from "../types";
import { Ago, Button, Empty, Facts, Json, Panel, Reading, StateTag, Title, toast } from "../ui";
import type { Triggers as All } from "./kit";
import { NewTrigger, RemoveTrigger } from "./new-trigger";

const when = (row: TriggerRow) => row.asked.cron ? <><code>{row.asked.cron}</code> <span class="dim">{row.asked.zone ?? "UTC"}</span></> : row.asked.every ? <>every {row.asked.every}</> : <>at {instant(row.asked.at)}</>;

function Acts({ row }: { row: TriggerRow }) {
  const path = `/triggers/${encodeURIComponent(row.name)}`;
  const fire = async () => {
    const { job } = await post<{ job: string }>(`${path}/fire`, { by: "page" });
    toast(<>{row.name} is fired: <a href={at("jobs", job)}>{tail(job)}</a></>);
  };
  return (
    <div class="rowacts">
      <Button icon="fire" act={fire} disabled={row.state === "retired"}>Fire</Button>
      {row.state === "paused"
        ? <Button icon="play" act={async () => { await post(`${path}/resume`, { by: "page" }); toast(`${row.name} goes on.`); }}>Resume</Button>
        : <Button icon="pause" act={async () => { await post(`${path}/pause`, { by: "page" }); toast(`${row.name} is paused.`); }} disabled={row.state !== "active"}>Pause</Button>}
    </div>
  );
}

export function Triggers() {
  const all = useData<All>("/triggers", 2000);
  const [adding, add] = useState(false);
  return (
    <>
      <Title more={<>{all.data?.leader && <span class="dim wide-only" style={{ alignSelf: "center" }}>fired by {all.data.leader.who}, epoch {all.data.leader.epoch}</span>}<Button icon="plus" onClick={() => add(true)}>Add a trigger</Button></>}>Triggers</Title>
      {adding && <NewTrigger close={() => add(false)} />}
      <Panel flush><Reading of={all}>{({ triggers }) => triggers.length === 0
        ? <Empty title="No trigger yet">Add one here, or: <code>spinor triggers add nightly --cron '0 3 * * *' --kind noop</code></Empty>
        : <div class="scroll"><table>
          <thead><tr><th>Trigger</th><th class="wide-only">State</th><th>When</th><th class="wide-only">Fires</th><th class="num">Next</th><th class="num wide-only">Fired</th><th class="wide-only">Last</th><th /></tr></thead>
          <tbody>{triggers.map((row) => (
            <tr key={row.name} class="link-row" data-row onClick={(event) => { if (!(event.target as HTMLElement).closest("a, button")) go(at("triggers", row.name)); }}>
              <td class="kind"><a href={at("triggers", row.name)}>{row.name}</a>{row.state !== "active" && <div class="only-small"><StateTag state={row.state} /></div>}</td>
              <td class="tight wide-only"><StateTag state={row.state} /></td>
              <td>{when(row)}</td>
              <td class="tight dim wide-only">{row.asked.job?.kind}</td>
              <td class="tight num">{row.state === "active" ? <Ago at={row.next} /> : <span class="dim">–</span>}</td>
              <td class="tight num wide-only">{count(row.fired)}</td>
              <td class="tight wide-only">{row.previous ? row.previous.outcome ? <StateTag state={row.previous.outcome} /> : <StateTag state="running" /> : <span class="dim">never</span>}</td>
              <td class="tight"><Acts row={row} /></td>
            </tr>
          ))}</tbody>
        </table></div>}</Reading></Panel>
    </>
  );
}

export function Trigger({ name }: { name: string }) {
  const shown = useData<TriggerShown>(`/triggers/${encodeURIComponent(name)}?limit=20`, 2000);
  const [dropping, drop] = useState(false);
  return (
    <Reading of={shown}>{({ trigger, coming, ticks, leader }) => (
      <>
        <Title more={<><Acts row={trigger} />{trigger.origin !== "file" && <Button tone="bad" onClick={() => drop(true)}>Remove</Button>}</>}><span>{trigger.name}</span><StateTag state={trigger.state} /></Title>
        {dropping && <RemoveTrigger name={name} close={() => drop(false)} />}
        {trigger.state === "paused" && <div class="note-box wait"><Icon name="pause" /><div>Paused by {trigger.changed_by}, <Ago at={trigger.changed} />. It fires nothing until it is resumed.</div></div>}
        <Panel><Facts of={[["When", when(trigger)], ["Fires", trigger.asked.job?.kind], ["Queue", trigger.asked.job?.queue ?? "default"], ["While an earlier job runs", trigger.asked.overlap ?? "skip"], ["Missed instants", trigger.asked.misfire ?? "once"], ["From", trigger.origin === "file" ? "the configuration" : "a command"], ["Changed", <><Ago at={trigger.changed} /> by {trigger.changed_by}</>], ["Fired", count(trigger.fired)], ["Who fires", leader && `${leader.who}, epoch ${leader.epoch}`]]} /></Panel>
        <div class="grid">
          <div class="s5">
            <Panel flush title="Coming instants">{coming.length === 0 ? <Empty title="None while it is not active" /> : <table><tbody>{coming.slice(0, 10).map((one) => <tr key={one}><td>{instant(one)}</td><td class="num dim"><Ago at={one} /></td></tr>)}</tbody></table>}</Panel>
            <Panel title="Its job"><Json value={trigger.asked.job ?? null} /></Panel>
          </div>
          <div class="s7"><Panel flush title="History">{ticks.length === 0 ? <Empty title="It has not fired yet">Press Fire to fire it now, beside its schedule.</Empty> : <div class="scroll"><table>
            <thead><tr><th>Instant</th><th>Outcome</th><th>Job</th><th class="num">Late by</th></tr></thead>
            <tbody>{ticks.map((tick) => <tr key={tick.instant + tick.job}><td class="tight">{instant(tick.instant)}</td><td><StateTag state={tick.state} />{tick.note && <span class="dim"> {tick.note}</span>}</td><td class="mono">{tick.job ? <a class="link" href={at("jobs", tick.job)}>{tail(tick.job)}</a> : <span class="dim">–</span>}</td><td class="num tight">{duration(tick.late_ms)}</td></tr>)}</tbody>
          </table></div>}</Panel></div>
        </div>
      </>
    )}</Reading>
  );
}
