/** The legend: a button per group, which shows only the objects of the chosen groups. */
import { element } from "./charts.js";
import { groupColors } from "./coloring.js";
import { shape } from "./labels.js";

/** @param {HTMLElement} panel @param {import("./coloring.js").Coloring} coloring @param {Set<number>} filter */
export function drawLegend(panel, coloring, filter, theme, change) {
  const colors = groupColors(coloring, theme);
  const buttons = coloring.labels.map((label, group) => {
    const swatch = shape("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" });
    swatch.append(shape("circle", { cx: 5, cy: 5, r: 5, fill: colors[group] }));
    const button = element("button", "", swatch, element("span", label));
    if (!coloring.isOrdered) button.append(element("small", coloring.counts[group].toLocaleString("en")));
    button.title = `${label}: ${coloring.counts[group].toLocaleString("en")} objects`;
    button.type = "button";
    button.setAttribute("aria-pressed", String(filter.has(group)));
    button.addEventListener("click", () => {
      if (!filter.delete(group)) filter.add(group);
      change();
      panel.querySelectorAll("button")[group].focus();
    });
    return button;
  });
  panel.replaceChildren(...(coloring.labels.length > 1 ? buttons : []));
}
