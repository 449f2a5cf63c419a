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

export function Plot({ lines, mean = true, label, theme }: { lines: Line[]; mean?: boolean; label: string; theme: string }) {
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const element = box.current!;
    const style = getComputedStyle(document.documentElement);
    const colour = (name: string) => style.getPropertyValue(`--${name}`).trim();
    const axis = { stroke: colour("ink2"), font: "11px system-ui, sans-serif", grid: { stroke: colour("line"), width: 1 }, ticks: { show: false } };
    const pad = (n: number) => String(n).padStart(2, "0");
    const clock = (at: number) => { const date = new Date(at * 1000); return `${pad(date.getHours())}:${pad(date.getMinutes())}${span()[0] < 300 ? `:${pad(date.getSeconds())}` : ""}`; };
    const plot = new uPlot({
      width: element.clientWidth, height: element.clientHeight, legend: { show: false }, cursor: { y: false, points: { size: 6 } }, padding: [8, 4, 0, 0],
      scales: { y: { range: (_, __, max) => [0, Math.max(1, max * 1.15 || 1)] } },
      axes: [{ ...axis, space: 70, values: (_, at) => at.map(clock), size: 26 }, { ...axis, size: 40, space: 36, values: (_, at) => at.map((value) => rateText(value)) }],
      series: [{}, ...lines.map((line) => ({ label: line.label, stroke: colour(line.tone), width: 1.75, fill: line.fill ? `${colour(line.tone)}22` : undefined, points: { show: false }, spanGaps: false }))],
    }, columns(lines, mean), element);
    const stop = onPulse(() => { if (!document.hidden) plot.setData(columns(lines, mean)); });
    const sized = new ResizeObserver(() => plot.setSize({ width: element.clientWidth, height: element.clientHeight }));
    sized.observe(element);
    return () => { stop(); sized.disconnect(); plot.destroy(); };
  }, [theme]);
  return <div class="plot" ref={box} role="img" aria-label={label} />;
}
