/** The search field: typing shows matches, Enter goes to one of them. */
import { element } from "./charts.js";

const MAX_MATCHES = 8;

/** Return objects whose title has the text, first those that begin with it. @param {Uint32Array} order By falling count. */
export function findTitles(text, lowered, order) {
  const wanted = text.trim().toLowerCase();
  if (!wanted) return [];
  const [starts, others] = [[], []];
  for (const i of order) {
    const at = lowered[i].indexOf(wanted);
    if (at === 0) starts.push(i);
    else if (at > 0 && others.length < MAX_MATCHES) others.push(i);
    if (starts.length === MAX_MATCHES) break;
  }
  return [...starts, ...others].slice(0, MAX_MATCHES);
}

/** @param {HTMLInputElement} field @param {HTMLElement} list @param {(object: number) => void} choose */
export function listenToSearch(field, list, titles, order, choose) {
  const lowered = titles.map((title) => title.toLowerCase());
  let [matches, active] = [[], 0];
  const show = () => {
    const options = matches.map((object, k) => {
      const option = element("li", titles[object]);
      Object.assign(option, { id: `match-${k}`, role: "option", dir: "auto" });
      option.setAttribute("aria-selected", String(k === active));
      option.addEventListener("pointerdown", (event) => {
        event.preventDefault();
        take(k);
      });
      return option;
    });
    list.replaceChildren(...options);
    list.hidden = !matches.length;
    field.setAttribute("aria-expanded", String(matches.length > 0));
    if (matches.length) field.setAttribute("aria-activedescendant", `match-${active}`);
    else field.removeAttribute("aria-activedescendant");
  };
  const close = () => {
    matches = [];
    show();
  };
  const take = (k) => {
    const object = matches[k];
    if (object === undefined) return;
    field.value = titles[object];
    close();
    choose(object);
  };
  field.addEventListener("input", () => {
    [matches, active] = [findTitles(field.value, lowered, order), 0];
    show();
  });
  field.addEventListener("blur", close);
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter") return take(active);
    if (event.key === "Escape") return close();
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || !matches.length) return;
    event.preventDefault();
    active = (active + step + matches.length) % matches.length;
    show();
  });
}
