// The frame: where one is, what is wrong, how to get elsewhere; and the way in.

import { render, type ComponentChildren } from "preact";
import { useEffect, useErrorBoundary, useState } from "preact/hooks";
import { get, onLoggedOut, post, problemOf, remove, useData } from "./api";
import { plural } from "./format";
import { Icon } from "./icons";
import { Help, useKeys } from "./keys";
import { isLive, onPulse, start } from "./pulse";
import { go, useRoute, type Route } from "./route";
import type { Failures as Groups, QueueRow, Status } from "./types";
import { Button, Dialog, Panel, Toasts, Wrong, toast } from "./ui";
import { BrokerView } from "./views/broker";
import { Consumers } from "./views/consumers";
import { Dead, Failure, Failures } from "./views/failures";
import { History } from "./views/history";
import { Job } from "./views/job";
import { Jobs, search, useSearchText } from "./views/jobs";
import { Kind, Kinds } from "./views/kinds";
import { Overview } from "./views/overview";
import { Publish } from "./views/publish";
import { Queues, pauseQueue, resumeQueue } from "./views/queues";
import { Run, Runs } from "./views/runs";
import { Settings } from "./views/settings";
import { Trigger, Triggers } from "./views/triggers";
import "uplot/dist/uPlot.min.css";
import "./app.css";

const PLACES: [string, string, string][] = [
  ["overview", "Overview", "o"], ["jobs", "Jobs", "j"], ["failures", "Failures", "f"], ["queues", "Queues", "q"], ["consumers", "Consumers", "c"], ["triggers", "Triggers", "t"],
  ["runs", "Runs", "r"], ["history", "History", "h"], ["kinds", "Kinds", "k"], ["publish", "Publish", "p"], ["broker", "Broker", "b"], ["settings", "Settings", "s"],
];

type Theme = "dark" | "light";
const system = matchMedia("(prefers-color-scheme: dark)");
const stored = () => localStorage.getItem("spinor-theme") as Theme | null;
const paint = (theme: Theme) => { document.documentElement.dataset.theme = theme; };
paint(stored() ?? (system.matches ? "dark" : "light"));

function useTheme(): [Theme, () => void] {
  const [theme, set] = useState<Theme>(document.documentElement.dataset.theme as Theme);
  useEffect(() => {
    const follow = () => { if (!stored()) set(system.matches ? "dark" : "light"); };
    system.addEventListener("change", follow);
    return () => system.removeEventListener("change", follow);
  }, []);
  paint(theme);
  return [theme, () => { const next = theme === "dark" ? "light" : "dark"; localStorage.setItem("spinor-theme", next); set(next); }];
}

function View({ route, theme }: { route: Route; theme: Theme }) {
  const [place, name, more] = route.path;
  switch (place ?? "overview") {
    case "overview": return <Overview theme={theme} />;
    case "jobs": return name ? <Job key={name} id={name} /> : <Jobs route={route} />;
    case "failures": return name === "dead" && more ? <Dead key={more} id={more} /> : name ? <Failure key={name} fingerprint={name} /> : <Failures route={route} />;
    case "queues": return <Queues />;
    case "consumers": return <Consumers only={name} />;
    case "triggers": return name ? <Trigger key={name} name={name} /> : <Triggers />;
    case "runs": return name ? <Run key={name} id={name} /> : <Runs route={route} />;
    case "history": return <History route={route} theme={theme} />;
    case "kinds": return name ? <Kind key={name} name={name} /> : <Kinds />;
    case "publish": return <Publish route={route} />;
    case "settings": return <Settings />;
    case "broker": return <BrokerView />;
    default: return <Panel><div class="empty"><b>There is no such view</b><p><a href="#/overview">To the overview</a></p></div></Panel>;
  }
}

/** A view that breaks says so, and leaves the others as they are. */
function Guarded({ children }: { children: ComponentChildren }) {
  const [error, again] = useErrorBoundary();
  return error === undefined ? <>{children}</> : <Panel><Wrong problem={{ title: "This view has a fault", status: 0, detail: String(error) }} retry={again} /></Panel>;
}

/** What has to be seen wherever one is. */
function Bands({ status, queues, lost }: { status?: Status; queues?: QueueRow[]; lost?: string }) {
  const paused = queues?.filter((row) => row.paused) ?? [];
  const resume = async () => { for (const row of paused) await resumeQueue(row.name); toast("All queues go on."); };
  return (
    <>
      {lost && <div class="band bad" role="alert"><Icon name="alert" /><span>{lost}</span></div>}
      {status && status.link.state !== "up" && <div class="band bad" role="alert"><Icon name="alert" /><span>The link to the broker is {status.link.state}{status.link.why ? `: ${status.link.why}` : ""}.</span></div>}
      {status?.results_problem && <div class="band bad" role="alert"><Icon name="alert" /><span>Results database: {status.results_problem}. Lists show what was read last.</span></div>}
      {status?.state_problem && <div class="band bad" role="alert"><Icon name="alert" /><span>State: {status.state_problem}. Pauses, cancels and scaling wait for it.</span></div>}
      {status?.troubles?.slice(0, 1).map((text) => <div key={text} class="band wait"><Icon name="alert" /><span>{text}</span><a class="button" href="#/broker">Look</a></div>)}
      {paused.length > 0 && <div class="band wait" role="status"><Icon name="pause" /><span>{paused.length === queues?.length && paused.length > 1 ? "Everything is paused" : `${plural(paused.length, "queue is", "queues are")} paused`}: {paused.slice(0, 6).map((row) => row.name).join(", ")}{paused.length > 6 ? ", …" : ""}. Nobody takes jobs from {paused.length === 1 ? "it" : "them"}.</span><Button icon="play" act={resume}>Resume {paused.length > 1 ? "all" : ""}</Button></div>}
    </>
  );
}

function Frame() {
  const route = useRoute();
  const [theme, turn] = useTheme();
  const status = useData<Status>("/status", 5000);
  const queues = useData<QueueRow[]>("/queues", 3000);
  const failures = useData<Groups>("/failures?since=24h&limit=100", 8000);
  const [live, setLive] = useState(true);
  const [asking, ask] = useState<"help" | "pause">();
  const [text, setText] = useSearchText(route);
  useKeys({ places: PLACES, help: () => ask("help") });
  useEffect(() => { start(); const begun = Date.now(); return onPulse(() => setLive(isLive() || Date.now() - begun < 4000)); }, []);

  const place = route.path[0] ?? "overview";
  useEffect(() => { document.title = `${[PLACES.find(([name]) => name === place)?.[1] ?? "Spinor", route.path[1]?.slice(-8)].filter(Boolean).join(" ")} · Spinor`; scrollTo(0, 0); document.querySelector(".side [aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" }); }, [route.path.join("/")]);

  const open = (queues.data ?? []).filter((row) => !row.paused);
  const pauseAll = async () => { for (const row of open) await pauseQueue(row.name); ask(undefined); toast("Everything is paused. What runs goes on to its end."); };
  const bad = failures.data?.groups.length;
  return (
    <div class="frame">
      <a class="skip" href="#main" onClick={(event) => { event.preventDefault(); document.getElementById("main")?.focus(); }}>To the content</a>
      <div class="side">
        <a class="brand" href="#/overview" aria-label="Spinor, overview"><svg viewBox="0 0 20 20" aria-hidden="true"><path d="M10 2a8 8 0 1 1-7.6 5.5M10 6a4 4 0 1 0 3.8 2.8" fill="none" stroke="currentColor" stroke-width="2.2" stroke-linecap="round" /></svg><span>Spinor</span></a>
        <nav aria-label="Views">{PLACES.map(([name, label]) => (
          <a key={name} href={`#/${name}`} aria-current={place === name ? "page" : undefined}><Icon name={name} />{label}
            {name === "failures" && bad ? <span class="count bad" title="Causes in the last 24 hours">{bad}</span> : null}
            {name === "queues" && queues.data?.some((row) => row.paused) ? <span class="count wait">paused</span> : null}
          </a>
        ))}</nav>
        <div class="gap" />
        <div class="foot">
          <div class="live"><span class={`dot ${live ? "good" : "bad"}`} />{live ? "live" : "not heard"}</div>
          {status.data && <div>{status.data.host}, {status.data.version}<br />{status.data.broker === "embedded" ? "embedded broker" : status.data.broker}</div>}
        </div>
      </div>
      <div style={{ minWidth: 0 }}>
        <div class="top">
          <form class="find" role="search" onSubmit={(event) => { event.preventDefault(); go(search(text)); (document.activeElement as HTMLElement)?.blur(); }}>
            <Icon name="search" /><input id="find" type="search" aria-label="Find jobs" placeholder="Find jobs: an id, words, state:failed queue:mail" value={text} onInput={(event) => setText(event.currentTarget.value)} spellcheck={false} autocomplete="off" /><kbd>/</kbd>
          </form>
          <div class="right">
            {open.length > 0 && <Button tone="quiet" icon="pause" title="Pause every queue" aria-label="Pause everything" onClick={() => ask("pause")}><span>Pause everything</span></Button>}
            <Button tone="quiet" icon="help" title="Keys (?)" aria-label="Keys" onClick={() => ask("help")}><span /></Button>
            <Button tone="quiet" icon={theme === "dark" ? "sun" : "moon"} title="Dark or light" aria-label="Dark or light" onClick={turn}><span /></Button>
          </div>
        </div>
        <Bands status={status.data} queues={queues.data} lost={!live ? "Spinor is not heard any more. What is shown was read before; this page goes on by itself." : undefined} />
        <main id="main" tabIndex={-1}><Guarded key={route.path.join("/")}><View route={route} theme={theme} /></Guarded></main>
      </div>
      {asking === "help" && <Help places={PLACES} close={() => ask(undefined)} logOut={async () => { await remove("/session"); location.reload(); }} />}
      {asking === "pause" && <Dialog title="Pause everything" close={() => ask(undefined)}>
        <p>{plural(open.length, "queue")} will be paused: <b>{open.map((row) => row.name).join(", ")}</b>. Nobody takes jobs from them until somebody resumes them; what runs goes on to its end, and jobs can still be published.</p>
        <div class="ends"><Button onClick={() => ask(undefined)}>Leave it</Button><Button tone="main" icon="pause" act={pauseAll}>Pause everything</Button></div>
      </Dialog>}
      <Toasts />
    </div>
  );
}

function Login({ entered, wrong }: { entered: () => void; wrong?: string }) {
  const [user, setUser] = useState("");
  const [token, set] = useState("");
  const [problem, setProblem] = useState(wrong);
  const enter = async () => {
    try { await post("/session", user ? { user, password: token } : { token }); entered(); } catch (error) { setProblem(problemOf(error).detail); }
  };
  return (
    <main class="login"><form class="panel" onSubmit={(event) => { event.preventDefault(); void enter(); }}>
      <h1>Spinor</h1>
      <p>Open the link that <code>spinor up</code> printed, paste its token here, or log in as a user.</p>
      <div class="field"><label for="user">User, if you have one</label><input id="user" autocomplete="username" value={user} onInput={(event) => setUser(event.currentTarget.value)} /></div>
      <div class={`field ${problem ? "wrong-field" : ""}`}><label for="token">Token or password</label><input id="token" type="password" autocomplete="current-password" value={token} onInput={(event) => set(event.currentTarget.value)} autofocus /></div>
      {problem && <p class="req" role="alert">{problem}</p>}
      <div class="ends"><Button tone="main" type="submit">Enter</Button></div>
    </form></main>
  );
}

function Page() {
  const [inside, set] = useState<boolean>();
  const [wrong, setWrong] = useState<string>();
  useEffect(() => {
    onLoggedOut(() => set(false));
    const token = /^#token=(.+)$/.exec(location.hash)?.[1];
    if (token) history.replaceState(null, "", "#/overview");
    const opened = token ? post("/session", { token: decodeURIComponent(token) }) : get("/status");
    // Without an answer the frame says so, and goes on when there is one.
    opened.then(() => set(true), (error) => { const { status, detail } = problemOf(error); if (status === 401 || status === 403) { if (token) setWrong(detail); set(false); } else set(true); });
  }, []);
  if (inside === undefined) return null;
  return inside ? <Frame /> : <><Login entered={() => set(true)} wrong={wrong} /><Toasts /></>;
}

render(<Page />, document.getElementById("page")!);
