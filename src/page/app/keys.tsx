// The keyboard: everything that is often done needs no mouse.

import { useEffect } from "preact/hooks";
import { go } from "./route";
import { Button, Dialog } from "./ui";

interface Keys { places: [string, string, string][]; help: () => void }

const rows = () => [...document.querySelectorAll<HTMLElement>("[data-row]")];
const typing = (target: EventTarget | null) => target instanceof HTMLElement && !!target.closest("input, textarea, select, dialog");

/** Marks the next row, and brings it into sight. */
function step(by: number) {
  const all = rows();
  if (!all.length) return;
  const now = all.findIndex((row) => row.classList.contains("on"));
  const next = all[Math.min(all.length - 1, Math.max(0, now < 0 ? (by > 0 ? 0 : all.length - 1) : now + by))]!;
  all.forEach((row) => row.classList.toggle("on", row === next));
  next.scrollIntoView({ block: "nearest" });
  (next.matches("a") ? next : next.querySelector<HTMLElement>("a, button"))?.focus({ preventScroll: true });
}

export function useKeys({ places, help }: Keys) {
  useEffect(() => {
    let goes = 0;
    const pressed = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "Escape" && event.target instanceof HTMLInputElement) { event.target.blur(); return; }
      if (typing(event.target)) return;
      const place = Date.now() - goes < 1500 ? places.find(([, , key]) => key === event.key) : undefined;
      goes = 0;
      if (place) go(`#/${place[0]}`);
      else if (event.key === "g") goes = Date.now();
      else if (event.key === "/") document.getElementById("find")?.focus();
      else if (event.key === "?") help();
      else if (event.key === "j") step(1);
      else if (event.key === "k") step(-1);
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, []);
}

export function Help({ places, close, logOut }: { places: Keys["places"]; close: () => void; logOut: () => Promise<void> }) {
  const line = (keys: string[], what: string) => <tr key={what}><td class="tight">{keys.map((key, n) => <span key={n}>{n > 0 && " "}<kbd>{key}</kbd></span>)}</td><td>{what}</td></tr>;
  return (
    <Dialog title="Keys" close={close}>
      <table><tbody>
        {line(["/"], "find jobs")}{line(["j"], "next row")}{line(["k"], "row before")}{line(["Enter"], "open the row")}{line(["Esc"], "leave a field, close a dialog")}{line(["?"], "these keys")}
        {places.map(([, label, key]) => line(["g", key], label))}
      </tbody></table>
      <div class="ends"><Button act={logOut}>Log out of this browser</Button></div>
    </Dialog>
  );
}
