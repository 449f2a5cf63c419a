// What a person does on the page, in a real Chromium: `node person.mjs BASE TOKEN SCRATCH`.
// Says each thing before it is done, so that the last line names what failed.
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const page_folder = join(dirname(fileURLToPath(import.meta.url)), "../../src/page/package.json");
const require = createRequire(page_folder);
const { chromium } = require("playwright-core");
const axe = require.resolve("axe-core/axe.min.js");
const [, , base, token, scratch] = process.argv;

const context = await chromium.launchPersistentContext(join(scratch, "profile"), {
  executablePath: "/usr/bin/chromium", headless: true, viewport: { width: 1280, height: 860 }, bypassCSP: false, colorScheme: "dark",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const page = context.pages()[0] ?? (await context.newPage());
page.setDefaultTimeout(45_000);
const wrong = [];
page.on("pageerror", (error) => wrong.push(`the script fails: ${error}`));
page.on("request", (request) => { if (!request.url().startsWith(base) && !request.url().startsWith("data:")) wrong.push(`it asks elsewhere: ${request.url()}`); });
const say = (what) => console.log(what);
const see = (text, options) => page.getByText(text, options).first().waitFor();
const api = async (method, path, body) => {
  const answer = await fetch(`${base}/api/v1${path}`, { method, headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" }, body: body && JSON.stringify(body) });
  if (!answer.ok) throw new Error(`${method} ${path}: ${await answer.text()}`);
  return answer.json();
};
const until = async (what, check) => {
  for (let tries = 0; tries < 300; tries += 1) {
    if (await check()) return;
    await new Promise((go) => setTimeout(go, 50));
  }
  throw new Error(`awaited in vain: ${what}`);
};

try {
  say("Without a token the page says how to get in");
  await page.goto(base);
  await see("Open the link that");
  await page.getByLabel("Token").fill("wrong");
  await page.getByRole("button", { name: "Enter" }).click();
  await see("this is not the token");

  say("The link lets in, and the token leaves the address");
  await page.goto(`${base}/?again#token=${token}`);
  await page.getByRole("heading", { name: "Overview" }).waitFor();
  if (page.url().includes(token)) throw new Error(`the address keeps the token: ${page.url()}`);

  say("Publishes from the form of a kind");
  // The keys are heard once the page has been painted, which takes its time on a busy machine.
  await until("the form to be opened by its keys", async () => {
    await page.keyboard.press("g");
    await page.keyboard.press("p");
    return page.getByLabel("Kind").isVisible();
  });
  await page.getByLabel("Kind").selectOption("command");
  await page.getByLabel("shell").fill("for n in $(seq 1 600); do echo \"line $n of many\"; sleep 0.1; done");
  await page.getByRole("button", { name: "Publish", exact: true }).click();

  say("Watches its output live");
  await page.getByLabel("Live output").getByText(/line \d+ of many/).first().waitFor();

  say("Cancels it while it runs");
  await page.getByRole("button", { name: "Cancel", exact: true }).click();
  await page.locator(".state.big", { hasText: "cancelled" }).waitFor();
  await see("line 1 of many");

  say("Overview, then the text of the worst failure, in two clicks");
  const bad = Array.from({ length: 5 }, (_, n) => ({ kind: "command", args: { shell: `echo "ledger ${n} is closed" >&2; test -e "$PWD/mended"` } }));
  await api("POST", "/jobs", bad);
  await page.getByRole("link", { name: "Overview", exact: true }).click();
  const worst = page.locator(".fail").first();
  await worst.getByText("5", { exact: true }).waitFor();
  await worst.click();
  await page.getByRole("alert").getByText("exit code 1").waitFor();
  for (const fact of ["First seen", "Last seen", "Versions"]) await see(fact);

  say("Retries all like it, at a rate, and sees how far it is");
  await page.getByRole("button", { name: "Retry all like this" }).click();
  await page.getByLabel("How fast").fill("100/1s");
  await page.getByRole("button", { name: "Retry 5 jobs" }).click();
  await see(/5 of 5 started anew/);
  await until("each of them to have run again", async () => (await api("GET", "/jobs?state=failed&kind=command")).rows.filter((row) => row.replay === 1).length === 5);

  say("Edits the args of one and runs it again");
  await page.getByRole("table").getByRole("link", { name: "command" }).first().click();
  await page.getByRole("button", { name: "Edit and run again" }).click();
  await page.getByLabel("Args").fill('{"shell": "echo mended"}');
  await page.getByRole("dialog").getByRole("button", { name: "Run" }).click();
  await page.locator(".state.big", { hasText: "succeeded" }).waitFor();

  say("Scales a group");
  await page.getByRole("link", { name: "Consumers", exact: true }).click();
  await page.getByRole("button", { name: "Replicas of default: one more" }).click();
  await see("of 2 wanted by page");
  await until("two consumers to run", async () => (await api("GET", "/consumers/groups")).find((row) => row.group === "default")?.running === 2);

  say("Pauses a queue, sees it everywhere, sees why a job waits, and resumes it");
  await page.getByRole("link", { name: "Queues", exact: true }).click();
  await page.getByRole("row", { name: /^default/ }).getByRole("button", { name: "Pause" }).click();
  await page.locator(".band", { hasText: "paused: default" }).waitFor();
  const { id } = await api("POST", "/jobs", { kind: "noop" });
  await page.goto(`${base}/#/jobs/${id}`);
  await page.locator("#why", { hasText: "paused" }).waitFor();
  await page.locator(".band").getByRole("button", { name: "Resume" }).click();
  await page.locator(".state.big", { hasText: "succeeded" }).waitFor();

  say("Fires a trigger, and finds the job in its history");
  await page.goto(`${base}/#/triggers/nightly`);
  await page.getByRole("button", { name: "Fire" }).click();
  await page.getByRole("row").getByText("succeeded").first().waitFor();

  say("Finds a job by the keyboard alone");
  await page.keyboard.press("/");
  await page.keyboard.type("state:cancelled");
  await page.keyboard.press("Enter");
  await page.getByRole("row", { name: /cancelled/ }).first().waitFor();
  await page.keyboard.press("j");
  await page.keyboard.press("Enter");
  await page.locator(".state.big", { hasText: "cancelled" }).waitFor();
  await page.keyboard.press("?");
  await page.getByRole("dialog", { name: "Keys" }).waitFor();
  await page.keyboard.press("Escape");

  const job = page.url().split("#/")[1];
  say("Adds a user, who logs in by name; what was done is listed");
  await page.goto(`${base}/#/settings`);
  await page.getByRole("button", { name: "Add a user" }).click();
  await page.getByLabel("Name", { exact: true }).fill("ann");
  await page.getByLabel("Password", { exact: true }).fill("correct horse");
  await page.getByRole("button", { name: "Add", exact: true }).click();
  await see("addUser");
  const place = page.url();
  await context.clearCookies();
  await page.goto(`${base}/?ann`);
  await page.getByLabel("User, if you have one").fill("ann");
  await page.getByLabel("Token or password").fill("correct horse");
  await page.getByRole("button", { name: "Enter" }).click();
  await page.getByRole("heading", { name: "Overview" }).waitFor();
  await page.goto(`${base}/?ann#/settings`);
  await see("You are ann");
  await context.clearCookies();
  await page.goto(`${base}/?admin#token=${token}`);
  await page.getByRole("heading", { name: "Overview" }).waitFor();
  await page.goto(place);

  say("Nothing of weight is wrong for who cannot see or point, in both themes");
  const fingerprint = (await api("GET", "/failures")).groups[0].fingerprint;
  const views = ["overview", "jobs", job, "failures", `failures/${fingerprint}`, "queues", "consumers", "triggers", "triggers/nightly", "runs", "history", "kinds", "publish?kind=command", "broker", "settings"];
  // The policy lets no script in but the page's own: the driver gives it to the page by its own way.
  const source = (await import("node:fs")).readFileSync(axe, "utf8");
  for (const theme of ["dark", "light"]) {
    if (theme === "light") await page.getByRole("button", { name: "Dark or light" }).click();
    for (const view of views) {
      await page.goto(`${base}/#/${view}`);
      await page.locator("main h1").first().waitFor();
      await page.locator("main [aria-busy=true]").first().waitFor({ state: "detached" });
      await page.evaluate(`${source}; undefined`);
      const { violations } = await page.evaluate("axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa'] })");
      for (const one of violations.filter(({ impact }) => impact === "serious" || impact === "critical")) wrong.push(`${view}, ${theme}: ${one.id}: ${one.help}: ${one.nodes.slice(0, 3).map((node) => `${node.html.slice(0, 160)} ${node.failureSummary?.slice(0, 240)}`).join(" | ")}`);
    }
  }

  say("Nothing is wider than 400 px of a telephone");
  await page.setViewportSize({ width: 400, height: 800 });
  for (const view of views) {
    await page.goto(`${base}/#/${view}`);
    await page.locator("main h1").first().waitFor();
    const over = await page.evaluate("document.documentElement.scrollWidth - innerWidth");
    if (over > 0) wrong.push(`${view} is ${over} px too wide`);
  }
  if (wrong.length) throw new Error(wrong.join("\n"));
  console.log("all done");
} catch (error) {
  console.log(`${error}`, wrong.join("\n"));
  await page.screenshot({ path: join(scratch, "at-the-end.png") }).catch(() => {});
  process.exitCode = 1;
} finally {
  await context.close();
}
