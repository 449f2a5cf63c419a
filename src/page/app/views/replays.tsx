// Many jobs started anew: counted first, then at a rate, then watched.

import { useEffect, useState } from "preact/hooks";
import { post, problemOf, useData } from "../api";
import { count, plural } from "../format";
import type { Problem, Replay } from "../types";
import { Button, Dialog, Meter, Panel, Reading, StateTag } from "../ui";

/** Asks how many and how fast, and says how many there are before anything is done. */
export function RetryAll({ title = "Retry all like this", filter, close, ordered }: { title?: string; filter: Record<string, unknown>; close: () => void; ordered: (id: string) => void }) {
  const [total, setTotal] = useState<number | null | undefined>();
  const [rate, setRate] = useState("10/1s");
  const [problem, setProblem] = useState<Problem>();
  useEffect(() => { post<{ total?: number }>("/replays", { ...filter, dry_run: true }).then((answer) => setTotal(answer.total ?? null), (error) => setProblem(problemOf(error))); }, []);
  const order = async () => {
    setProblem(undefined);
    try { ordered((await post<Replay>("/replays", { ...filter, rate: rate || undefined, by: "page" })).id); } catch (error) { setProblem(problemOf(error)); }
  };
  return (
    <Dialog title={title} close={close}>
      <p>{total === undefined ? "Counting …" : total === null ? "More jobs match than can be counted now." : <><b>{plural(total, "job")}</b> {total === 1 ? "matches" : "match"} now. Each starts anew: its attempts count from 1 again, its history stays.</>}</p>
      <div class={`field ${problem?.field === "rate" ? "wrong-field" : ""}`}>
        <label for="rate">How fast</label>
        <input id="rate" value={rate} onInput={(event) => setRate(event.currentTarget.value)} placeholder="as fast as it goes" aria-describedby="rate-hint" />
        <span class="hint" id="rate-hint">So many in each such time, such as 10/1s or 600/1m; empty: as fast as it goes.</span>
      </div>
      {problem && <p class="fault req" role="alert">{problem.detail}</p>}
      <div class="ends"><Button onClick={close}>Leave them</Button><Button tone="main" icon="retry" act={order} disabled={total === 0}>Retry {total ? plural(total, "job") : "all"}</Button></div>
    </Dialog>
  );
}

/** A replay of many, while it goes on. */
export function Going({ id }: { id: string }) {
  const replay = useData<Replay>(`/replays/${id}`, 500);
  useEffect(() => { const timer = setInterval(() => { if (!replay.data?.ended) replay.reload(); }, 700); return () => clearInterval(timer); }, [replay.data?.ended]);
  return (
    <Panel title={<>Retry of many <span class="dim">by {replay.data?.by}</span></>} more={replay.data && !replay.data.ended && <Button tone="bad" icon="stop" act={() => post(`/replays/${id}/stop`)}>Stop</Button>}>
      <Reading of={replay} rows={1}>{(row) => (
        <>
          <Meter value={row.done + row.failed} of={row.total ?? (row.done + row.failed || 1)} tone={row.ended ? "good" : "run"} />
          <p class="dim"><StateTag state={row.state} /> {count(row.done)}{row.total !== undefined ? ` of ${count(row.total)}` : ""} started anew{row.failed ? `, ${count(row.failed)} could not be` : ""}{row.rate ? `, ${row.rate.jobs} each ${row.rate.each_ms / 1000} s` : ""}{row.error ? `: ${row.error}` : ""}</p>
        </>
      )}</Reading>
    </Panel>
  );
}
