// The process, the broker and the databases: what runs, what answers, what does not.

import { useData } from "../api";
import { bytes, count } from "../format";
import type { Status } from "../types";
import { Ago, Empty, Facts, Panel, Reading, StateTag, Title } from "../ui";

interface Locks { limits: { name: string; at_once?: number; rate?: string; from: string; in_use: number; full: boolean }[]; keys: { key: string; job: string }[] }

interface BrokerObject { kind: string; name: string; wanted: Record<string, string>; in_force: Record<string, string> | null; state: string; why: string | null; ready: number | null; consumers: number | null }
interface BrokerShown { broker: string; objects: BrokerObject[] | null; problem: string | null; embedded: { file_bytes: number | null; wal_bytes: number | null; disk_free_bytes: number | null } | null }

const unknown = <span class="dim">not known</span>;
const holds = (row: BrokerObject) => row.kind === "queue" || row.kind === "foreign_queue";
const figure = (row: BrokerObject, value: number | null) => !holds(row) ? <span class="dim">–</span> : value === null ? unknown : count(value);
const size = (value: number | null) => value === null ? unknown : bytes(value);

function Arguments({ of }: { of: Record<string, string> }) {
  const all = Object.entries(of);
  return all.length === 0 ? <span class="dim">none</span> : <>{all.map(([name, value]) => <div key={name}>{name}: {value}</div>)}</>;
}

/** Those that are not in force come first: they are what one came to see. */
function Objects({ shown }: { shown: BrokerShown }) {
  if (shown.embedded) return <Panel title="Files of the embedded broker"><Facts of={[["File", size(shown.embedded.file_bytes)], ["Write-ahead log", size(shown.embedded.wal_bytes)], ["Free disk", size(shown.embedded.disk_free_bytes)]]} /></Panel>;
  if (!shown.objects) return <Panel title="Our objects"><Empty title="Not known">{shown.problem ?? "The broker does not tell."}</Empty></Panel>;
  const order = ["differs", "missing", "not_known", "in_force"];
  const kinds = ["queue", "foreign_queue", "exchange", "binding"];
  const rank = (row: BrokerObject) => row.kind === "binding" ? 9 : order.indexOf(row.state) * 2;
  const rows = [...shown.objects].sort((a, b) => rank(a) - rank(b) || kinds.indexOf(a.kind) - kinds.indexOf(b.kind));
  return (
    <Panel flush title="Our objects"><div class="scroll"><table>
      <thead><tr><th>Name</th><th>What</th><th>State</th><th class="num">Waiting</th><th class="num">Consumers</th><th>Wanted</th><th>In force</th></tr></thead>
      <tbody>{rows.map((row) => (
        <tr key={row.kind + row.name}>
          <td class="mono">{row.name}{row.why && <div class="err">{row.why}</div>}</td>
          <td class="tight">{row.kind.replace("_", " ")}</td>
          <td class="tight">{row.state === "not_known" ? unknown : <StateTag state={row.state.replace("_", " ")} />}</td>
          <td class="num tight">{figure(row, row.ready)}</td>
          <td class="num tight">{figure(row, row.consumers)}</td>
          <td class="mono"><Arguments of={row.wanted} /></td>
          <td class="mono">{row.state === "missing" ? <span class="dim">–</span> : row.in_force ? row.state === "in_force" ? <span class="dim">as wanted</span> : <Arguments of={row.in_force} /> : unknown}</td>
        </tr>
      ))}</tbody>
    </table></div></Panel>
  );
}

export function BrokerView() {
  const shown = useData<BrokerShown>("/broker", 10000);
  const status = useData<Status>("/status", 2000);
  const locks = useData<Locks>("/locks", 3000);
  return (
    <>
      <Title>Broker and status</Title>
      <Reading of={status}>{(now) => (
        <>
          {now.troubles?.map((text) => <div key={text} class="note-box bad"><div>{text}</div></div>)}
          <Panel flush title="What it stands on"><div class="scroll"><table>
            <thead><tr><th>Part</th><th>State</th><th>Where</th><th>What is wrong</th></tr></thead>
            <tbody>
              <tr><td class="kind tight">Broker</td><td class="tight"><StateTag state={now.link.state} /></td><td class="mono">{now.broker}</td><td class="err">{now.link.why}</td></tr>
              <tr><td class="kind tight">Results</td><td class="tight"><StateTag state={now.results_problem ? "down" : "up"} /></td><td class="mono">{now.results}</td><td class="err">{now.results_problem}</td></tr>
              <tr><td class="kind tight">State</td><td class="tight"><StateTag state={now.state_problem ? "down" : "up"} /></td><td class="mono">{now.state}</td><td class="err">{now.state_problem}</td></tr>
              <tr><td class="kind tight">Search</td><td class="tight">{now.search === "off" ? <StateTag state="off" /> : <span class="dim">not known</span>}</td><td class="mono">{now.search}</td><td /></tr>
            </tbody>
          </table></div></Panel>
          <div class="grid">
            <div class="s6"><Panel title="This process"><Facts of={[["Version", now.version], ["Process", `${now.host}:${now.pid}`], ["Started", <Ago at={now.started} />], ["Parts", now.parts.join(", ")], ["Data", <code>{now.data}</code>]]} /></Panel></div>
            <div class="s6"><Panel flush title="Parts that are alive">{now.parts_alive.length === 0 ? <Empty title="Not known">The broker does not answer.</Empty> : <table><thead><tr><th>Part</th><th>State</th><th class="num">Alive</th><th class="num">Waits for it</th></tr></thead><tbody>{now.parts_alive.map((part) => <tr key={part.part}><td class="kind">{part.part}</td><td>{part.alive ? <StateTag state="up" /> : <StateTag state="down" />}</td><td class="num">{part.alive}</td><td class="num">{count(part.waits)}</td></tr>)}</tbody></table>}</Panel></div>
          </div>
          <Reading of={shown} rows={3}>{(broker) => <Objects shown={broker} />}</Reading>
          {now.groups.length > 0 && <Panel flush title="Replicas that this process sees to"><div class="scroll"><table><thead><tr><th>Group</th><th>Replica</th><th>Phase</th><th class="num">Process</th><th class="num">Started</th></tr></thead><tbody>{now.groups.flatMap((group) => group.replicas.map((one) => <tr key={one.consumer}><td class="kind tight">{group.group}</td><td class="mono">{one.consumer}</td><td><StateTag state={one.phase} /></td><td class="num">{one.pid}</td><td class="num tight"><Ago at={one.started} /></td></tr>))}</tbody></table></div></Panel>}
          <Panel flush title="Limits"><Reading of={locks} rows={2}>{({ limits }) => limits.length === 0 ? <Empty title="No limit is set">Set one: <code>spinor locks limit smtp --at-once 3</code></Empty> : <table><thead><tr><th>Limit</th><th class="num">In use</th><th class="num">At once</th><th>Rate</th><th>From</th></tr></thead><tbody>{limits.map((row) => <tr key={row.name}><td class="kind">{row.name}{row.full && <> <span class="pill wait">full</span></>}</td><td class="num">{row.in_use}</td><td class="num">{row.at_once ?? "–"}</td><td>{row.rate ?? "–"}</td><td class="dim">{row.from}</td></tr>)}</tbody></table>}</Reading></Panel>
        </>
      )}</Reading>
    </>
  );
}
