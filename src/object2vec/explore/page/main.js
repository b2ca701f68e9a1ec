/** Join the parts of the page: the map, its legend, the search and the panels. */
import { Camera, clamp, listenToMovements } from "./camera.js";
import { drawJudgement, element } from "./charts.js";
import { colorByColumn, colorByIndex, colorByNumber, colorNothing, loadDescriber, paint, writeNumber } from "./coloring.js";
import { ask, loadArray, loadLines, loadMap } from "./data.js";
import { describeScore, neighborTable, rawValueForm, showObject, titleNode } from "./details.js";
import { Grid } from "./grid.js";
import { drawLabels, frequentObjects, placeLabels, shorten, toPng } from "./labels.js";
import { drawLegend } from "./legend.js";
import { readLink, writeLink } from "./link.js";
import { Renderer } from "./renderer.js";
import { listenToSearch } from "./search.js";

const NEIGHBORS = 15;
const PICK_PIXELS = 14;
/** Points that a movement draws without a graphics card, in less than a tenth of a second. */
const MOVING_POINTS = 60000;
const SETTLE_MILLISECONDS = 200;
const POLL_MILLISECONDS = 1000;
const $ = (id) => document.getElementById(id);

/** All that the page shows; one object, because every part redraws from it. */
const state = {
  camera: new Camera(), filter: new Set(), selected: -1, second: -1, placed: null, neighbors: null, hovered: -1,
  choosesSecond: false, coloring: null, projection: "", partner: null, scores: null, scoreKind: "score",
};
let map, count, titles, counts, clusters, order, places, grid, renderer, shown;
const columnParts = new Map();

async function start() {
  map = await loadMap();
  count = map.count;
  $("title").textContent = document.title = `${map.model}: map of ${count.toLocaleString("en")} objects`;
  renderer = new Renderer($("points"));
  const link = readLink();
  const wanted = map.projections.find(({ name }) => name === link.p) ?? map.projections[0];
  await showProjection(wanted.name);
  setColoring(colorNothing(count));
  listen();
  resize();
  goHome();
  [titles, counts, clusters] = await Promise.all([
    loadLines("titles", count),
    loadArray("count").then((bytes) => new Uint32Array(bytes)),
    loadArray("cluster").then((bytes) => new Int16Array(bytes)),
  ]);
  order = Uint32Array.from({ length: count }, (_, i) => i).sort((a, b) => counts[b] - counts[a] || a - b);
  showSizes();
  fillChoices();
  listenToSearch($("search"), $("matches"), titles, order, visit);
  drawJudgement($("judgement"), map, titleButton);
  await restore(link);
  document.documentElement.dataset.ready = "yes";
  if (map.pending) setTimeout(poll, POLL_MILLISECONDS);
}

async function restore(link) {
  if (link.c && [...$("color").options].some(({ value }) => value === link.c)) $("color").value = link.c;
  if (link.t && map.live) state.partner = JSON.parse(link.t);
  await chooseColoring();
  if (link.f) state.filter = new Set(link.f.split(",").map(Number));
  recolor();
  if (Number(link.s) >= 0 && Number(link.s) < count && link.s) await select(Number(link.s), !link.z);
  const view = [link.x, link.y, link.z].map(Number);
  if (link.z && view.every(Number.isFinite)) Object.assign(state.camera, { x: view[0], y: view[1], zoom: view[2] });
  if (Number(link.b) >= 0 && link.b && map.live) await compare(Number(link.b));
  redraw();
}

async function showProjection(name) {
  places = new Float32Array(await loadArray(`projection-${name}`));
  state.projection = name;
  grid = new Grid(places);
  renderer.upload("position", places, 2);
  if (!counts) renderer.upload("size", new Float32Array(count).fill(1), 1);
  redraw();
}

/** Show most of the points, as at the start. */
function goHome() {
  const [x, y, zoom] = state.camera.viewOf(places);
  Object.assign(state.camera, { x, y, zoom, flight: null });
  redraw();
}

function showSizes() {
  const high = Math.log1p(counts[order[0]] ?? 0) || 1;
  const bySize = $("sized").checked;
  renderer.upload("size", Float32Array.from(counts, (n) => (bySize ? 0.6 + 1.6 * (Math.log1p(n) / high) ** 2 : 1)), 1);
  redraw();
}

function theme() {
  const own = document.documentElement.dataset.theme;
  return own ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
}

function setColoring(coloring) {
  state.coloring = coloring;
  state.filter = new Set();
  recolor();
}

function recolor() {
  const painted = paint(state.coloring, state.filter, theme());
  shown = painted.shown;
  renderer.upload("first", painted.first, 4);
  renderer.upload("second", painted.second, 4);
  drawLegend($("legend"), state.coloring, state.filter, theme(), recolor);
  redraw();
}

function fillChoices() {
  const choices = [["", "one color"]];
  if (map.clusters?.length) choices.push(["clusters", "cluster"]);
  map.columns.forEach(({ name, kind }, k) => kind !== "text" && choices.push([`column-${k}`, name]));
  const sides = [map.side, map.sides.find((side) => side !== map.side)];
  const [raw, other] = sides.map((side) => (map.live ? (map.fields ?? []) : []).filter((field) => field.side === side));
  if (map.live) choices.push(["scores", "score"]);
  $("color").replaceChildren(...choices.map(([value, text]) => Object.assign(element("option", text), { value })));
  const own = map.columns.findIndex(({ kind }) => kind === "list" || kind === "category");
  $("color").value = own >= 0 ? `column-${own}` : (choices[1] ?? choices[0])[0];
  fillProjections();
  offerForm("raw", raw, place);
  offerForm("partner", other, (values) => {
    state.partner = values;
    $("color").value = "scores";
    return colorByScores();
  });
}

/** Show a form of raw values, if there are fields. @param {(values: object) => Promise<void>} send */
function offerForm(id, fields, send) {
  $(id).hidden = !fields.length;
  const read = rawValueForm($(`${id}-form`), fields, id);
  $(`${id}-form`).addEventListener("submit", (event) => {
    event.preventDefault();
    report(() => send(read()));
  });
}

function fillProjections() {
  const options = map.projections.map(({ name, label }) => Object.assign(element("option", label ?? name), { value: name }));
  $("projection").replaceChildren(...options);
  $("projection").value = state.projection;
}

async function chooseColoring() {
  const value = $("color").value;
  if (value === "clusters") return setColoring(colorByIndex("cluster", clusters, map.clusters.map(({ name }) => name)));
  if (value === "scores") return colorByScores();
  if (!value) return setColoring(colorNothing(count));
  const number = Number(value.slice("column-".length));
  setColoring(await colorByColumn(map.columns[number], number, count));
}

async function colorByScores() {
  const isPair = !state.partner && state.selected >= 0;
  if (!isPair && !state.partner) throw new Error("The score needs an object: select one, or type values.");
  const reply = await ask("scores", isPair ? { object: state.selected } : { values: state.partner });
  state.scores = new Float32Array(await reply.arrayBuffer());
  state.scoreKind = reply.headers.get("Score-Kind") ?? "score";
  setColoring(colorByNumber(state.scoreKind, state.scores, writeNumber));
  if (state.selected >= 0) await showSelected();
}

async function select(object, flies = false) {
  if (state.choosesSecond && state.selected >= 0) return compare(object);
  Object.assign(state, { selected: object, second: -1, neighbors: null, placed: null });
  $("pair").textContent = "";
  openPanel(true);
  const neighbors = await neighborsOf(object);
  if (state.selected !== object) return;
  state.neighbors = neighbors;
  if (flies) flyTo(places[2 * object], places[2 * object + 1], neighbors.objects);
  await showSelected();
  $("selected").scrollIntoView({ block: "nearest" });
  redraw();
  if ($("color").value === "scores" && !state.partner) await colorByScores();
}

/** Fly to a place, and show most of its neighbors around it. @param {number[]} near */
function flyTo(x, y, near) {
  const far = near.map((i) => Math.hypot(places[2 * i] - x, places[2 * i + 1] - y)).sort((a, b) => a - b);
  const radius = far[Math.floor(far.length * 0.8)] ?? 0.1;
  state.camera.fly(x, y, clamp(0.9 / radius, 1.5, 60), redrawMovement);
}

/** Show what is known of the selected object. */
async function showSelected() {
  const { selected: object, neighbors, scores } = state;
  const values = await describe(object);
  if (scores) values.unshift([state.scoreKind, writeNumber(scores[object])]);
  if (state.selected !== object || !neighbors) return;
  showObject($("selected"), { title: titles[object], object, count: counts[object], values });
  $("neighbors").replaceChildren(neighborTable(`${neighbors.objects.length} nearest`, neighbors, titles, visit));
  $("actions").hidden = !(map.live);
}

/** Select an object and fly there; in a choice of two, it is the second one. */
function visit(object) {
  return report(() => select(object, true));
}

async function describe(object) {
  const cluster = map.clusters?.[clusters[object]]?.name ?? "";
  const pairs = map.columns.map(async (column, k) => {
    if (!columnParts.has(k)) columnParts.set(k, loadDescriber(column, k, count));
    return column.name === map.title_column ? [column.name, ""] : [column.name, (await columnParts.get(k))(object)];
  });
  return [...(await Promise.all(pairs)), ["cluster", cluster]];
}

async function neighborsOf(object) {
  if (map.live) return (await ask("neighbors", { object })).json();
  const [objects, distances] = await Promise.all([loadArray("neighbors"), loadArray("distances")]);
  const part = (values) => Array.from(values.subarray(object * NEIGHBORS, (object + 1) * NEIGHBORS));
  const near = part(new Uint32Array(objects)).filter((row) => row < count);
  return { objects: near, distances: part(new Float32Array(distances)).slice(0, near.length) };
}

async function compare(object) {
  state.choosesSecond = false;
  $("compare").setAttribute("aria-pressed", "false");
  state.second = object;
  const reply = await (await ask("score", { a: state.selected, b: object })).json();
  $("pair").textContent = `With ${shorten(titles[object], 80)}: ${describeScore(reply)}`;
  redraw();
}

async function place(values) {
  const found = await (await ask("place", { side: map.side, values })).json();
  Object.assign(state, { placed: [found.x, found.y], selected: -1, second: -1, neighbors: found.neighbors });
  $("selected").replaceChildren(element("h2", "Your values"));
  $("neighbors").replaceChildren(neighborTable("Nearest", found.neighbors, titles, visit));
  $("actions").hidden = true;
  flyTo(found.x, found.y, found.neighbors.objects);
}

function titleButton(object) {
  const button = Object.assign(titleNode("button", titles[object], object), { type: "button" });
  button.addEventListener("click", () => visit(object));
  return button;
}

/** Run work, and show its error as a message. */
async function report(work) {
  $("message").textContent = "";
  try {
    await work();
  } catch (error) {
    $("message").textContent = error.message;
  }
}

async function poll() {
  const before = map.projections.map(({ name }) => name);
  await report(async () => (map = await loadMap()));
  const progress = map.pending ? `${map.pending.name}: ${Math.round(100 * map.pending.progress)} %` : "";
  $("progress").textContent = progress;
  const added = map.projections.find(({ name }) => !before.includes(name));
  if (added && state.projection === "pca") {
    await showProjection(added.name);
    goHome();
  }
  fillProjections();
  drawJudgement($("judgement"), map, titleButton);
  if (map.pending) setTimeout(poll, POLL_MILLISECONDS);
}

/** Draw a movement: with some of the points, if they are many, and with all of them when it ends. */
function redrawMovement() {
  if (renderer.isSoftware && count > MOVING_POINTS) {
    clearTimeout(redrawMovement.timer);
    redrawMovement.timer = setTimeout(() => {
      redrawMovement.timer = 0;
      redraw();
    }, SETTLE_MILLISECONDS);
  }
  redraw();
}

const waiting = { points: false, labels: false };

/** Draw everything in the next frame. */
function redraw() {
  waiting.points = true;
  redrawLabels();
}

/** Draw the labels in the next frame; the points stay as they are. */
function redrawLabels() {
  if (!waiting.labels) requestAnimationFrame(draw);
  waiting.labels = true;
}

function draw() {
  if (waiting.points) drawPoints();
  Object.assign(waiting, { points: false, labels: false });
  if (titles) drawTexts();
}

function drawPoints() {
  const { camera } = state;
  const crowded = Math.min(1, Math.sqrt((camera.width * camera.height) / count) / 18);
  const size = Math.max(1, Math.min(9, 7 * crowded * Math.sqrt(camera.zoom)));
  renderer.draw(camera, size, redrawMovement.timer ? MOVING_POINTS : count);
  if (!performance.getEntriesByName("first-points").length) performance.mark("first-points");
}

/** Draw labels, rings and lines, and save the view in the address. */
function drawTexts() {
  const { camera, selected, second, placed, neighbors, hovered } = state;
  const at = (i) => camera.toScreen(places[2 * i], places[2 * i + 1]);
  const origin = placed ? camera.toScreen(...placed) : selected >= 0 ? at(selected) : null;
  const near = neighbors && origin ? neighbors.objects : [];
  const rings = [[origin, "selected"], [second >= 0 && at(second), "second"], [hovered >= 0 && at(hovered), "hovered"]];
  const candidates = [selected, hovered, second].filter((i) => i >= 0).concat(near).map((i) => titleAt(i, ...at(i)));
  if (camera.zoom < 8) candidates.push(...clusterNames());
  const frequent = frequentObjects(order, places, camera, (i) => shown[i]);
  candidates.push(...frequent.map(({ object, x, y }) => titleAt(object, x, y)));
  const unique = new Map(candidates.map((one) => [`${one.kind} ${one.object}`, one]));
  const own = [...unique.values()].filter(({ text }) => text);
  const lines = near.map((i) => [...origin, ...at(i)]);
  const circles = rings.filter(([middle]) => middle).map(([middle, kind]) => [...middle, kind]);
  drawLabels($("labels"), placeLabels(own, camera, [searchBox()]), lines, circles);
  clearTimeout(saveLink.timer);
  saveLink.timer = setTimeout(saveLink, 300);
}

/** Return the box of the search field, which no label may cover. */
function searchBox() {
  const { left, top, right, bottom } = $("bar").getBoundingClientRect();
  return [left, top, right, bottom];
}

function titleAt(object, x, y) {
  return { kind: "title", object, text: shorten(titles[object]), x, y };
}

/** Return the name of each cluster at the median of its objects. */
function clusterNames() {
  if (clusterNames.places !== places) {
    clusterNames.places = places;
    const members = (map.clusters ?? []).map(() => [[], []]);
    clusters.forEach((cluster, i) => [0, 1].forEach((axis) => members[cluster]?.[axis].push(places[2 * i + axis])));
    clusterNames.centers = members.map((axes) => axes.map((values) => values.sort((a, b) => a - b)[values.length >> 1]));
  }
  return clusterNames.centers.flatMap(([x, y], object) => {
    const [left, top] = state.camera.toScreen(x, y);
    return x === undefined ? [] : [{ kind: "cluster", object, text: shorten(map.clusters[object].name, 36), x: left, y: top }];
  });
}

function saveLink() {
  const { camera, selected, second, filter, projection } = state;
  const [x, y, z] = [camera.x, camera.y, camera.zoom].map((value) => Number(value.toPrecision(5)));
  writeLink({ p: projection, x, y, z, c: $("color").value, f: [...filter].join(","), s: selected, b: second, t: state.partner && JSON.stringify(state.partner) });
}

function pick(left, top, distance = PICK_PIXELS) {
  const { camera } = state;
  return grid.nearest(...camera.toMap(left, top), distance / camera.scale, (i) => shown[i]);
}

function openPanel(opens) {
  document.body.classList.toggle("open", opens);
  $("panel-button").setAttribute("aria-expanded", String(opens));
}

function resize() {
  const box = $("map").getBoundingClientRect();
  Object.assign(state.camera, { width: box.width, height: box.height, ratio: Math.min(2, devicePixelRatio) });
  redraw();
}

function listen() {
  const hover = (left, top) => {
    const object = left < 0 || !titles ? -1 : pick(left, top);
    if (object === state.hovered) return;
    state.hovered = object;
    redrawLabels();
  };
  const choose = (left, top, shift, byKey) => {
    const object = titles ? pick(left, top, byKey ? 200 : PICK_PIXELS) : -1;
    if (object < 0) return;
    report(() => (shift && state.selected >= 0 && map.live ? compare(object) : select(object)));
  };
  listenToMovements($("map"), state.camera, { redraw: redrawMovement, hover, choose, home: goHome });
  new ResizeObserver(resize).observe($("map"));
  $("points").addEventListener("redraw", redraw);
  $("color").addEventListener("change", () => report(chooseColoring));
  $("projection").addEventListener("change", () => report(() => showProjection($("projection").value).then(goHome)));
  $("sized").addEventListener("change", showSizes);
  $("panel-button").addEventListener("click", () => openPanel(!document.body.classList.contains("open")));
  $("compare").addEventListener("click", () => {
    state.choosesSecond = !state.choosesSecond;
    $("compare").setAttribute("aria-pressed", String(state.choosesSecond));
  });
  $("taste").addEventListener("click", () => {
    Object.assign(state, { partner: null });
    $("color").value = "scores";
    report(colorByScores);
  });
  $("theme").addEventListener("click", () => {
    document.documentElement.dataset.theme = theme() === "dark" ? "light" : "dark";
    recolor();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolor);
  $("picture").addEventListener("click", () => report(savePicture));
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && event.target.tagName !== "INPUT") {
      event.preventDefault();
      $("search").focus();
    }
  });
}

async function savePicture() {
  clearTimeout(redrawMovement.timer);
  redrawMovement.timer = 0;
  drawPoints();
  const blob = await toPng($("points"), $("labels"), state.camera, getComputedStyle(document.documentElement));
  const anchor = Object.assign(element("a"), { href: URL.createObjectURL(blob), download: `${map.model}.png` });
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(anchor.href), 1000);
}

report(start);
