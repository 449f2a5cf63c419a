// Who may log in, which tokens there are, and what was done: for admins.

import { useState } from "preact/hooks";
import { post, problemOf, remove, useData } from "../api";
import type { Problem } from "../types";
import { Ago, Button, Copy, Dialog, Empty, Panel, Reading, Title, toast } from "../ui";

interface Oneself { name: string; how: string; roles: string[] }
interface User { name: string; roles: string[]; created: string; created_by: string }
interface Token extends User { expires?: string }
interface Action { id: string; at: string; who: string; how: string; place: string; action: string; target: string; outcome: string }

const HINT = "viewer, publisher, operator or admin; with patterns of queues and kinds: operator:mail.*:send.*. Several with blanks between.";

function Field({ id, label, value, set, hint, secret, wrong }: { id: string; label: string; value: string; set: (text: string) => void; hint?: string; secret?: boolean; wrong?: boolean }) {
  return (
    <div class={`field ${wrong ? "wrong-field" : ""}`}>
      <label for={id}>{label}</label>
      <input id={id} type={secret ? "password" : "text"} autocomplete={secret ? "new-password" : "off"} value={value} onInput={(event) => set(event.currentTarget.value)} aria-describedby={hint && `${id}-hint`} />
      {hint && <span class="hint" id={`${id}-hint`}>{hint}</span>}
    </div>
  );
}

/** Asks for a new user, or a new token, which is shown once. */
function New({ what, close }: { what: "user" | "token"; close: () => void }) {
  const [name, setName] = useState("");
  const [secret, setSecret] = useState("");
  const [roles, setRoles] = useState("viewer");
  const [made, setMade] = useState<string>();
  const [problem, setProblem] = useState<Problem>();
  const user = what === "user";
  const add = async () => {
    setProblem(undefined);
    const named = { name, roles: roles.split(/\s+/).filter(Boolean), by: "page" };
    try {
      if (user) { await post("/users", { ...named, password: secret }); toast(`${name} can log in.`); close(); }
      else setMade((await post<{ token: string }>("/tokens", { ...named, lasts: secret || undefined })).token);
    } catch (error) { setProblem(problemOf(error)); }
  };
  if (made) {
    return (
      <Dialog title={`The token ${name}`} close={close}>
        <p>It is shown this once; nobody can tell it again. A program sends it as <code>Authorization: Bearer TOKEN</code>.</p>
        <p><Copy text={made}><code>{made}</code></Copy></p>
        <div class="ends"><Button tone="main" onClick={close}>Done</Button></div>
      </Dialog>
    );
  }
  return (
    <Dialog title={user ? "Add a user" : "Make a token"} close={close}>
      <Field id="new-name" label="Name" value={name} set={setName} wrong={problem?.field === "name"} />
      {user
        ? <Field id="new-secret" label="Password" value={secret} set={setSecret} secret hint="At least 8 characters." wrong={problem?.field === "password"} />
        : <Field id="new-secret" label="It holds for" value={secret} set={setSecret} hint="A duration such as 90d; empty: until it is removed." wrong={problem?.field === "lasts"} />}
      <Field id="new-roles" label="Roles" value={roles} set={setRoles} hint={HINT} wrong={problem?.field?.startsWith("roles")} />
      {problem && <p class="fault req" role="alert">{problem.detail}</p>}
      <div class="ends"><Button onClick={close}>Leave it</Button><Button tone="main" icon="plus" act={add}>{user ? "Add" : "Make"}</Button></div>
    </Dialog>
  );
}

export function Settings() {
  const self = useData<Oneself>("/session", 60_000);
  const users = useData<User[]>("/users", 10_000);
  const tokens = useData<Token[]>("/tokens", 10_000);
  const actions = useData<{ rows: Action[]; next?: string }>("/audit?limit=100", 5000);
  const [asking, ask] = useState<"user" | "token">();
  const gone = (path: string, name: string) => async () => { await remove(`/${path}/${encodeURIComponent(name)}`, { by: "page" }); toast(`${name} is removed.`); };
  return (
    <>
      <Title>Settings</Title>
      {self.data && <p class="dim">You are {self.data.name}, known by a {self.data.how}; you may: {self.data.roles.join(", ")}.</p>}
      <Panel flush title="Users" more={<Button icon="plus" onClick={() => ask("user")}>Add a user</Button>}><Reading of={users} rows={2}>{(rows) => rows.length === 0
        ? <Empty title="No users">Everybody who logs in has the token. A user has a name of its own in all that it does.</Empty>
        : <div class="scroll"><table>
            <thead><tr><th>User</th><th>Roles</th><th class="wide-only">Since</th><th class="wide-only">Added by</th><th /></tr></thead>
            <tbody>{rows.map((row) => (
              <tr key={row.name} data-row><td class="kind">{row.name}</td><td>{row.roles.join(", ")}</td><td class="tight dim wide-only"><Ago at={row.created} /></td><td class="tight dim wide-only">{row.created_by}</td><td class="tight"><div class="rowacts"><Button tone="bad" act={gone("users", row.name)}>Remove</Button></div></td></tr>
            ))}</tbody>
          </table></div>}</Reading></Panel>
      <Panel flush title="Tokens" more={<Button icon="plus" onClick={() => ask("token")}>Make a token</Button>}><Reading of={tokens} rows={2}>{(rows) => rows.length === 0
        ? <Empty title="No tokens">A program gets one of its own, so that it can do what it must and no more.</Empty>
        : <div class="scroll"><table>
            <thead><tr><th>Token</th><th>Roles</th><th class="wide-only">Since</th><th>Until</th><th /></tr></thead>
            <tbody>{rows.map((row) => (
              <tr key={row.name} data-row><td class="kind">{row.name}</td><td>{row.roles.join(", ")}</td><td class="tight dim wide-only"><Ago at={row.created} /></td><td class="tight dim">{row.expires ? row.expires.slice(0, 10) : "removed"}</td><td class="tight"><div class="rowacts"><Button tone="bad" act={gone("tokens", row.name)}>Remove</Button></div></td></tr>
            ))}</tbody>
          </table></div>}</Reading></Panel>
      <Panel flush title="What was done"><Reading of={actions}>{({ rows, next }) => rows.length === 0
        ? <Empty title="Nothing was done yet">Every action is listed here: who, from where, on what, and what came of it.</Empty>
        : <div class="scroll"><table>
            <thead><tr><th>When</th><th>Who</th><th class="wide-only">From</th><th>Did</th><th class="wide-only">On</th><th>Outcome</th></tr></thead>
            <tbody>{rows.map((row) => (
              <tr key={row.id} data-row><td class="tight dim"><Ago at={row.at} /></td><td class="tight">{row.who}</td><td class="tight dim wide-only">{row.place}</td><td class="kind">{row.action}</td><td class="dim wide-only">{row.target}</td><td>{row.outcome}</td></tr>
            ))}</tbody>
          </table>{next && <p class="dim">The last hundred; <code>spinor audit ls</code> has all.</p>}</div>}</Reading></Panel>
      {asking && <New what={asking} close={() => ask(undefined)} />}
    </>
  );
}
