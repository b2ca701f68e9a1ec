/** The panel that says what is selected, as text and tables. */
import { element } from "./charts.js";
import { writeNumber } from "./coloring.js";
import { shorten } from "./labels.js";

const MAX_SHOWN = 300;

/** @returns {HTMLElement} A title, shortened, in its own direction. */
export function titleNode(name, title, object) {
  const node = element(name, shorten(title, MAX_SHOWN) || `object ${object}`);
  node.dir = "auto";
  return node;
}

/** @param {HTMLElement} panel @param {{title: string, object: number, count: number, values: [string, string][]}} selected */
export function showObject(panel, { title, object, count, values }) {
  const list = element("dl");
  for (const [name, value] of [...values, ["count", String(count)]]) {
    if (!value) continue;
    const content = element("dd", shorten(value, MAX_SHOWN));
    content.dir = "auto";
    list.append(element("dt", name), content);
  }
  panel.replaceChildren(titleNode("h2", title, object), list);
}

/** @param {{objects: number[], distances: number[]}} neighbors @param {(object: number) => void} choose */
export function neighborTable(caption, neighbors, titles, choose) {
  const head = element("tr", "", element("th", "object"), element("th", "distance"));
  const table = element("table", "", element("caption", caption), element("thead", "", head));
  const body = element("tbody");
  neighbors.objects.forEach((object, k) => {
    const button = titleNode("button", titles[object], object);
    button.type = "button";
    button.addEventListener("click", () => choose(object));
    body.append(element("tr", "", element("td", "", button), element("td", writeNumber(neighbors.distances[k]))));
  });
  table.append(body);
  return table;
}

/** @param {{score: number, kind?: string}} reply @returns {string} The score of a pair, or its cosine. */
export function describeScore({ score, kind = "score" }) {
  return `${kind} ${writeNumber(score)}`;
}

/** Fill a form with a field per column of a side. @returns {() => Record<string, any>} Reads the values. */
export function rawValueForm(form, fields, prefix) {
  const inputs = fields.map((field, k) => {
    const input = element("input");
    Object.assign(input, { id: `${prefix}-${k}`, autocomplete: "off" });
    const label = element("label", field.kind === "list" ? `${field.column} (separated by commas)` : field.column);
    label.htmlFor = input.id;
    form.append(label, input);
    return input;
  });
  const button = element("button", form.dataset.button);
  button.type = "submit";
  form.append(button);
  return () =>
    Object.fromEntries(
      fields.flatMap(({ column, kind }, k) => {
        const text = inputs[k].value.trim();
        if (!text) return [];
        return [[column, kind === "list" ? text.split(",").map((part) => part.trim()) : text]];
      }),
    );
}
