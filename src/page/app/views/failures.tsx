// What ended badly, by what it has in common; its jobs; and all of them started anew at a rate.

import { useState } from "preact/hooks";
import { post, useData } from "../api";
import { count, plural, tail } from "../format";
import { Icon } from "../icons";
import { amend, at, go, type Route } from "../route";
import type { DeadLetter, DeadRecord, FailureGroup, FailureRecord, Failures as Groups, Paged, Replay } from "../types";
import { Ago, Button, Empty, Facts, Json, Panel, Reading, StateTag, Title, toast } from "../ui";
import { EditArgs } from "./job";
import { JobTable } from "./jobs";
import { Going, RetryAll } from "./replays";

export function FailureLine({ group }: { group: FailureGroup }) {
  return (
    <a class="fail" href={at("failures", group.fingerprint)} data-row>
      <span class="times">{count(group.count)}</span>
      <span class="text" title={group.error}>{group.error || "no error text"}</span>
      <span class="when"><Ago at={group.last} /></span>
      <span class="meta"><b>{group.kind}</b><span>{group.states.join(", ")}</span><span>on {group.queues.join(", ")}</span><span>first <Ago at={group.first} /></span><span>version {group.versions.join(", ") || "not known"}</span></span>
    </a>
  );
}

const SPANS: [string, string][] = [["1h", "last hour"], ["24h", "24 hours"], ["7d", "7 days"], ["", "all"]];

export function Failures({ route }: { route: Route }) {
  const since = route.query.get("since") ?? "";
  const dead = route.query.get("show") === "dead";
  const groups = useData<Groups>(dead ? null : `/failures?limit=100${since ? `&since=${since}` : ""}`, 3000);
  const letters = useData<Paged<DeadLetter>>(dead ? "/dead?limit=100" : null, 3000);
  const replays = useData<Paged<Replay>>("/replays?limit=5", 1500);
  const going = (replays.data?.rows ?? []).filter((row) => !row.ended);
  return (
    <>
      <Title>Failures</Title>
      {going.map((row) => <Going key={row.id} id={row.id} />)}
      <div class="facets">
        <button class="chip" aria-pressed={!dead} onClick={() => amend(route, { show: undefined })}>By cause</button>
        <button class="chip" aria-pressed={dead} onClick={() => amend(route, { show: "dead", since: undefined })}>Dead letters</button>
        {!dead && <><span class="split" />{SPANS.map(([value, word]) => <button key={value} class="chip" aria-pressed={since === value} onClick={() => amend(route, { since: value || undefined })}>{word}</button>)}</>}
      </div>
      {dead ? (
        <Panel flush><Reading of={letters}>{({ rows }) => rows.length === 0
          ? <Empty title="No dead letters">What cannot be handled lies here with its reason: to be read, edited and started anew.</Empty>
          : <div class="scroll"><table>
            <thead><tr><th>Job</th><th>Kind</th><th class="wide-only">Queue</th><th>Reason</th><th class="num">Died</th></tr></thead>
            <tbody>{rows.map((row) => <tr key={row.id} class="link-row" data-row onClick={() => go(at("failures", "dead", row.id))}><td class="tight mono"><a href={at("failures", "dead", row.id)}>{tail(row.job)}</a></td><td class="tight kind">{row.kind || <span class="dim">no job</span>}</td><td class="tight wide-only">{row.queue}</td><td class="clip err">{row.reason}</td><td class="tight num"><Ago at={row.at} /></td></tr>)}</tbody>
          </table></div>}</Reading></Panel>
      ) : (
        <Panel flush><Reading of={groups}>{({ groups, capped, looked }) => groups.length === 0
          ? <Empty title="Nothing ended badly">{since ? "Not in this time. " : ""}Failures are grouped by their kind and their error, with numbers, ids and paths taken out.</Empty>
          : <>{groups.map((group) => <FailureLine key={group.fingerprint} group={group} />)}{capped && <div class="pager">{`More failures than are counted here: ${looked ? `those created since ${new Date(looked).toLocaleString()} are` : "the newest are"}.`}</div>}</>}
        </Reading></Panel>
      )}
    </>
  );
}

export function Failure({ fingerprint }: { fingerprint: string }) {
  const record = useData<FailureRecord>(`/failures/${fingerprint}`, 2000);
  const [asking, ask] = useState(false);
  const [going, follow] = useState<string>();
  return (
    <Reading of={record}>{(group) => (
      <>
        <Title more={<Button tone="main" icon="retry" onClick={() => ask(true)}>Retry all like this</Button>}><span>{group.kind}</span><span class="pill bad">{plural(group.count, "failure")}</span></Title>
        {going && <Going id={going} />}
        <div class="note-box bad" role="alert"><Icon name="alert" /><div><pre>{group.error || "no error text"}</pre></div></div>
        <Panel><Facts of={[["First seen", <Ago at={group.first} />], ["Last seen", <Ago at={group.last} />], ["Ended", group.states.join(", ")], ["Queues", group.queues.join(", ")], ["Versions", group.versions.join(", ") || "not known"], ["Consumers", group.consumers.join(", ")], ["Fingerprint", <code>{group.fingerprint}</code>]]} /></Panel>
        <Panel flush title="The newest of them" more={<a class="link" href={`#/jobs?fingerprint=${group.fingerprint}`}>all as jobs</a>}><JobTable rows={group.jobs} /></Panel>
        {asking && <RetryAll filter={{ fingerprint: group.fingerprint }} close={() => ask(false)} ordered={(id) => { follow(id); ask(false); }} />}
      </>
    )}</Reading>
  );
}

export function Dead({ id }: { id: string }) {
  const letter = useData<DeadRecord>(`/dead/${id}`, 5000);
  const [editing, edit] = useState(false);
  const replay = async (changes: Record<string, unknown> = {}) => {
    const answer = await post<{ id: string }>(`/dead/${id}/replay`, { ...changes, by: "page" });
    toast(<>Started anew: <a href={at("jobs", answer.id)}>{tail(answer.id)}</a></>);
    go(at("jobs", answer.id));
  };
  return (
    <Reading of={letter}>{(row) => (
      <>
        <Title more={<>{row.is_job && <><Button tone="main" icon="retry" act={() => replay()}>Start anew</Button><Button icon="edit" onClick={() => edit(true)}>Edit and run again</Button></>}<a class="button" href={at("jobs", row.job)}>The job</a></>}><span>{row.kind || "A message that is no job"}</span><StateTag state="dead" /></Title>
        <div class="note-box bad"><Icon name="alert" /><div>{row.reason}</div></div>
        <Panel><Facts of={[["Died", <Ago at={row.at} />], ["Queue", row.queue], ["Attempt", row.attempt], ["Consumer", row.consumer], ["Version", row.version], ["Job", <code>{row.job}</code>]]} /></Panel>
        <Panel title="Body"><pre class="json" tabIndex={0}>{row.body}</pre></Panel>
        <Panel title="Properties"><Json value={row.properties} /></Panel>
        {editing && <EditArgs args={row.body} queue={row.queue} note="The dead letter is taken out, and its job starts anew with these args." run={(args, queue) => replay({ args, queue })} close={() => edit(false)} />}
      </>
    )}</Reading>
  );
}
