"use strict";

// The curves of the whole dataset, as SVG, with the slider's position.

const SVG = "http://www.w3.org/2000/svg";

function svgElement(name, attributes, parent, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  if (parent) parent.append(element);
  return element;
}

/* Draws the curves into `place`; `choose(threshold)` is called while a finger or mouse drags. */
function drawChart(place, data, choose) {
  const methods = data.methods.filter((method) => method.curve);
  const width = Math.max(300, place.clientWidth), lanes = 13 * methods.length;
  const left = 34, right = 12, top = 12, height = Math.round(Math.min(330, 190 + width / 8)) + lanes;
  const bottom = height - 34 - lanes;
  const highest = Math.max(...methods.flatMap((m) => [
    ...m.curve.mean.map((v, i) => v + m.curve.spread[i]), ...(m.curve.refined ? m.curve.refined.mean : [])]));
  const ceiling = Math.min(100, 10 * Math.ceil(highest / 10 + 0.1));
  const x = (threshold) => left + threshold * (width - left - right);
  const y = (miou) => bottom - miou / ceiling * (bottom - top);
  const svg = svgElement("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  svgElement("title", {}, svg, "mIoU of the whole dataset against the background threshold");
  for (let miou = 0; miou <= ceiling; miou += ceiling > 50 ? 20 : 10) {
    svgElement("line", { x1: left, x2: width - right, y1: y(miou), y2: y(miou), class: "rule" }, svg);
    svgElement("text", { x: left - 8, y: y(miou) + 4, "text-anchor": "end" }, svg, miou);
  }
  for (let tenth = 0; tenth <= 10; tenth += 2)
    svgElement("text", { x: x(tenth / 10), y: height - 6, "text-anchor": "middle" }, svg, (tenth / 10).toFixed(1));
  for (const { threshold, name, method } of data.used) {
    const colour = data.methods.find(({ key }) => key === method)?.colour;
    const style = colour ? { stroke: colour, opacity: 0.55 } : { class: "rule" };
    const line = svgElement("line", { x1: x(threshold), x2: x(threshold), y1: top, y2: bottom, "stroke-dasharray": "5 4", "stroke-width": 2, ...style }, svg);
    svgElement("title", {}, line, `${name}: ${threshold.toFixed(2)}`);
  }
  methods.forEach((method, lane) => drawMethod(svg, method, data.thresholds, x, y, bottom + 12 + 13 * lane));
  const now = svgElement("g", {}, svg);
  place.replaceChildren(svg);
  const drag = (event) => {
    const box = svg.getBoundingClientRect();
    choose(((event.clientX - box.left) * width / box.width - left) / (width - left - right));
  };
  svg.addEventListener("pointerdown", (event) => { svg.setPointerCapture(event.pointerId); drag(event); });
  svg.addEventListener("pointermove", (event) => { if (event.buttons) drag(event); });
  return (position) => {
    now.replaceChildren();
    const threshold = data.thresholds[position], at = x(threshold);
    svgElement("line", { x1: at, x2: at, y1: top - 6, y2: height - 24, class: "now" }, now);
    for (const method of methods)
      svgElement("circle", { cx: at, cy: y(method.curve.mean[position]), r: 5, fill: method.colour, stroke: "var(--card)", "stroke-width": 2 }, now);
  };
}

function drawMethod(svg, method, thresholds, x, y, lane) {
  const { mean, spread, refined, best, plateau } = method.curve, colour = method.colour;
  const points = (values) => values.map((v, i) => `${x(thresholds[i]).toFixed(1)},${y(v).toFixed(1)}`);
  if (spread.some((s) => s > 0)) {
    const upper = points(mean.map((v, i) => v + spread[i])), lower = points(mean.map((v, i) => v - spread[i])).reverse();
    svgElement("polygon", { points: [...upper, ...lower].join(" "), fill: colour, opacity: 0.16 }, svg);
  }
  svgElement("polyline", { points: points(mean).join(" "), fill: "none", stroke: colour, "stroke-width": 2.5, "stroke-linejoin": "round" }, svg);
  if (refined) {
    const line = refined.thresholds.map((t, i) => `${x(t).toFixed(1)},${y(refined.mean[i]).toFixed(1)}`).join(" ");
    svgElement("polyline", { points: line, fill: "none", stroke: colour, "stroke-width": 1.6, "stroke-dasharray": "2 4", "stroke-linecap": "round" }, svg);
  }
  const star = svgElement("circle", { cx: x(best.threshold), cy: y(best.miou), r: 6, fill: "none", stroke: colour, "stroke-width": 2 }, svg);
  svgElement("title", {}, star, `${method.name}: oracle ${best.miou.toFixed(1)} at ${best.threshold.toFixed(3)}`);
  const half = thresholds.length > 1 ? (thresholds[1] - thresholds[0]) / 2 : 0;
  thresholds.forEach((t, i) => {
    if (!plateau[i]) return;
    svgElement("rect", { x: x(t - half), y: lane, width: x(2 * half) - x(0) + 0.4, height: 7, fill: colour, opacity: 0.75 }, svg);
  });
}
