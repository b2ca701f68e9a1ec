import { loadMap, loadArray, loadNeighbors } from "./data.js";

// Okabe and Ito's colors, which color-blind people tell apart.
const COLORS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999"];
const element = (id) => document.getElementById(id);

const map = await loadMap();
const points = new Float32Array(await loadArray(`projection-${map.projections[0].name}`));
const clusters = new Int16Array(await loadArray("cluster"));
const titles = new TextDecoder().decode(await loadArray("titles")).split("\n");
const canvas = element("map");
let chosen = { row: -1, near: [] };

function place(row) {
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  return [((points[2 * row] + 1) / 2) * (width - 20) + 10, ((1 - points[2 * row + 1]) / 2) * (height - 20) + 10];
}

function draw() {
  canvas.width = canvas.clientWidth * devicePixelRatio;
  canvas.height = canvas.clientHeight * devicePixelRatio;
  const context = canvas.getContext("2d");
  context.scale(devicePixelRatio, devicePixelRatio);
  for (let row = 0; row < map.count; row++) {
    context.fillStyle = COLORS[Math.max(clusters[row], 0) % COLORS.length];
    const [x, y] = place(row);
    context.fillRect(x - 1.5, y - 1.5, 3, 3);
  }
  context.strokeStyle = COLORS[5];
  for (const near of chosen.near) {
    context.beginPath();
    context.moveTo(...place(chosen.row));
    context.lineTo(...place(near));
    context.stroke();
  }
}

async function choose(row) {
  const found = await loadNeighbors(map, row);
  chosen = { row, near: found.objects };
  element("chosen").textContent = titles[row] || "(no title)";
  element("nearest").replaceChildren(...found.objects.map((near, at) => {
    const line = document.createElement("tr");
    for (const text of [titles[near] || "(no title)", found.distances[at].toFixed(3)]) {
      line.appendChild(document.createElement("td")).textContent = text;
    }
    return line;
  }));
  draw();
}

function chooseNearest(event) {
  const squared = (row) => {
    const [x, y] = place(row);
    return (x - event.offsetX) ** 2 + (y - event.offsetY) ** 2;
  };
  let best = 0;
  for (let row = 1; row < map.count; row++) if (squared(row) < squared(best)) best = row;
  choose(best);
}

function search(event) {
  const text = event.target.value.toLowerCase();
  const found = [];
  for (let row = 0; row < map.count && found.length < 20; row++) if (titles[row].toLowerCase().includes(text)) found.push(row);
  element("matches").replaceChildren(...found.map((row) => Object.assign(document.createElement("option"), { value: titles[row] })));
  if (event.type === "change" && found.length) choose(found[0]);
}

element("title").textContent = `${map.count.toLocaleString("en")} objects of ${map.side}, ${map.model}`;
const facts = [`${map.projections[0].label} keeps ${(100 * map.projections[0].neighbors_kept).toFixed(1)} % of neighbors`];
for (const { column, share, chance } of map.statistics.agreement) {
  if (share !== null && chance !== null) facts.push(`Nearest share ${column}: ${(100 * share).toFixed(0)} %, by chance ${(100 * chance).toFixed(0)} %`);
}
element("facts").replaceChildren(...facts.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
canvas.addEventListener("click", chooseNearest);
for (const type of ["input", "change"]) element("search").addEventListener(type, search);
addEventListener("resize", draw);
draw();
