// A trigger as a form; and the way to remove one.

import { useState } from "preact/hooks";
import { post, problemOf, remove, useData } from "../api";
import { at, go } from "../route";
import type { KindRow, Problem } from "../types";
import { Button, Dialog, toast } from "../ui";

type When = "cron" | "every" | "at";
const HINTS: Record<When, string> = { cron: "Five fields, such as 0 3 * * 1-5; six with the seconds first.", every: "A duration such as 5m: at each multiple of it since 1970.", at: "One moment with its offset, such as 2030-01-31T12:00:00Z." };

export function NewTrigger({ close }: { close: () => void }) {
  const kinds = useData<KindRow[]>("/kinds", 10_000);
  const [when, setWhen] = useState<When>("cron");
  const [form, setForm] = useState({ name: "", at: "", zone: Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC", kind: "noop", queue: "", args: "" });
  const [problem, setProblem] = useState<Problem>();
  const text = (key: keyof typeof form) => ({ id: `t-${key}`, value: form[key], onInput: (event: { currentTarget: HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement }) => setForm({ ...form, [key]: event.currentTarget.value }) });
  const add = async () => {
    let args: unknown;
    try { args = form.args.trim() ? JSON.parse(form.args) : undefined; } catch { setProblem({ title: "", status: 0, field: "job.args", detail: "this is no JSON" }); return; }
    try {
      await post("/triggers", { name: form.name, [when]: form.at, ...(when === "cron" && form.zone.trim() ? { zone: form.zone } : {}), job: { kind: form.kind, ...(form.queue ? { queue: form.queue } : {}), ...(args === undefined ? {} : { args }) }, by: "page" });
      toast(`${form.name} is added.`);
      close();
      go(at("triggers", form.name));
    } catch (error) { setProblem(problemOf(error)); }
  };
  return (
    <Dialog title="Add a trigger" close={close}>
      <div class="field"><label for="t-name">Name</label><input {...text("name")} /></div>
      <div class="two">
        <div class="field"><label for="t-when">When</label><select id="t-when" value={when} onChange={(event) => setWhen(event.currentTarget.value as When)}><option value="cron">cron</option><option value="every">every</option><option value="at">once, at</option></select></div>
        <div class="field"><label for="t-at">{when === "cron" ? "Expression" : when === "every" ? "Interval" : "Moment"}</label><input {...text("at")} /></div>
        {when === "cron" && <div class="field"><label for="t-zone">Time zone</label><input {...text("zone")} /></div>}
      </div>
      <span class="hint dim">{HINTS[when]}</span>
      <div class="two">
        <div class="field"><label for="t-kind">Kind of its job</label><select {...text("kind")}>{(kinds.data ?? [{ kind: "noop" }]).map((row) => <option key={row.kind} value={row.kind}>{row.kind}</option>)}</select></div>
        <div class="field"><label for="t-queue">Queue</label><input {...text("queue")} placeholder="default" /></div>
      </div>
      <div class="field"><label for="t-args">Args</label><textarea {...text("args")} rows={4} spellcheck={false} placeholder="JSON; empty: null" /></div>
      {problem && <p class="req" role="alert">{problem.field && <code>{problem.field}: </code>}{problem.detail}</p>}
      <div class="ends"><Button onClick={close}>Leave it</Button><Button tone="main" act={add} disabled={!form.name || !form.at}>Add</Button></div>
    </Dialog>
  );
}

export function RemoveTrigger({ name, close }: { name: string; close: () => void }) {
  const drop = async () => { await remove(`/triggers/${encodeURIComponent(name)}`, { by: "page" }); toast(`${name} is removed.`); close(); go("#/triggers"); };
  return (
    <Dialog title={`Remove ${name}`} close={close}>
      <p>It fires nothing any more, and its history goes with it. Jobs that it fired go on and stay on record.</p>
      <div class="ends"><Button onClick={close}>Keep it</Button><Button tone="bad" act={drop}>Remove it</Button></div>
    </Dialog>
  );
}
