// Where the page is: all of it stands behind the `#`, so that an address can be shared and no server sees it.

import { useEffect, useState } from "preact/hooks";

export interface Route { path: string[]; query: URLSearchParams }

export function parse(hash: string): Route {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?");
  const plain = (text: string) => { try { return decodeURIComponent(text); } catch { return text; } };
  return { path: path.split("/").filter(Boolean).map(plain), query: new URLSearchParams(query) };
}

export function useRoute(): Route {
  const [route, set] = useState(() => parse(location.hash));
  useEffect(() => {
    const moved = () => set(parse(location.hash));
    addEventListener("hashchange", moved);
    return () => removeEventListener("hashchange", moved);
  }, []);
  return route;
}

export const go = (to: string) => { location.hash = to; };

/** The same place with other words in its query; no new step in the history. */
export function amend(route: Route, values: Record<string, string | undefined>) {
  const query = new URLSearchParams(route.query);
  for (const [key, value] of Object.entries(values)) value ? query.set(key, value) : query.delete(key);
  const text = query.toString();
  const hash = `#/${route.path.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
  history.replaceState(null, "", hash);
  dispatchEvent(new HashChangeEvent("hashchange"));
}

export const at = (...path: string[]) => `#/${path.map(encodeURIComponent).join("/")}`;
