// Jobs that belong together: as steps by nodes, or as members by what they need.

import { useMemo, useState } from "preact/hooks";
import { get, post, query, useData } from "../api";
import { between, duration, plural, tail } from "../format";
import { at, go, type Route } from "../route";
import type { JobRow, Member, Paged, RunRecord, RunRow, StepReport } from "../types";
import { live, useRunning } from "./jobs";
import { Ago, Button, Empty, Facts, Output, Panel, Reading, StateTag, Title, toast, toneOf, useNow } from "../ui";

const stateOf = (run: RunRow) => (!run.ended ? "running" : run.succeeded ? "succeeded" : run.succeeded === false ? "failed" : "done");

function Took({ run }: { run: RunRow }) {
  const now = useNow();
  return <>{duration(between(run.started, run.ended ?? now))}</>;
}

export function Runs({ route }: { route: Route }) {
  const cursor = route.query.get("cursor") ?? undefined;
  const runs = useData<Paged<RunRow>>(`/runs${query({ limit: 50, cursor })}`, 2000);
  return (
    <>
      <Title>Runs</Title>
      <Panel flush><Reading of={runs}>{({ rows, next }) => rows.length === 0
        ? <Empty title="No run yet">Submit one: <code>spinor run --local 6 fleet.yaml</code> or <code>spinor runs publish nightly.yaml</code></Empty>
        : <><div class="scroll"><table>
          <thead><tr><th>State</th><th>Name</th><th class="wide-only">Run</th><th class="num">Members</th><th class="num wide-only">Steps</th><th class="num">Took</th><th class="num wide-only">Started</th></tr></thead>
          <tbody>{rows.map((run) => (
            <tr key={run.id} class="link-row" data-row onClick={(event) => { if (!(event.target as HTMLElement).closest("a")) go(at("runs", run.id)); }}>
              <td class="tight"><StateTag state={stateOf(run)} more={run.replay ? `replay ${run.replay}` : undefined} /></td>
              <td class="clip kind"><a href={at("runs", run.id)}>{run.name.split("/").pop()}</a></td>
              <td class="tight mono dim wide-only">{tail(run.id)}</td><td class="tight num">{run.members}</td><td class="tight num wide-only">{run.steps || <span class="dim">–</span>}</td>
              <td class="tight num"><Took run={run} /></td><td class="tight num wide-only"><Ago at={run.started} /></td>
            </tr>
          ))}</tbody>
        </table></div>{next && <div class="pager"><a class="button" href={`#/runs${query({ cursor: next })}`}>Older</a></div>}</>}
      </Reading></Panel>
    </>
  );
}

export function Run({ id }: { id: string }) {
  const record = useData<RunRecord>(`/runs/${id}`, 700);
  const running = useRunning();
  const steps = useData<StepReport[]>(record.data && record.data.steps > 0 ? `/runs/${id}/steps` : null, 700);
  return (
    <Reading of={record}>{(run) => {
      const state = stateOf(run);
      const cancel = async () => { await post(`/runs/${id}/cancel`, { by: "page" }); toast("Cancel requested."); };
      const retry = async () => { await post(`/runs/${id}/retry`, { by: "page" }); toast("What did not succeed starts anew."); };
      return (
        <>
          <Title more={<>{!run.ended && <Button tone="bad" icon="stop" act={cancel} disabled={!!run.cancel_requested}>Cancel</Button>}{run.ended && !run.succeeded && run.steps === 0 && <Button tone="main" icon="retry" act={retry}>Retry what failed</Button>}</>}>
            <span>{run.name.split("/").pop()}</span><span class={`state big ${toneOf(state)}`}><i />{state}</span>
          </Title>
          {run.problems?.map((text) => <div key={text} class="note-box bad"><div>{text}</div></div>)}
          <Panel><Facts of={[["Run", <code>{run.id}</code>], ["Members", run.members], ["Steps", run.steps || undefined], ["Started", <Ago at={run.started} />], ["Took", <Took run={run} />], ["Source", run.name.includes("/") ? run.name : undefined]]} /></Panel>
          {run.steps > 0 && <Panel title="Steps by nodes" more={steps.data && <span>{plural(steps.data.length, "step")} of {run.steps} ended</span>}><Reading of={steps}>{(rows) => <Grid run={run} steps={rows} />}</Reading></Panel>}
          {run.member_list && run.member_list.length > 0 && <Panel title="Members, by what they need"><Dag members={run.member_list} jobs={new Map(run.jobs.map(([name, job]) => [name, live(job, running)]))} /></Panel>}
          <Panel flush title="Jobs"><div class="scroll"><table>
            <thead><tr><th>State</th><th>Member</th><th>Kind</th><th>Error</th><th class="num">Took</th></tr></thead>
            <tbody>{run.jobs.map(([name, job]) => [name, live(job, running)] as const).map(([name, job]) => <tr key={job.id} data-row><td class="tight"><StateTag state={job.state} /></td><td class="tight"><a class="link" href={at("jobs", job.id)}>{name}</a></td><td class="tight">{job.kind}</td><td class="clip err">{job.state === "succeeded" ? "" : job.error}</td><td class="num tight">{duration(between(job.started, job.ended))}</td></tr>)}</tbody>
          </table></div></Panel>
        </>
      );
    }}</Reading>
  );
}

/** A square for each step of each node, in order; those to come are empty. */
function Grid({ run, steps }: { run: RunRecord; steps: StepReport[] }) {
  const [picked, pick] = useState<StepReport>();
  const [said, say] = useState<StepReport>();
  const nodes = run.jobs.map(([name]) => name);
  const byNode = useMemo(() => {
    const map = new Map<string, StepReport[]>(nodes.map((name) => [name, []]));
    for (const step of steps) map.get(step.node)?.push(step);
    map.forEach((list) => list.sort((a, b) => a.step - b.step));
    return map;
  }, [steps]);
  const named = Math.max(...[...byNode.values()].map((list) => list.length), run.ended ? 0 : Math.ceil(run.steps / Math.max(1, nodes.length))) <= 12;
  const planned = Math.max(Math.ceil(run.steps / Math.max(1, nodes.length)), 0);
  const open = async (step: StepReport) => {
    pick(step); say(undefined);
    const all = await get<StepReport[]>(`/runs/${run.id}/steps${query({ node: step.node, outputs: "true" })}`);
    say(all.find((one) => one.step === step.step));
  };
  const step = said ?? picked;
  return (
    <>
      <div class="steps">{nodes.map((node) => {
        const done = byNode.get(node) ?? [];
        const spent = done.reduce((sum, one) => sum + one.micros, 0) / 1000;
        return (
          <>
            <span class="kind">{node}</span>
            <div class={`cells ${named ? "named" : ""}`}>
              {done.map((one) => <button key={one.step} class={`cell ${toneOf(one.state)}`} aria-pressed={picked?.node === node && picked.step === one.step} aria-label={`${node}, ${one.name}: ${one.state}`} title={`${one.name}\n${one.state}, ${duration(one.micros / 1000)}`} onClick={() => void open(one)}>{named && one.name}</button>)}
              {Array.from({ length: run.ended ? 0 : Math.max(0, planned - done.length) }, (_, n) => <span key={`e${n}`} class="cell" />)}
            </div>
            <span class="num dim time">{duration(spent)}</span>
          </>
        );
      })}</div>
      {step && <div style={{ marginTop: "16px" }}><Facts of={[["Node", step.node], ["Step", step.name], ["State", <StateTag state={step.state} />], ["Took", duration(step.micros / 1000)], ["Exit", step.exit?.code !== undefined ? `code ${step.exit.code}` : undefined], ["Error", step.failure?.message]]} />
        <div style={{ height: "12px" }} /><Output name="stdout" stream={said?.stdout} /><Output name="stderr" stream={said?.stderr} />{said && !said.stdout?.bytes && !said.stderr?.bytes && <p class="dim">It wrote nothing.</p>}</div>}
    </>
  );
}

const WIDTH = 168, HEIGHT = 44, ACROSS = 56, DOWN = 14;

/** Members in columns: each right of all it needs. */
function Dag({ members, jobs }: { members: Member[]; jobs: Map<string, JobRow> }) {
  const placed = useMemo(() => {
    const byName = new Map(members.map((one) => [one.name, one]));
    const depth = new Map<string, number>();
    const of = (name: string): number => {
      const known = depth.get(name);
      if (known !== undefined) return known;
      depth.set(name, 0);
      const found = Math.max(-1, ...(byName.get(name)?.needs ?? []).map(of)) + 1;
      depth.set(name, found);
      return found;
    };
    const rows: number[] = [];
    return new Map(members.map((one) => {
      const column = of(one.name), row = rows[column] ?? 0;
      rows[column] = row + 1;
      return [one.name, { x: column * (WIDTH + ACROSS), y: row * (HEIGHT + DOWN) }] as const;
    }));
  }, [members]);
  const spots = [...placed.values()];
  const width = Math.max(...spots.map((spot) => spot.x)) + WIDTH, height = Math.max(...spots.map((spot) => spot.y)) + HEIGHT;
  return (
    <div class="dag" style={{ height: `${height + 8}px` }}>
      <svg width={width} height={height + 8} aria-hidden="true">{members.flatMap((one) => (one.needs ?? []).map((need) => {
        const from = placed.get(need), to = placed.get(one.name)!;
        if (!from) return null;
        const [x, y, u, v] = [from.x + WIDTH, from.y + HEIGHT / 2 + 4, to.x, to.y + HEIGHT / 2 + 4];
        return <path key={`${need}>${one.name}`} d={`M${x} ${y}C${x + ACROSS / 2} ${y} ${u - ACROSS / 2} ${v} ${u} ${v}`} />;
      }))}</svg>
      {members.map((one) => {
        const spot = placed.get(one.name)!, job = jobs.get(one.name);
        // Published is all that the run knows; its job knows more.
        const state = one.state === "published" ? job?.state ?? "queued" : one.state;
        return <a key={one.name} class={`member ${toneOf(state)}`} href={at("jobs", one.job)} style={{ left: `${spot.x}px`, top: `${spot.y + 4}px` }}><b>{one.name}</b><StateTag state={state} more={job?.started ? duration(between(job.started, job.ended ?? Date.now())) : undefined} /></a>;
      })}
    </div>
  );
}
