// A job as a form that is made from the schema of its kind.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { post, problemOf, useData } from "../api";
import { pretty } from "../format";
import { amend, at, go, type Route } from "../route";
import type { KindRow, Problem, Schema } from "../types";
import { Button, Json, Panel, Title, toast } from "../ui";

const BUILT_IN: Record<string, Schema> = {
  command: { type: "object", required: ["shell"], properties: { shell: { type: "string", description: "A text for /bin/sh -c", format: "text" }, cwd: { type: "string", description: "Where it starts" }, stdin: { type: "string", description: "Text for its standard input" } } },
  wait: { type: "object", required: ["seconds"], properties: { seconds: { type: "number", default: 1, minimum: 0 } } },
  http: { type: "object", required: ["url"], properties: { url: { type: "string" }, method: { enum: ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"], default: "GET" }, body: { description: "A text is sent as it is, anything else as JSON" } } },
};

type Values = Record<string, unknown>;

/** The schema that is meant: one that may be null is the other one. */
function core(schema: Schema): Schema {
  const other = schema.anyOf?.filter((one) => one.type !== "null");
  if (other?.length === 1) return { ...other[0]!, description: schema.description ?? other[0]!.description, default: schema.default };
  if (Array.isArray(schema.type)) { const types = schema.type.filter((one) => one !== "null"); if (types.length === 1) return { ...schema, type: types[0] }; }
  return schema;
}
const isForm = (schema?: Schema) => !!schema?.properties && !schema.anyOf && !schema.$ref;

/** What must be given comes first. */
const inOrder = (schema: Schema) => Object.entries(schema.properties ?? {}).sort(([a], [b]) => Number(schema.required?.includes(b) ?? false) - Number(schema.required?.includes(a) ?? false));

const defaults = (schema?: Schema): Values => Object.fromEntries(Object.entries(schema?.properties ?? {}).filter(([, one]) => one.default !== undefined && one.default !== null).map(([name, one]) => [name, one.default]));

export function Publish({ route }: { route: Route }) {
  const kinds = useData<KindRow[]>("/kinds", 10_000);
  const kind = route.query.get("kind") ?? "";
  const row = kinds.data?.find((one) => one.kind === kind);
  // Those that come with Spinor allow more than a form should ask for.
  const schema = BUILT_IN[kind] ?? row?.schema;
  const [values, setValues] = useState<Values>({});
  const [raw, setRaw] = useState<string>();
  const [more, setMore] = useState({ queue: "", delay: "", timeout: "", priority: "" });
  const [problem, setProblem] = useState<Problem>();
  const asForm = isForm(schema) && raw === undefined;

  useEffect(() => { setValues(defaults(schema)); setRaw(undefined); setProblem(undefined); }, [kind, !!schema]);

  const job = useMemo(() => {
    let args: unknown = values;
    if (!asForm) { try { args = raw?.trim() ? JSON.parse(raw) : null; } catch { args = undefined; } }
    const set = Object.fromEntries(Object.entries(more).filter(([, value]) => value !== "").map(([name, value]) => [name, name === "priority" ? Number(value) : value]));
    return { kind, ...set, ...(args === null || (asForm && Object.keys(values).length === 0 && !schema) ? {} : { args }) };
  }, [values, raw, more, kind, asForm]);

  const sending = useRef(false);
  const publish = async () => {
    if (sending.current) return;
    setProblem(undefined);
    if (!kind) { setProblem({ title: "", status: 0, field: "kind", detail: "choose one" }); return; }
    if ("args" in job && job.args === undefined) { setProblem({ title: "", status: 0, field: "args", detail: "this is no JSON" }); return; }
    // A second Enter before the answer is not a second job.
    sending.current = true;
    try {
      const { id } = await post<{ id: string }>("/jobs", job);
      toast("Published.");
      go(at("jobs", id));
    } catch (error) { setProblem(problemOf(error)); }
    sending.current = false;
  };
  const faultOf = (field: string) => (problem?.field === field ? problem.detail : undefined);
  const argFault = (name: string) => (problem?.field === `args.${name}` || problem?.field?.startsWith(`args.${name}.`) || problem?.field?.startsWith(`args.${name}[`) ? problem.detail : undefined);
  const placed = problem?.field && (["kind", "queue", "delay", "timeout", "priority", "args"].includes(problem.field) || (asForm && Object.keys(schema?.properties ?? {}).some((name) => argFault(name))));

  return (
    <>
      <Title>Publish a job</Title>
      <div class="grid">
        <div class="s7"><Panel><form class="form" onSubmit={(event) => { event.preventDefault(); void publish(); }}>
          <Field name="kind" label="Kind" required fault={faultOf("kind")}>
            <select id="f-kind" value={kind} onChange={(event) => amend(route, { kind: event.currentTarget.value || undefined })}>
              <option value="">Choose what it does</option>
              {[...(kind && !row ? [kind] : []), ...(kinds.data ?? []).map((one) => one.kind).filter((name) => name !== "spinor.plan")].map((name) => <option key={name} value={name}>{name}</option>)}
            </select>
          </Field>
          {row?.description && <p class="dim">{row.description}</p>}
          {asForm && inOrder(schema!).map(([name, one]) => (
            <ArgField key={name} name={name} schema={core(one)} required={schema!.required?.includes(name) ?? false} value={values[name]} fault={argFault(name)}
              set={(value) => setValues((before) => { const next = { ...before }; if (value === undefined) delete next[name]; else next[name] = value; return next; })} />
          ))}
          {!asForm && kind && <Field name="args" label="Args" hint="Any JSON; empty: null." fault={faultOf("args") ?? (problem?.field?.startsWith("args") ? `${problem.field}: ${problem.detail}` : undefined)}><textarea id="f-args" rows={10} spellcheck={false} value={raw ?? ""} onInput={(event) => setRaw(event.currentTarget.value)} /></Field>}
          {isForm(schema) && <p><button type="button" class="button quiet" onClick={() => setRaw(asForm ? pretty(values) : undefined)}>{asForm ? "Write the args as JSON" : "Back to the form"}</button></p>}
          <div class="two">
            <Field name="queue" label="Queue" fault={faultOf("queue")}><input id="f-queue" placeholder="default" value={more.queue} onInput={(event) => setMore({ ...more, queue: event.currentTarget.value })} /></Field>
            <Field name="delay" label="Delay" fault={faultOf("delay")}><input id="f-delay" placeholder="none, or 5m" value={more.delay} onInput={(event) => setMore({ ...more, delay: event.currentTarget.value })} /></Field>
            <Field name="timeout" label="Time limit" fault={faultOf("timeout")}><input id="f-timeout" placeholder="that of the kind" value={more.timeout} onInput={(event) => setMore({ ...more, timeout: event.currentTarget.value })} /></Field>
            <Field name="priority" label="Priority" fault={faultOf("priority")}><input id="f-priority" inputMode="numeric" placeholder="0 to 9" value={more.priority} onInput={(event) => setMore({ ...more, priority: event.currentTarget.value })} /></Field>
          </div>
          {problem && !placed && <p class="req" role="alert">{problem.field && <code>{problem.field}: </code>}{problem.detail}</p>}
          <div class="ends" style={{ justifyContent: "flex-start" }}><Button tone="main" icon="publish" type="submit">Publish</Button></div>
        </form></Panel></div>
        <div class="s5"><Panel title="What is sent" more={<code>POST /api/v1/jobs</code>}><Json value={job} /></Panel></div>
      </div>
    </>
  );
}

function Field({ name, label, required, hint, fault, flag, children }: { flag?: boolean; name: string; label: string; required?: boolean; hint?: string; fault?: string; children: preact.ComponentChildren }) {
  return (
    <div class={`field ${flag ? "flag" : ""} ${fault ? "wrong-field" : ""}`}>
      <label for={`f-${name}`}>{label}{required && <span class="req" title="required"> *</span>}</label>
      {children}
      {fault ? <span class="fault" role="alert">{fault}</span> : hint && <span class="hint">{hint}</span>}
    </div>
  );
}

/** One arg: the input that its schema asks for; JSON where none does. */
function ArgField({ name, schema, required, value, fault, set }: { name: string; schema: Schema; required: boolean; value: unknown; fault?: string; set: (value: unknown) => void }) {
  const id = `f-arg-${name}`;
  const [text, setText] = useState<string>(value === undefined || typeof value !== "object" ? "" : pretty(value));
  const [broken, setBroken] = useState<string>();
  const scalar = (of: unknown) => (of === undefined ? "" : String(of));
  let input;
  if (schema.enum) {
    input = <select id={id} value={scalar(value)} onChange={(event) => set(schema.enum!.find((one) => String(one) === event.currentTarget.value))}>{(!required || value === undefined) && <option value="">–</option>}{schema.enum.map((one) => <option key={String(one)} value={String(one)}>{String(one)}</option>)}</select>;
  } else if (schema.type === "boolean") {
    input = <span><input id={id} type="checkbox" checked={value === true} onChange={(event) => set(event.currentTarget.checked)} /></span>;
  } else if (schema.type === "integer" || schema.type === "number") {
    // What is no number is sent as it was typed: the server says what is wrong with it.
    input = <input id={id} inputMode="decimal" value={scalar(value)} onInput={(event) => { const typed = event.currentTarget.value; set(typed === "" ? undefined : Number.isFinite(Number(typed)) ? Number(typed) : typed); }} />;
  } else if (schema.type === "string" && schema.format === "text") {
    input = <textarea id={id} rows={4} spellcheck={false} value={scalar(value)} onInput={(event) => set(event.currentTarget.value || undefined)} />;
  } else if (schema.type === "string") {
    input = <input id={id} value={scalar(value)} placeholder={schema.format ?? ""} onInput={(event) => set(event.currentTarget.value === "" && !required ? undefined : event.currentTarget.value)} />;
  } else {
    input = <textarea id={id} rows={3} spellcheck={false} placeholder="JSON" value={text} onInput={(event) => {
      const typed = event.currentTarget.value;
      setText(typed);
      try { set(typed.trim() ? JSON.parse(typed) : undefined); setBroken(undefined); } catch { setBroken("this is no JSON yet"); }
    }} />;
  }
  return <Field name={`arg-${name}`} flag={schema.type === "boolean"} label={name} required={required} hint={schema.description} fault={fault ?? broken}>{input}</Field>;
}
