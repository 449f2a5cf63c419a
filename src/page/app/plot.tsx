// Lines over time, drawn by uPlot in the colours of the theme.

import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { rateText } from "./format";
import { onPulse, samples, since, type Sample } from "./pulse";

export interface Line { label: string; tone: "run" | "good" | "wait" | "bad" | "over"; of: (sample: Sample) => number | undefined; fill?: boolean }

/** How far a plot looks back, and of how many seconds a point is: it widens while the page is open. */
function span(): [number, number] {
  const age = (Date.now() - since) / 1000;
  return age < 120 ? [120, 2] : age < 300 ? [300, 5] : [600, 5];
}

/** Means over steps, so that a busy second is no spike that hides the rest. */
function columns(lines: Line[], mean: boolean): uPlot.AlignedData {
  const [back, step] = span();
  const now = Math.floor(Date.now() / 1000 / step) * step;
  const times: number[] = [];
  for (let at = now - back; at < now; at += step) times.push(at);
  const values = lines.map(() => times.map((): number | null => null));
  const seen = times.map(() => 0);
  for (const sample of samples()) {
    const place = Math.floor((sample.at - (now - back)) / step);
    if (place < 0 || place >= times.length) continue;
    seen[place]! += 1;
    lines.forEach((line, n) => {
      const value = line.of(sample);
      if (value !== undefined) values[n]![place] = mean ? (values[n]![place] ?? 0) + value : value;
    });
  }
  if (mean) values.forEach((column) => column.forEach((value, place) => { if (value !== null) column[place] = value / (seen[place] || 1); }));
  return [times, ...values];
}

/** A chart in an element, in the colours that the theme has now; a tick of its time axis is written by `clock`. */
function draw(element: HTMLElement, lines: { label: string; tone: string; fill?: boolean }[], data: uPlot.AlignedData, clock: (at: number) => string, value: (of: number) => string): uPlot {
  const style = getComputedStyle(document.documentElement);
  const colour = (name: string) => style.getPropertyValue(`--${name}`).trim();
  const axis = { stroke: colour("ink2"), font: "11px system-ui, sans-serif", grid: { stroke: colour("line"), width: 1 }, ticks: { show: false } };
  return new uPlot({
    width: element.clientWidth, height: element.clientHeight, legend: { show: false }, cursor: { y: false, points: { size: 6 } }, padding: [8, 4, 0, 0],
    scales: { y: { range: (_, __, max) => [0, Math.max(value === rateText ? 1 : 0.001, max * 1.15 || 1)] } },
    axes: [{ ...axis, space: 70, values: (_, at) => at.map(clock), size: 26 }, { ...axis, size: 48, space: 36, values: (_, at) => at.map(value) }],
    series: [{}, ...lines.map((line) => ({ label: line.label, stroke: colour(line.tone), width: 1.75, fill: line.fill ? `${colour(line.tone)}22` : undefined, points: { show: false }, spanGaps: false }))],
  }, data, element);
}

/** Follows the size of its element. */
function sized(plot: uPlot, element: HTMLElement): () => void {
  const observer = new ResizeObserver(() => plot.setSize({ width: element.clientWidth, height: element.clientHeight }));
  observer.observe(element);
  return () => { observer.disconnect(); plot.destroy(); };
}

const pad = (n: number) => String(n).padStart(2, "0");

/** Columns that the server told: times in seconds, then a column for each line. */
export function Told({ lines, data, label, theme, value = rateText }: { lines: { label: string; tone: Line["tone"]; fill?: boolean }[]; data: uPlot.AlignedData; label: string; theme: string; value?: (of: number) => string }) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>();
  useEffect(() => {
    const element = box.current!;
    const span = () => { const times = plot.current?.data[0] ?? data[0]; return times[times.length - 1]! - times[0]!; };
    const clock = (at: number) => { const date = new Date(at * 1000); return `${span() > 86400 ? `${pad(date.getDate())}. ` : ""}${pad(date.getHours())}:${pad(date.getMinutes())}`; };
    plot.current = draw(element, lines, data, clock, value);
    return sized(plot.current, element);
  }, [theme]);
  useEffect(() => plot.current?.setData(data), [data]);
  return <div class="plot" ref={box} role="img" aria-label={label} />;
}

export function Plot({ lines, mean = true, label, theme }: { lines: Line[]; mean?: boolean; label: string; theme: string }) {
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const element = box.current!;
    const clock = (at: number) => { const date = new Date(at * 1000); return `${pad(date.getHours())}:${pad(date.getMinutes())}${span()[0] < 300 ? `:${pad(date.getSeconds())}` : ""}`; };
    const plot = draw(element, lines, columns(lines, mean), clock, rateText);
    const stop = onPulse(() => { if (!document.hidden) plot.setData(columns(lines, mean)); });
    const end = sized(plot, element);
    return () => { stop(); end(); };
  }, [theme]);
  return <div class="plot" ref={box} role="img" aria-label={label} />;
}
