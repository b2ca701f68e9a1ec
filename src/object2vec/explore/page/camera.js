/** The part of the map that the window shows, and the movements that change it. */

const MAX_ZOOM = 2000;
/** Share of points on each side that may be outside of the first view, and share of the window that the others fill. */
const OUTLIERS = 0.001;
const FILLED = 0.86;
const FLIGHT_MILLISECONDS = 350;

export class Camera {
  constructor() {
    Object.assign(this, { x: 0, y: 0, zoom: 1, width: 1, height: 1, ratio: 1 });
  }

  /** Pixels of a unit of the map. */
  get scale() {
    return Math.max(40, Math.min(this.width, this.height)) * 0.46 * this.zoom;
  }

  /** @returns {[number, number]} Pixels of a place of the map. */
  toScreen(x, y) {
    return [this.width / 2 + (x - this.x) * this.scale, this.height / 2 - (y - this.y) * this.scale];
  }

  /** @returns {[number, number]} The place of a pixel. */
  toMap(left, top) {
    return [this.x + (left - this.width / 2) / this.scale, this.y - (top - this.height / 2) / this.scale];
  }

  pan(right, down) {
    this.x = clamp(this.x - right / this.scale, -1.5, 1.5);
    this.y = clamp(this.y + down / this.scale, -1.5, 1.5);
  }

  /** Zoom, and keep the place under a pixel where it is. */
  zoomAt(factor, left = this.width / 2, top = this.height / 2) {
    const [x, y] = this.toMap(left, top);
    this.zoom = clamp(this.zoom * factor, 0.5, MAX_ZOOM);
    const [newX, newY] = this.toMap(left, top);
    this.x += x - newX;
    this.y += y - newY;
  }

  /** Return the view that shows most of the points. @param {Float32Array} places @returns {[number, number, number]} */
  viewOf(places) {
    const step = 2 * Math.max(1, Math.floor(places.length / 20000));
    const [x, y] = [0, 1].map((axis) => {
      const values = Float32Array.from({ length: Math.ceil(places.length / step) }, (_, k) => places[k * step + axis]);
      values.sort();
      const edge = Math.floor(values.length * OUTLIERS);
      return [values[edge], values[values.length - 1 - edge]];
    });
    const base = this.scale / this.zoom;
    const fit = ([low, high], pixels) => (FILLED * pixels) / (Math.max(0.02, high - low) * base);
    return [(x[0] + x[1]) / 2, (y[0] + y[1]) / 2, Math.min(fit(x, this.width), fit(y, this.height))];
  }

  /** Move to a place in steps. @param {() => void} redraw */
  fly(x, y, zoom, redraw) {
    const start = [this.x, this.y, Math.log(this.zoom)];
    const goal = [x, y, Math.log(clamp(zoom, 0.5, MAX_ZOOM))];
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const began = performance.now();
    const flight = (this.flight = {});
    const step = () => {
      if (this.flight !== flight) return;
      const part = still ? 1 : clamp((performance.now() - began) / FLIGHT_MILLISECONDS, 0, 1);
      const eased = part * part * (3 - 2 * part);
      const [nowX, nowY, nowZoom] = start.map((value, i) => value + (goal[i] - value) * eased);
      Object.assign(this, { x: nowX, y: nowY, zoom: Math.exp(nowZoom) });
      if (part < 1) requestAnimationFrame(step);
      else this.flight = null;
      redraw();
    };
    step();
  }
}

/** Let pointer, wheel and keys move the camera. @param {HTMLElement} element @param {Camera} camera */
export function listenToMovements(element, camera, { redraw, hover, choose, home }) {
  const pointers = new Map();
  let moved = 0;
  element.addEventListener("pointerdown", (event) => {
    camera.flight = null;
    element.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    if (pointers.size === 1) moved = 0;
  });
  element.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return hover(event.offsetX, event.offsetY);
    const oldSpread = spread(pointers);
    pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    const [right, down] = [event.offsetX - before[0], event.offsetY - before[1]];
    moved += Math.hypot(right, down);
    camera.pan(right / pointers.size, down / pointers.size);
    if (pointers.size === 2 && oldSpread) camera.zoomAt(spread(pointers) / oldSpread, ...middle(pointers));
    redraw();
  });
  element.addEventListener("pointerup", (event) => {
    if (pointers.size === 1 && moved < 5) choose(event.offsetX, event.offsetY, event.shiftKey);
    pointers.delete(event.pointerId);
  });
  element.addEventListener("pointercancel", (event) => pointers.delete(event.pointerId));
  element.addEventListener("pointerleave", () => hover(-1, -1));
  const zoomByWheel = (event) => {
    event.preventDefault();
    camera.flight = null;
    camera.zoomAt(Math.exp(-clamp(event.deltaY, -200, 200) * 0.003), event.offsetX, event.offsetY);
    redraw();
  };
  element.addEventListener("wheel", zoomByWheel, { passive: false });
  element.addEventListener("keydown", (event) => {
    const step = 60;
    const keys = {
      ArrowLeft: () => camera.pan(step, 0),
      ArrowRight: () => camera.pan(-step, 0),
      ArrowUp: () => camera.pan(0, step),
      ArrowDown: () => camera.pan(0, -step),
      "+": () => camera.zoomAt(1.4),
      "=": () => camera.zoomAt(1.4),
      "-": () => camera.zoomAt(1 / 1.4),
      0: home,
      Enter: () => choose(camera.width / 2, camera.height / 2, event.shiftKey, true),
    };
    if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    camera.flight = null;
    keys[event.key]();
    redraw();
  });
}

function spread(pointers) {
  const [a, b] = [...pointers.values()];
  return b ? Math.hypot(a[0] - b[0], a[1] - b[1]) : 0;
}

function middle(pointers) {
  const [a, b] = [...pointers.values()];
  return [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];
}

/** @returns {number} The value within its bounds. */
export function clamp(value, low, high) {
  return Math.min(high, Math.max(low, value));
}
