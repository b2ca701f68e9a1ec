/** What a column says of each object, as groups that have a color and a place in the legend. */
import { loadArray, loadLines } from "./data.js";

/** Colors of Okabe and Ito, which color-blind people can tell apart; yellow is darker on a light page. */
const CATEGORIES = {
  light: ["#0072b2", "#d55e00", "#009e73", "#c255a0", "#56b4e9", "#e69f00", "#8a7a00", "#5b3fa0"],
  dark: ["#4aa8e8", "#ff8a3c", "#2fc79a", "#e58cc4", "#9ad8ff", "#ffc14d", "#f0e442", "#a99bff"],
};
/** Steps of cividis, from low to high; the dark page leaves out the darkest. */
const STEPS = {
  light: ["#00204d", "#26456e", "#575d6d", "#7c7b78", "#a59c74", "#c7b450", "#e8cb1c"],
  dark: ["#3b6bb0", "#6f8fb8", "#939fae", "#b0ad9c", "#cdbd80", "#e6d05a", "#ffea46"],
};
const REST = { light: "#8b8f97", dark: "#7d838d" };
export const NONE = 255;

/** @typedef {{name: string, isOrdered: boolean, labels: string[], counts: number[],
 *   first: Uint8Array, second: Uint8Array, includes: (i: number, groups: Set<number>) => boolean}} Coloring */

/** @param {Coloring} coloring @param {"light"|"dark"} theme @returns {string[]} A color of each group. */
export function groupColors(coloring, theme) {
  if (coloring.isOrdered) return coloring.labels.map((_, i) => STEPS[theme][i] ?? REST[theme]);
  return coloring.labels.map((_, i) => CATEGORIES[theme][i] ?? REST[theme]);
}

/** Return one group with all objects. @param {number} count @returns {Coloring} */
export function colorNothing(count) {
  return colorByIndex("", new Uint8Array(count), ["all"]);
}

/** Color by an index of a value; the most frequent values get a color of their own. */
export function colorByIndex(name, index, values) {
  const { groupOf, labels } = rankValues(index, values);
  const first = Uint8Array.from(index, (value) => groupOf(value));
  return finish({ name, isOrdered: false, labels, first, second: first });
}

/** Color by several values of each object: two halves for the first two of them. */
export function colorByLists(name, offsets, index, values) {
  const { groupOf, labels } = rankValues(index, values);
  const count = offsets.length - 1;
  const [first, second] = [new Uint8Array(count).fill(NONE), new Uint8Array(count).fill(NONE)];
  const masks = new Uint16Array(count);
  for (let i = 0; i < count; i++) {
    for (let k = offsets[i]; k < offsets[i + 1]; k++) {
      const group = groupOf(index[k]);
      if (group === NONE || masks[i] & (1 << group)) continue;
      if (!masks[i]) first[i] = group;
      else if (second[i] === NONE) second[i] = group;
      masks[i] |= 1 << group;
    }
    if (second[i] === NONE) second[i] = first[i];
  }
  const includes = (i, groups) => (masks[i] ? [...groups].some((group) => masks[i] & (1 << group)) : groups.has(NONE));
  const found = finish({ name, isOrdered: false, labels, first, second });
  found.counts = labels.map((_, group) => masks.reduce((sum, mask) => sum + ((mask >> group) & 1), 0));
  return Object.assign(found, { includes });
}

/** Color by a number: ranges that hold about the same number of objects. @param {(n: number) => string} write */
export function colorByNumber(name, values, write) {
  const known = Float32Array.from(values.filter((value) => Number.isFinite(value))).sort();
  const steps = STEPS.light.length;
  const edges = [];
  for (let step = 1; step < steps; step++) {
    const edge = known[Math.floor((step * known.length) / steps)];
    if (edge > (edges.at(-1) ?? known[0])) edges.push(edge);
  }
  const bounds = [known[0], ...edges, known.at(-1)];
  const groupOf = (value) => (Number.isFinite(value) ? edges.filter((edge) => value >= edge).length : NONE);
  const first = Uint8Array.from(values, groupOf);
  const labels = known.length ? bounds.slice(1).map((end, i) => `${write(bounds[i])} – ${write(end)}`) : [];
  return finish({ name, isOrdered: true, labels, first, second: first });
}

/** @param {any} column @param {number} number Place of the column. @returns {Promise<Coloring>} */
export async function colorByColumn(column, number, count) {
  const array = () => loadArray(`column-${number}`);
  if (column.kind === "category") return colorByIndex(column.name, new Uint16Array(await array()), column.values);
  if (column.kind === "list") {
    const offsets = new Uint32Array(await loadArray(`column-${number}-offsets`));
    return colorByLists(column.name, offsets, new Uint16Array(await array()), column.values);
  }
  if (column.kind === "text") throw new Error(`${column.name} is a text of ${count} objects, which has no color`);
  return colorByNumber(column.name, new Float32Array(await array()), writerOf(column.kind));
}

/** @returns {Promise<(i: number) => string>} What a column says of an object, as text. */
export async function loadDescriber(column, number, count) {
  if (column.kind === "text") {
    const lines = await loadLines(`column-${number}`, count);
    return (i) => lines[i];
  }
  const bytes = await loadArray(`column-${number}`);
  if (column.kind === "category") {
    const index = new Uint16Array(bytes);
    return (i) => column.values[index[i]] ?? "";
  }
  if (column.kind === "list") {
    const [index, offsets] = [new Uint16Array(bytes), new Uint32Array(await loadArray(`column-${number}-offsets`))];
    return (i) => Array.from(index.subarray(offsets[i], offsets[i + 1]), (value) => column.values[value]).join(", ");
  }
  const [values, write] = [new Float32Array(bytes), writerOf(column.kind)];
  return (i) => (Number.isFinite(values[i]) ? write(values[i]) : "");
}

/** @returns {string} A number with few digits; years keep all of theirs. */
export function writeNumber(value) {
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(3)));
}

function writerOf(kind) {
  return kind === "date" ? (days) => new Date(days * 86400000).toISOString().slice(0, 10) : writeNumber;
}

function rankValues(index, values) {
  const counts = new Float64Array(values.length);
  for (const value of index) if (value < values.length) counts[value]++;
  const order = Array.from(counts.keys()).sort((a, b) => counts[b] - counts[a] || a - b);
  const own = order.slice(0, CATEGORIES.light.length);
  const labels = own.map((value) => values[value]);
  const hasRest = order.length > own.length;
  if (hasRest) labels.push("other values");
  const groups = new Uint8Array(values.length).fill(hasRest ? own.length : NONE);
  own.forEach((value, group) => (groups[value] = group));
  return { labels, groupOf: (value) => groups[value] ?? NONE };
}

function finish(coloring) {
  const counts = coloring.labels.map(() => 0);
  for (const group of coloring.first) if (group !== NONE) counts[group]++;
  return { ...coloring, counts, includes: (i, groups) => groups.has(coloring.first[i]) };
}

/** Return the bytes of the colors of all points. @returns {{first: Uint8Array, second: Uint8Array, shown: Uint8Array}} */
export function paint(coloring, filter, theme) {
  const palette = [...groupColors(coloring, theme)];
  palette[NONE] = REST[theme];
  const bytes = palette.map((color) => [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16)));
  const count = coloring.first.length;
  const [first, second] = [new Uint8Array(4 * count), new Uint8Array(4 * count)];
  const shown = new Uint8Array(count);
  for (let i = 0; i < count; i++) {
    shown[i] = filter.size === 0 || coloring.includes(i, filter) ? 1 : 0;
    const a = bytes[shown[i] ? coloring.first[i] : NONE];
    const b = bytes[shown[i] ? coloring.second[i] : NONE];
    const alpha = shown[i] ? 215 : 22;
    first.set(a, 4 * i);
    second.set(b, 4 * i);
    first[4 * i + 3] = second[4 * i + 3] = alpha;
  }
  return { first, second, shown };
}
