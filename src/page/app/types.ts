// What the API answers, as far as the page reads it.

export interface Problem { title: string; status: number; detail: string; field?: string; known?: string[]; job?: string }
export interface Wish { by: string; at: string; why?: string }
export interface Paged<T> { rows: T[]; next?: string; looked?: string }

export interface JobRow {
  id: string; kind: string; queue: string; state: string; attempt: number; replay: number; created: string;
  started?: string; ended?: string; retry_at?: string; error?: string; run?: string; consumer?: string; version?: string;
  fingerprint?: string; cancel_requested?: Wish;
}
export interface Stream { head?: string; tail?: string; bytes: number; dropped?: number }
export interface Attempt {
  execution: string; replay: number; attempt: number; state: string; created: string; started: string; ended?: string;
  failure?: { cause: string; message: string }; value?: unknown; value_ref?: unknown; usage?: { user_seconds: number; system_seconds: number; peak_memory: number }; retry_at?: string; exit?: { code?: number; signal?: number; pid?: number };
  stdout?: Stream; stderr?: Stream; consumer: string; group: string; host: string; version?: string; maybe_rerun?: boolean;
  [more: string]: unknown;
}
export interface JobRecord extends JobRow { job?: Record<string, unknown> & { args?: unknown; kind: string; queue: string }; attempts: Attempt[]; unread?: string[] }
export interface Why { id: string; state?: string; reason: string; detail: string }

export interface FailureGroup {
  fingerprint: string; kind: string; count: number; states: string[]; first: string; last: string; queues: string[];
  consumers: string[]; versions: string[]; job: string; error: string;
}
export interface Failures { groups: FailureGroup[]; capped: boolean; looked?: string }
export interface FailureRecord extends FailureGroup { jobs: JobRow[] }
export interface DeadLetter { id: string; job: string; replay: number; attempt: number; kind: string; queue: string; reason: string; at: string; consumer: string; fingerprint: string; version: string }
export interface DeadRecord extends DeadLetter { properties: unknown; body: string; bytes: number; is_job: boolean }
export interface Replay {
  id: string; filter: Record<string, unknown>; rate?: { jobs: number; each_ms: number }; by: string; at: string; ended?: string;
  state: string; total?: number; done: number; failed: number; error?: string;
}

export interface QueueRow { name: string; ready: number; unacked?: number; consumers: number; heard?: number; configured: boolean; paused?: Wish; lanes?: unknown }
export interface RunningJob { job: string; kind: string; since: string }
export interface ConsumerRow {
  consumer: string; group: string; host: string; pid: number; version: string; labels?: [string, string][]; queues: string[]; kinds: string[];
  slots: number; slots_wanted?: number; busy: number; running: RunningJob[]; waiting?: { job: string; reason: string; why: string; until: string }[];
  draining: boolean; drain_requested?: Wish; intake: string; started: string; silent_ms: number;
}
export interface GroupQueue { queue: string; ready?: number; unacked?: number; oldest_seconds?: number; paused?: Wish }
export interface GroupRow {
  group: string; wanted?: number; wanted_by?: Wish; running: number; draining: number; silent: number; slots: number; slots_wanted?: number;
  busy: number; busy_ratio: number; queues: GroupQueue[]; note?: string;
}
export interface Status {
  version: string; pid: number; host: string; parts: string[]; started: string; broker: string; link: { state: string; why?: string };
  results: string; results_problem?: string; state: string; state_problem?: string; search: string; data: string; queues: QueueRow[];
  troubles?: string[]; parts_alive: { part: string; alive: number; waits: number }[];
  groups: { group: string; leads: boolean; running: number; starting: number; restarting: number; replicas: { pid: number; consumer: string; phase: string; started: string }[]; problem?: string }[];
}
export interface TriggerRow {
  name: string; id: string; origin: string; state: string; revision: number; changed: string; changed_by: string;
  asked: { cron?: string; every?: string; at?: string; zone?: string; overlap?: string; misfire?: string; job?: { kind: string; queue?: string; args?: unknown } };
  next?: string; fired: number; previous?: { instant: string; outcome?: string };
}
export interface Leader { who: string; since: string; until: string; epoch: number }
export interface Tick { instant: string; job?: string; state: string; late_ms?: number; ended?: string; note?: string }
export interface TriggerShown { trigger: TriggerRow; coming: string[]; ticks: Tick[]; leader?: Leader }
export interface RunRow { id: string; name: string; members: number; steps: number; replay?: number; started: string; ended?: string; succeeded?: boolean; cancel_requested?: Wish; problems?: string[] }
export interface Member { name: string; job: string; state: string; replay: number; needs?: string[]; error?: string }
export interface RunRecord extends RunRow { jobs: [string, JobRow][]; member_list?: Member[] }
export interface StepReport {
  job: string; node: string; step: number; part: number; item: number; name: string; verb: string; state: string; exit?: { code?: number; signal?: number };
  started: string; micros: number; stdout?: Stream; stderr?: Stream; failure?: { cause: string; message: string }; [more: string]: unknown;
}
export interface KindRow {
  kind: string; program?: string; description?: string; schema?: Schema; consumers: string[]; groups: string[]; versions: string[]; last_seen?: string;
  limits: { timeout?: { soft_ms?: number; hard_ms?: number }; retry?: Record<string, number>; limits?: string[]; at_most_once?: boolean };
  troubles?: { consumer: string; why: string }[];
}
export interface Schema {
  type?: string | string[]; properties?: Record<string, Schema>; required?: string[]; enum?: unknown[]; const?: unknown; default?: unknown; description?: string;
  title?: string; format?: string; minimum?: number; maximum?: number; items?: Schema; anyOf?: Schema[]; $ref?: string; [more: string]: unknown;
}
export interface Quantiles { p50: number; p95: number; p99: number }
export interface Counts { ended: Record<string, number>; ran?: Quantiles; waited?: Quantiles }
export interface Figures { from: string; to: string; step: number; points: (Counts & { at: string })[]; kinds: (Counts & { kind: string })[] }
/** A second; what was recorded is absent while the record does not answer. */
export interface Beat { started: number; steps: number; succeeded?: number; retrying?: number; failed?: number; link: string }
