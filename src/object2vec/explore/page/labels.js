/** Names of clusters and titles of objects on the map, placed so that none overlaps another. */

const SVG = "http://www.w3.org/2000/svg";
const MAX_LETTERS = 28;
const MAX_EXAMINED = 20000;
const PIXELS_PER_LABEL = 16000;
const FONTS = { cluster: "600 14px system-ui, sans-serif", title: "12px system-ui, sans-serif" };
const measure = document.createElement("canvas").getContext("2d");

/** @returns {string} The beginning of a text, cut between letters. */
export function shorten(text, length = MAX_LETTERS) {
  const letters = Array.from(text.slice(0, 4 * length));
  return letters.length > length ? `${letters.slice(0, length - 1).join("")}…` : letters.join("");
}

/** Return labels with boxes. Candidates come in order of importance; one without a free place gets none.
 * @param {{kind: string, text: string, x: number, y: number}[]} candidates In pixels.
 * @param {{width: number, height: number}} area @param {number[][]} taken Boxes that no label covers. */
export function placeLabels(candidates, area, taken = []) {
  const boxes = [...taken];
  const placed = [];
  const most = Math.max(8, (area.width * area.height) / PIXELS_PER_LABEL);
  for (const candidate of candidates) {
    if (placed.length >= most) break;
    measure.font = FONTS[candidate.kind];
    const [width, height] = [Math.ceil(measure.measureText(candidate.text).width) + 8, 18];
    for (const [left, top] of offsets(candidate.kind, width, height)) {
      const box = [candidate.x + left, candidate.y + top, candidate.x + left + width, candidate.y + top + height];
      const isInside = box[0] >= 2 && box[1] >= 2 && box[2] <= area.width - 2 && box[3] <= area.height - 2;
      if (!isInside || boxes.some((other) => overlaps(box, other))) continue;
      boxes.push(box);
      placed.push({ ...candidate, box });
      break;
    }
  }
  return placed;
}

function offsets(kind, width, height) {
  if (kind === "cluster") return [0, -22, 22, -44, 44].map((down) => [-width / 2, down - height / 2]);
  const near = [[12, -height / 2], [-12 - width, -height / 2], [-width / 2, -14 - height], [-width / 2, 14]];
  return [...near, [16, -24 - height / 2], [16, 24 - height / 2], [-16 - width, -24 - height / 2]];
}

function overlaps(a, b) {
  return a[0] < b[2] + 2 && b[0] < a[2] + 2 && a[1] < b[3] + 1 && b[1] < a[3] + 1;
}

/** Return the objects in the window, the most frequent first. @param {Uint32Array} order Objects by falling count. */
export function frequentObjects(order, places, camera, accepts) {
  const found = [];
  for (let k = 0; k < order.length && k < MAX_EXAMINED && found.length < 200; k++) {
    const i = order[k];
    if (!accepts(i)) continue;
    const [x, y] = camera.toScreen(places[2 * i], places[2 * i + 1]);
    if (x > 0 && y > 0 && x < camera.width && y < camera.height) found.push({ object: i, x, y });
  }
  return found;
}

/** Draw labels, lines to their dots, lines to neighbors and rings as SVG. @param {SVGElement} svg */
export function drawLabels(svg, labels, lines, rings) {
  const nodes = lines.map(([x1, y1, x2, y2]) => shape("line", { x1, y1, x2, y2, class: "neighbor" }));
  for (const [cx, cy, kind] of rings) nodes.push(shape("circle", { cx, cy, r: 9, class: `ring ${kind}` }));
  for (const { kind, text, box, x, y } of labels) {
    const [left, top, right, bottom] = box;
    const end = [Math.min(right, Math.max(left, x)), Math.min(bottom, Math.max(top, y))];
    if (kind === "title") nodes.push(shape("line", { x1: x, y1: y, x2: end[0], y2: end[1], class: "leader" }));
    const node = shape("text", { x: (left + right) / 2, y: bottom - 5, class: kind, "text-anchor": "middle" });
    node.textContent = text;
    nodes.push(node);
  }
  svg.replaceChildren(...nodes);
}

/** @returns {SVGElement} An element of SVG with attributes. */
export function shape(name, attributes) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

/** Return a PNG of the points with all that the SVG shows. @returns {Promise<Blob>} */
export function toPng(points, svg, camera, style) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: points.width, height: points.height });
  const pen = canvas.getContext("2d");
  pen.fillStyle = style.getPropertyValue("--background");
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(points, 0, 0);
  pen.scale(camera.ratio, camera.ratio);
  for (const node of svg.children) {
    const look = getComputedStyle(node);
    const value = (name) => Number(node.getAttribute(name));
    pen.strokeStyle = look.stroke;
    pen.lineWidth = parseFloat(look.strokeWidth);
    pen.beginPath();
    if (node.tagName === "line") {
      pen.moveTo(value("x1"), value("y1"));
      pen.lineTo(value("x2"), value("y2"));
      pen.stroke();
    } else if (node.tagName === "circle") {
      pen.arc(value("cx"), value("cy"), value("r"), 0, 7);
      pen.stroke();
    } else {
      [pen.font, pen.textAlign, pen.fillStyle] = [`${look.fontWeight} ${look.fontSize} system-ui`, "center", look.fill];
      pen.strokeText(node.textContent, value("x"), value("y"));
      pen.fillText(node.textContent, value("x"), value("y"));
    }
  }
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}
