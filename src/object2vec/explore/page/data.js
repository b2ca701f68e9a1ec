const exported = document.getElementById("map.json");

/** Return the metadata of the map. */
export async function loadMap() {
  return exported ? JSON.parse(exported.textContent) : (await fetch("map.json")).json();
}

/** Return an array of the map as an ArrayBuffer. */
export async function loadArray(name) {
  if (!exported) return (await fetch(`arrays/${name}`)).arrayBuffer();
  const bytes = Uint8Array.from(atob(document.getElementById(`arrays/${name}`).textContent), (c) => c.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

/** Return the nearest objects of one, and their distances. */
export async function loadNeighbors(map, row) {
  if (map.live) {
    const headers = { "Content-Type": "application/json" };
    return (await fetch("neighbors", { method: "POST", headers, body: JSON.stringify({ object: row }) })).json();
  }
  const parts = [new Uint32Array(await loadArray("neighbors")), new Float32Array(await loadArray("distances"))];
  const [objects, distances] = parts.map((part) => [...part.subarray(row * 15, row * 15 + 15)]);
  const count = objects.filter((object) => object < map.count).length;
  return { objects: objects.slice(0, count), distances: distances.slice(0, count) };
}
