/** The panel that judges the map: curves of the training, histograms and figures. */
import { writeNumber } from "./coloring.js";
import { shape } from "./labels.js";

const [WIDTH, HEIGHT, LEFT, BOTTOM] = [300, 110, 44, 18];
const LABELS = {
  sampled: "objects in the sample for these figures",
  norms: "lengths of the vectors",
  similarity: "cosines of objects and their nearest",
  duplicates: "objects of the sample with the vector of another",
  unseen: "objects that training never saw",
};

/** Return an element with text and children. @param {string} name @param {string} text @returns {HTMLElement} */
export function element(name, text = "", ...children) {
  const node = document.createElement(name);
  node.textContent = text;
  node.append(...children);
  return node;
}

/** @param {HTMLElement} panel @param {any} map Metadata of the map. @param {(object: number) => HTMLElement} titleButton */
export function drawJudgement(panel, map, titleButton) {
  const nodes = [];
  const percent = (share) => `${writeNumber(100 * share)} %`;
  for (const { label, name, neighbors_kept: kept, same_cluster: same } of map.projections) {
    const parts = [];
    if (kept != null) parts.push(`keeps ${percent(kept)} of the nearest neighbors`);
    if (same != null) parts.push(`shows ${percent(same)} of neighbors in the same cluster`);
    if (parts.length) nodes.push(element("p", `${label ?? name} ${parts.join(" and ")}.`));
  }
  nodes.push(...drawTraining(map.training?.metrics ?? []));
  const { hubs = [], ...others } = map.statistics ?? {};
  for (const [name, value] of Object.entries(others)) nodes.push(...drawStatistic(name, value, percent));
  if (hubs.length) nodes.push(element("p", "Objects that are a neighbor of most others:"));
  if (hubs.length) nodes.push(element("div", "", ...hubs.map(({ object }) => titleButton(object))));
  if (hubs.length) nodes.at(-1).className = "row";
  panel.replaceChildren(...(nodes.length ? nodes : [element("p", "The model has no figures of its training.")]));
}

function drawStatistic(name, value, percent) {
  const label = LABELS[name] ?? name.replaceAll("_", " ");
  if (value == null || value.share === null) return [];
  if (value.edges?.length === 0) return [];
  if (Array.isArray(value)) {
    const parts = value.map((part) => (typeof part === "object" ? Object.values(part).join(": ") : part));
    return value[0]?.chance != null
      ? value.flatMap((part) => drawStatistic(name, part, percent))
      : [element("p", `${label}: ${parts.slice(0, 10).join(", ") || "none"}`)];
  }
  if (value.edges) return [figure(label, drawHistogram(value.edges, value.counts))];
  if (value.chance != null) {
    const ratio = value.chance ? ` (${writeNumber(value.share / value.chance)} ×)` : "";
    const text = `Nearest neighbors share ${value.column}: ${percent(value.share)}; by chance ${percent(value.chance)}`;
    return [element("p", `${text}${ratio}.`)];
  }
  if (typeof value === "object") {
    return Object.entries(value).flatMap(([key, part]) => drawStatistic(`${label} ${key}`, part, percent));
  }
  return [element("p", `${label}: ${typeof value === "number" ? writeNumber(value) : value}`)];
}

function figure(text, drawing) {
  drawing.setAttribute("role", "img");
  drawing.setAttribute("aria-label", text);
  const node = element("figure", "", element("figcaption", text));
  node.append(drawing);
  return node;
}

function drawTraining(metrics) {
  const names = [...new Set(metrics.flatMap((row) => Object.keys(row)))].filter((name) => name !== "epoch");
  const values = (name) => metrics.map((row) => row[name]).filter((value) => Number.isFinite(value));
  const all = names.flatMap(values);
  if (!all.length) return [];
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const svg = frame(low, high, "0", String(metrics.length - 1));
  names.forEach((name, i) => {
    const step = (WIDTH - LEFT) / Math.max(1, metrics.length - 1);
    const points = metrics.flatMap((row, k) =>
      Number.isFinite(row[name]) ? [`${LEFT + k * step},${height(row[name], low, high)}`] : [],
    );
    svg.append(shape("polyline", { points: points.join(" "), class: `curve curve-${i % 4}` }));
  });
  const last = names.map((name) => `${name} ${writeNumber(values(name).at(-1) ?? NaN)}`).join(", ");
  return [figure(`training by epoch; last: ${last}`, svg)];
}

function drawHistogram(edges, counts) {
  const high = Math.max(1, ...counts);
  const svg = frame(0, high, writeNumber(edges[0]), writeNumber(edges.at(-1)));
  const width = (WIDTH - LEFT) / counts.length;
  counts.forEach((count, i) => {
    const y = height(count, 0, high);
    const size = { width: Math.max(1, width - 1), height: HEIGHT - BOTTOM - y };
    svg.append(shape("rect", { x: LEFT + i * width, y, ...size, class: "bar" }));
  });
  return svg;
}

function height(value, low, high) {
  return 6 + (1 - (value - low) / (high - low || 1)) * (HEIGHT - BOTTOM - 6);
}

function frame(low, high, start, end) {
  const svg = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}` });
  const texts = [
    [LEFT - 4, 14, "end", writeNumber(high)],
    [LEFT - 4, HEIGHT - BOTTOM, "end", writeNumber(low)],
    [LEFT, HEIGHT - 3, "start", start],
    [WIDTH, HEIGHT - 3, "end", end],
  ];
  for (const [x, y, anchor, text] of texts) {
    const node = shape("text", { x, y, "text-anchor": anchor });
    node.textContent = text;
    svg.append(node);
  }
  return svg;
}
