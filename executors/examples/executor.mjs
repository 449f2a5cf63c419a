// An executor program in Node, without packages: the protocol of docs/protocol.md, and the kinds of the conformance kit.
//
//   python -m spinor_jobs.conformance -- node executors/examples/executor.mjs
//
// A job is an async function of (args, context). What it returns is its value; Retry and Discard end it otherwise. The
// event loop answers pings while a job waits; a job that computes for more than 30 s without a pause is taken as hung.
import { spawn } from "node:child_process";
import { setTimeout as pause } from "node:timers/promises";
import net from "node:net";

class Retry extends Error {
  constructor(reason, after) {
    super(reason);
    this.after = after;
  }
}
class Discard extends Error {}

const kinds = {
  "kit.echo": async (args) => args,
  "kit.fail": async () => {
    throw new Error("it went wrong");
  },
  "kit.sleep": async ({ seconds }, { signal, progress }) => {
    progress(0, seconds);
    await pause(seconds * 1000, undefined, { signal });
  },
  "kit.print": async ({ text = "hello" }) => console.log(text),
  "kit.retry": async () => {
    throw new Retry("not yet", 1.5);
  },
  "kit.discard": async () => {
    throw new Discard("it is of no use");
  },
  "kit.publish": async (args, { publish }) => {
    await publish({ kind: "kit.echo", args: { a: 1 } });
  },
  "kit.child": async ({ seconds }) => {
    spawn("sleep", [String(seconds)], { stdio: "ignore" }).unref();
  },
};

const LONGEST = 16 * 1024 * 1024;
const descriptor = Number(process.env.SPINOR_EXECUTOR_FD);
if (!Number.isInteger(descriptor) || descriptor < 3) {
  console.error("SPINOR_EXECUTOR_FD is not set: a consumer starts this program");
  process.exit(2);
}
delete process.env.SPINOR_EXECUTOR_FD;
const socket = new net.Socket({ fd: descriptor, readable: true, writable: true });
let running; // { execution, abort, why, answers } while a job runs

function send(frame) {
  const body = Buffer.from(JSON.stringify(frame));
  socket.write(Buffer.concat([Buffer.from(`${body.length}\n`), body]));
}

function end(code) {
  socket.end(() => process.exit(code));
}

async function run({ execution, job }) {
  const mine = { execution, abort: new AbortController(), answers: new Map(), numbers: 0 };
  running = mine;
  const context = {
    job,
    signal: mine.abort.signal,
    progress: (done, of) => send({ type: "progress", execution, done, of }),
    // Published with the settle of this job, if it succeeds; the answer has the ids.
    publish: (...jobs) =>
      new Promise((resolve, reject) => {
        const number = ++mine.numbers;
        mine.answers.set(number, { resolve, reject });
        send({ type: "publish", execution, number, jobs });
      }),
  };
  let result;
  try {
    if (!Object.hasOwn(kinds, job.kind)) throw new Error(`this program has no job of the kind ${job.kind}`);
    result = { outcome: "succeeded", value: await kinds[job.kind](job.args ?? {}, context) };
  } catch (error) {
    const message = String(error?.message || error);
    if (error instanceof Retry) result = { outcome: "retry", after: error.after, reason: message };
    else if (error instanceof Discard) result = { outcome: "discard", reason: message };
    else if (mine.why) result = { outcome: "failed", message: `cancelled: ${mine.why}` };
    else result = { outcome: "failed", message, detail: error?.stack };
  }
  running = undefined;
  send({ type: "result", execution, ...result });
}

function handle(frame) {
  if (frame.type === "run") run(frame);
  else if (frame.type === "ping") send({ type: "pong", n: frame.n });
  else if (frame.type === "bye") end(0);
  else if (frame.type === "cancel" && frame.execution === running?.execution) cancel(frame.why);
  else if (frame.type === "published") {
    const waiting = running?.answers.get(frame.number);
    if (frame.error) waiting?.reject(new Error(frame.error));
    else waiting?.resolve(frame.ids);
  }
}

function cancel(why) {
  running.why = why;
  running.abort.abort();
}

let chunks = []; // What came and is not used, with its size.
let size = 0;
let due; // The length of the frame that comes.

function take(chunk) {
  chunks.push(chunk);
  size += chunk.length;
  for (;;) {
    if (due === undefined) {
      const head = chunks.length === 1 ? chunks[0] : Buffer.concat(chunks);
      chunks = [head];
      const at = head.subarray(0, 9).indexOf(10);
      if (at < 0 && size < 9) return;
      const digits = head.subarray(0, Math.max(at, 0)).toString("latin1");
      if (!/^(0|[1-9][0-9]{0,7})$/.test(digits) || Number(digits) > LONGEST) return broken(`no length: ${digits}`);
      due = Number(digits);
      chunks = [head.subarray(at + 1)];
      size -= at + 1;
    }
    if (size < due) return;
    const whole = chunks.length === 1 ? chunks[0] : Buffer.concat(chunks);
    const body = whole.subarray(0, due);
    chunks = [whole.subarray(due)];
    size -= due;
    due = undefined;
    try {
      handle(JSON.parse(body.toString("utf8")));
    } catch (error) {
      return broken(error.message);
    }
  }
}

function broken(why) {
  console.error(`the consumer sent no frame: ${why}`);
  process.exit(1);
}

socket.on("data", take);
socket.on("end", () => process.exit(running ? 1 : 0));
socket.on("error", () => process.exit(running ? 1 : 0));
process.on("SIGTERM", () => (running ? cancel("signal") : process.exit(143)));
send({
  type: "hello",
  protocol: 1,
  program: "kit in Node 1.0",
  language: "javascript",
  kinds: Object.keys(kinds).map((kind) => ({ kind })),
  answers_pings_while_running: true,
});
