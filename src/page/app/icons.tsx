// Line icons, drawn here; 16 wide.

const PATHS: Record<string, string> = {
  overview: "M2 13h12M4 13V8m4 5V3m4 10V6",
  jobs: "M2.5 4h11M2.5 8h11M2.5 12h7",
  failures: "M8 2.2 14.2 13H1.8L8 2.2Zm0 4v3.4m0 1.7v.2",
  queues: "M2 4.5 8 2l6 2.5L8 7 2 4.5ZM2 8l6 2.5L14 8M2 11.5 8 14l6-2.5",
  consumers: "M3 3h4v4H3zM9 3h4v4H9zM3 9h4v4H3zM9 9h4v4H9z",
  triggers: "M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12Zm0-9.2V8l2.3 1.6",
  runs: "M4 3.5a1.5 1.5 0 1 1-3 0 1.5 1.5 0 0 1 3 0Zm0 0h3.5c1.5 0 1.5 9 3 9H12m3 0a1.5 1.5 0 1 1-3 0 1.5 1.5 0 0 1 3 0ZM7.5 3.5H12m3 0a1.5 1.5 0 1 1-3 0 1.5 1.5 0 0 1 3 0Z",
  history: "M2 2.5v11h12M4.5 10l3-3.5 2.5 2 4-5",
  kinds: "M2.5 8.5V2.5h6l5 5-6 6-5-5ZM5.5 5.5v.1",
  publish: "M14 2 7 9m7-7-4.5 12L7 9 2 6.5 14 2Z",
  broker: "M2.5 3h11v4h-11zM2.5 9h11v4h-11zM5 5v.1M5 11v.1",
  settings: "M2 4.5h7m4 0h1M2 11.5h1m4 0h7M11 6.5a2 2 0 1 0 0-4 2 2 0 0 0 0 4ZM5 13.5a2 2 0 1 0 0-4 2 2 0 0 0 0 4Z",
  search: "M7 12A5 5 0 1 0 7 2a5 5 0 0 0 0 10Zm3.6-1.4L14 14",
  pause: "M5 3v10M11 3v10", play: "M4.5 2.8v10.4L13 8 4.5 2.8Z", sun: "M8 11a3 3 0 1 0 0-6 3 3 0 0 0 0 6Zm0-10v1.4m0 11.2V15M1 8h1.4m11.2 0H15M3 3l1 1m8 8 1 1m0-10-1 1m-8 8-1 1",
  moon: "M13.5 9.5A6 6 0 0 1 6.5 2.5a6 6 0 1 0 7 7Z", close: "M4 4l8 8m0-8-8 8", check: "M3 8.5 6.5 12 13 4.5", copy: "M5.5 5.5h8v8h-8zM10.5 5V2.5h-8v8H5",
  alert: "M8 2.2 14.2 13H1.8L8 2.2Zm0 4v3.4m0 1.7v.2", retry: "M13 8a5 5 0 1 1-1.6-3.7M13 2v3h-3", help: "M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12ZM6.3 6.3a1.8 1.8 0 1 1 2.4 1.8c-.5.2-.7.5-.7 1.1m0 1.9v.1",
  stop: "M4 4h8v8H4z", edit: "M3 13l.7-2.8 7.1-7.1 2.1 2.1-7.1 7.1L3 13Z", fire: "M9 1.8 3.5 9H8l-1 5.2L12.5 7H8l1-5.2Z", next: "M6 3l5 5-5 5", menu: "M2 4h12M2 8h12M2 12h12", plus: "M8 3v10M3 8h10", minus: "M3 8h10",
};

export function Icon({ name }: { name: string }) {
  return <svg class="icon" viewBox="0 0 16 16" aria-hidden="true" focusable="false"><path d={PATHS[name] ?? ""} /></svg>;
}
