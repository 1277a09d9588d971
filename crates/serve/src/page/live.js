// The server's figures, from its metrics: rates and times of the last half minute.

import { make, shown } from "./element.js";
import { get } from "./server.js";

const EVERY = 2000;
const KEPT = 16;

/** Values of metrics by name; of histograms their counts by upper bound. */
function read(text) {
  const values = new Map();
  const buckets = new Map();
  for (const line of text.split("\n")) {
    const found = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (!found) continue;
    const [, name, labels = "", value] = found;
    const bound = /le="([^"]+)"/.exec(labels);
    if (bound) {
      const list = buckets.get(name) ?? [];
      list.push([bound[1] === "+Inf" ? Infinity : Number(bound[1]), Number(value)]);
      buckets.set(name, list);
    } else {
      values.set(name, (values.get(name) ?? 0) + Number(value));
    }
  }
  return { at: performance.now() / 1000, values, buckets };
}

const count = (sample, name) => sample.values.get(name) ?? 0;

/** The time that a share of the requests between two samples did not exceed, in seconds. */
function quantile(first, last, share) {
  const after = last.buckets.get("te_request_duration_bucket") ?? [];
  const before = new Map(first.buckets.get("te_request_duration_bucket") ?? []);
  const grown = after.map(([bound, n]) => [bound, n - (before.get(bound) ?? 0)]);
  const all = grown.at(-1)?.[1] ?? 0;
  if (all === 0) return NaN;
  let [low, below] = [0, 0];
  for (const [bound, n] of grown) {
    if (n >= share * all) {
      const within = (share * all - below) / Math.max(n - below, 1);
      return bound === Infinity ? low : low + within * (bound - low);
    }
    [low, below] = [bound, n];
  }
  return low;
}

function rate(first, last, name) {
  const seconds = last.at - first.at;
  return seconds > 0 ? Math.max(0, count(last, name) - count(first, name)) / seconds : 0;
}

const milliseconds = (seconds) => (Number.isFinite(seconds) ? shown(1000 * seconds, 1) : "–");

const FIGURES = [
  ["Requests", "a second", (a, b) => shown(rate(a, b, "te_request_success"), 1), (a, b) => rate(a, b, "te_request_success")],
  ["Throughput", "tokens a second", (a, b) => Math.round(rate(a, b, "te_request_input_length_sum")).toLocaleString("en"), (a, b) => rate(a, b, "te_request_input_length_sum")],
  ["Median time", "ms", (a, b) => milliseconds(quantile(a, b, 0.5)), (a, b) => quantile(a, b, 0.5) || 0],
  ["95th percentile", "ms", (a, b) => milliseconds(quantile(a, b, 0.95)), (a, b) => quantile(a, b, 0.95) || 0],
  ["In line", "texts", (_, b) => String(count(b, "te_queue_size")), (_, b) => count(b, "te_queue_size")],
  ["Refused or failed", "since the start", (_, b) => String(count(b, "te_request_failure")), undefined],
];

const SVG = "http://www.w3.org/2000/svg";

function spark() {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "spark");
  svg.setAttribute("viewBox", "0 0 100 32");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  svg.append(document.createElementNS(SVG, "polyline"));
  return svg;
}

function draw(svg, numbers) {
  const most = Math.max(...numbers, 1e-9);
  const points = numbers.map((n, at) => `${(100 * at) / (KEPT - 1)},${31 - (29 * n) / most}`);
  svg.firstChild.setAttribute("points", points.join(" "));
}

/** Shows the figures in `section`, for as long as the page is seen; stays away where no metrics are kept. */
export async function live(section) {
  const rows = FIGURES.map(([name, unit, value, height]) => {
    const number = make("span");
    const line = height && spark();
    const row = make("div", {}, make("dt", {}, name), make("dd", {}, number, make("small", {}, unit)));
    if (line) row.append(line);
    section.querySelector("dl").append(row);
    return { number, line, value, height, heights: Array(KEPT).fill(0) };
  });
  const samples = [];
  const tick = async () => {
    if (!document.hidden) {
      try {
        samples.push(read(await get("/metrics")));
      } catch (fault) {
        if (fault.status === 404) return;
      }
      if (samples.length > KEPT) samples.shift();
      const [first, last] = [samples[0], samples.at(-1)];
      if (last) {
        section.hidden = false;
        for (const row of rows) {
          row.number.textContent = row.value(first, last);
          if (!row.line) continue;
          row.heights.push(row.height(samples.at(-2) ?? last, last));
          row.heights.shift();
          draw(row.line, row.heights);
        }
      }
    }
    setTimeout(tick, EVERY);
  };
  await tick();
}
