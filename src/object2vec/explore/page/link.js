/** The part of the address after #, which restores a view. */

/** @returns {Record<string, string>} The settings in the address. */
export function readLink() {
  return Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
}

/** Write settings into the address, without a new entry of the history. @param {Record<string, any>} settings */
export function writeLink(settings) {
  const known = Object.entries(settings).filter(([, value]) => value !== "" && value != null && value !== -1);
  const text = new URLSearchParams(known.map(([name, value]) => [name, String(value)])).toString();
  if (text !== location.hash.slice(1)) history.replaceState(null, "", `#${text}`);
}
