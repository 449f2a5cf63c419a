// The catalogue: what can be run, by whom, and what its args must be.

import { useData } from "../api";
import { duration } from "../format";
import type { KindRow } from "../types";
import { Ago, Empty, Facts, Json, Panel, Reading, Title } from "../ui";
import { at, go } from "../route";

export function Kinds() {
  const kinds = useData<KindRow[]>("/kinds", 5000);
  return (
    <>
      <Title>Kinds</Title>
      <Panel flush><Reading of={kinds}>{(rows) => rows.length === 0
        ? <Empty title="No consumer is up">Kinds are known once a consumer that serves them was seen.</Empty>
        : <div class="scroll"><table>
          <thead><tr><th>Kind</th><th>What it does</th><th class="wide-only">Program</th><th class="wide-only">Groups</th><th class="wide-only">Versions</th><th class="num wide-only">Time limit</th><th class="num">Seen</th><th /></tr></thead>
          <tbody>{rows.map((row) => (
            <tr key={row.kind} class="link-row" data-row onClick={(event) => { if (!(event.target as HTMLElement).closest("a")) go(at("kinds", row.kind)); }}>
              <td class="tight kind"><a href={at("kinds", row.kind)}>{row.kind}</a>{row.troubles?.length ? <> <span class="pill bad">trouble</span></> : null}</td>
              <td class="clip dim">{row.description ?? (row.schema ? Object.keys(row.schema.properties ?? {}).join(", ") : "")}</td>
              <td class="tight wide-only">{row.program ?? <span class="dim">built in</span>}</td><td class="tight wide-only">{row.groups.join(", ") || <span class="dim">nobody now</span>}</td><td class="tight wide-only">{row.versions.join(", ")}</td>
              <td class="tight num wide-only">{duration(row.limits.timeout?.hard_ms)}</td><td class="tight num"><Ago at={row.last_seen} /></td>
              <td class="tight"><div class="rowacts"><a class="button" href={`#/publish?kind=${encodeURIComponent(row.kind)}`}>Publish</a></div></td>
            </tr>
          ))}</tbody>
        </table></div>}</Reading></Panel>
    </>
  );
}

export function Kind({ name }: { name: string }) {
  const kind = useData<KindRow>(`/kinds/${encodeURIComponent(name)}`, 5000);
  return (
    <Reading of={kind}>{(row) => (
      <>
        <Title more={<><a class="button" href={`#/jobs?kind=${encodeURIComponent(name)}`}>Its jobs</a><a class="button main" href={`#/publish?kind=${encodeURIComponent(name)}`}>Publish</a></>}>{row.kind}</Title>
        {row.troubles?.map((one) => <div key={one.consumer} class="note-box bad"><div><b>{one.consumer} cannot serve it.</b> {one.why}</div></div>)}
        {row.description && <p style={{ marginBottom: "16px" }}>{row.description}</p>}
        <Panel><Facts of={[["Program", row.program ?? "built in"], ["Groups", row.groups.join(", ") || "nobody now"], ["Consumers", row.consumers.join(", ")], ["Versions", row.versions.join(", ")], ["Time limit", `${duration(row.limits.timeout?.soft_ms)} soft, ${duration(row.limits.timeout?.hard_ms)} hard`], ["Retries", row.limits.retry?.max], ["Limits", row.limits.limits?.join(", ")], ["At most once", row.limits.at_most_once ? "yes" : undefined], ["Last seen", <Ago at={row.last_seen} />]]} /></Panel>
        <Panel title="Schema of its args">{row.schema ? <Json value={row.schema} /> : <p class="dim">It tells none: any JSON is taken.</p>}</Panel>
      </>
    )}</Reading>
  );
}
