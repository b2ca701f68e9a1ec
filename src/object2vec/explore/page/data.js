/** Metadata, arrays and answers of the model: from the server, or from the file itself in an export. */

/** @returns {Promise<any>} The metadata of the map. */
export async function loadMap() {
  const inline = document.getElementById("map.json");
  return inline ? JSON.parse(inline.textContent) : (await checkedFetch("map.json", { cache: "no-store" })).json();
}

/** @param {string} name @returns {Promise<ArrayBuffer>} The bytes of an array. */
export async function loadArray(name) {
  const inline = document.getElementById(`arrays/${name}`);
  if (!inline) return (await checkedFetch(`arrays/${encodeURIComponent(name)}`)).arrayBuffer();
  const bytes = Uint8Array.from(atob(inline.textContent.trim()), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

/** @param {string} name @param {number} count @returns {Promise<string[]>} One text of each object. */
export async function loadLines(name, count) {
  const lines = new TextDecoder().decode(await loadArray(name)).split("\n");
  return Array.from({ length: count }, (_, row) => lines[row] ?? "");
}

/** Send a question to the model. @param {string} name @param {object} body @returns {Promise<Response>} */
export function ask(name, body) {
  return checkedFetch(name, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
}

async function checkedFetch(address, options) {
  const reply = await fetch(address, options);
  if (reply.ok) return reply;
  const text = await reply.text();
  let message = `${address}: status ${reply.status}`;
  try {
    message = JSON.parse(text).error ?? message;
  } catch {
    // The reply is not JSON; the status says enough.
  }
  throw new Error(message);
}
