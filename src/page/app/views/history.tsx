// How jobs ended, waited and ran over the last hours: what recorders counted, so that a day is read as fast as an hour.

import { useMemo } from "preact/hooks";
import type uPlot from "uplot";
import { query, useData } from "../api";
import { count, duration, rateText } from "../format";
import { Told } from "../plot";
import { at, type Route } from "../route";
import type { Counts, Figures, Quantiles } from "../types";
import { Empty, Panel, Reading, Title } from "../ui";

const SPANS: [string, string][] = [["1h", "1 hour"], ["6h", "6 hours"], ["24h", "24 hours"], ["72h", "72 hours"]];
const BAD = ["failed", "dead", "lost", "discarded", "expired"];
const ENDS = [{ label: "succeeded", tone: "good", fill: true }, { label: "tried again", tone: "wait" }, { label: "ended badly", tone: "bad" }] as const;
const TIMES = [{ label: "waited", tone: "wait" }, { label: "ran", tone: "run" }] as const;

const sum = (counts: Counts, states: string[]) => states.reduce((all, state) => all + (counts.ended[state] ?? 0), 0);
const all = (counts: Counts) => sum(counts, Object.keys(counts.ended));
const time = (seconds: number) => seconds === 0 ? "0" : duration(seconds * 1000).replace(/ 00 s$/, "");

function Quantile({ of }: { of?: Quantiles }) {
  return <>{([of?.p50, of?.p95, of?.p99]).map((seconds, n) => <td key={n} class={`tight num ${n === 2 ? "wide-only" : ""}`}>{seconds === undefined ? <span class="dim">–</span> : duration(seconds * 1000)}</td>)}</>;
}

export function History({ route, theme }: { route: Route; theme: string }) {
  const since = SPANS.find(([name]) => name === route.query.get("since"))?.[0] ?? "24h";
  const kind = route.query.get("kind") ?? undefined;
  const figures = useData<Figures>(`/figures${query({ since, kind })}`, 15_000);
  const [ends, times] = useMemo((): [uPlot.AlignedData, uPlot.AlignedData] => {
    const points = figures.data?.points ?? [];
    const step = figures.data?.step ?? 60;
    const when = points.map((point) => Date.parse(point.at) / 1000);
    // The last one is not over.
    const seconds = (n: number) => n === points.length - 1 ? Math.max(1, Date.parse(figures.data!.to) / 1000 - when[n]!) : step;
    const rate = (of: (point: Counts) => number) => points.map((point, n) => of(point) / seconds(n));
    return [
      [when, rate((point) => point.ended.succeeded ?? 0), rate((point) => point.ended.retrying ?? 0), rate((point) => sum(point, BAD))],
      [when, points.map((point) => point.waited?.p95 ?? null), points.map((point) => point.ran?.p95 ?? null)],
    ];
  }, [figures.data]);
  const link = (values: { since?: string; kind?: string }) => `#/history${query({ since, kind, ...values })}`;
  return (
    <>
      <Title more={<div class="tabs" role="group" aria-label="How far back">{SPANS.map(([name, label]) => <a key={name} class="button" aria-current={name === since ? "true" : undefined} href={link({ since: name })}>{label}</a>)}</div>}>
        {kind ? <>History of {kind}</> : "History"}
      </Title>
      {kind && <p style={{ marginBottom: "16px" }}><a class="link" href={link({ kind: "" })}>all kinds</a></p>}
      <Reading of={figures}>{(told) => told.kinds.length === 0
        ? <Panel><Empty title="Nothing ended in this time">Figures are kept for 72 hours.</Empty></Panel>
        : <>
          <div class="grid">
            <div class="s7"><Panel title="Executions each second" more={<span class="legend">{ENDS.map((line) => <span key={line.label} class={line.tone}><i />{line.label}</span>)}</span>}>
              <Told theme={theme} label="Executions that ended in each second, by how" lines={[...ENDS]} data={ends} value={rateText} />
            </Panel></div>
            <div class="s5"><Panel title="95 of 100 waited and ran at most" more={<span class="legend">{TIMES.map((line) => <span key={line.label} class={line.tone}><i />{line.label}</span>)}</span>}>
              <Told theme={theme} label="What 95 of a hundred did not exceed" lines={[...TIMES]} data={times} value={time} />
            </Panel></div>
          </div>
          <Panel flush title="By kind"><div class="scroll"><table>
            <thead>
              <tr><th>Kind</th><th class="num">Ended</th><th class="num">Badly</th><th class="num wide-only">Tried again</th><th class="num">Ran 50 %</th><th class="num">95 %</th><th class="num wide-only">99 %</th><th class="num">Waited 50 %</th><th class="num">95 %</th><th class="num wide-only">99 %</th></tr>
            </thead>
            <tbody>{told.kinds.map((row) => {
              const bad = sum(row, BAD);
              const ended = all(row) - (row.ended.retrying ?? 0);
              return (
                <tr key={row.kind}>
                  <td class="tight kind"><a href={kind ? at("kinds", row.kind) : link({ kind: row.kind })}>{row.kind}</a></td>
                  <td class="tight num">{count(ended)}</td>
                  <td class="tight num">{bad > 0 ? <span class="bad">{count(bad)}<span class="dim"> ({rateText((bad / Math.max(1, ended)) * 100)} %)</span></span> : <span class="dim">0</span>}</td>
                  <td class="tight num wide-only">{count(row.ended.retrying ?? 0)}</td>
                  <Quantile of={row.ran} /><Quantile of={row.waited} />
                </tr>
              );
            })}</tbody>
          </table></div></Panel>
          <p class="dim" style={{ marginTop: "12px" }}>Times are right to a tenth. A job waits from its creation, so a delay that it had counts.</p>
        </>}
      </Reading>
    </>
  );
}
