/** Points by cells, to find the one that is nearest to a place. */

const POINTS_PER_CELL = 4;

export class Grid {
  /** @param {Float32Array} places x and y of each point, in [-1, 1]. */
  constructor(places) {
    const count = places.length / 2;
    this.places = places;
    this.side = Math.max(1, Math.ceil(Math.sqrt(count / POINTS_PER_CELL)));
    this.starts = new Uint32Array(this.side * this.side + 1);
    this.points = new Uint32Array(count);
    const cells = new Uint32Array(count);
    for (let i = 0; i < count; i++) {
      cells[i] = this.cellOf(places[2 * i + 1]) * this.side + this.cellOf(places[2 * i]);
      this.starts[cells[i] + 1]++;
    }
    for (let i = 0; i < this.starts.length - 1; i++) this.starts[i + 1] += this.starts[i];
    const next = this.starts.slice();
    for (let i = 0; i < count; i++) this.points[next[cells[i]]++] = i;
  }

  cellOf(value) {
    return Math.max(0, Math.min(this.side - 1, Math.floor(((value + 1) / 2) * this.side)));
  }

  /** Return the point nearest to a place within a distance, or -1. @param {(i: number) => boolean} accepts */
  nearest(x, y, distance, accepts) {
    let [found, best] = [-1, distance * distance];
    for (let row = this.cellOf(y - distance); row <= this.cellOf(y + distance); row++) {
      const first = row * this.side + this.cellOf(x - distance);
      const last = row * this.side + this.cellOf(x + distance);
      for (let k = this.starts[first]; k < this.starts[last + 1]; k++) {
        const i = this.points[k];
        const square = (this.places[2 * i] - x) ** 2 + (this.places[2 * i + 1] - y) ** 2;
        if (square <= best && accepts(i)) [found, best] = [i, square];
      }
    }
    return found;
  }
}
