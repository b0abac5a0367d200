"use strict";

// Curves over thresholds, as SVG, with the slider's position.

const SVG = "http://www.w3.org/2000/svg";
const LEFT = 32, RIGHT = 14, TOP = 10, FOOT = 22, LANE = 11;

function svgElement(name, attributes, parent, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  if (parent) parent.append(element);
  return element;
}

/* Draws `series` of {name, colour, mean, spread, refined, best, plateau} into `place`, and lines or diamonds
   at the thresholds that the run `used`; `choose(threshold)` is called while a finger or mouse drags.
   Returns the function that moves the cursor to a position of the slider. */
function drawChart(place, { label, thresholds, series, used = [], height, choose }) {
  const width = Math.max(260, place.clientWidth), lanes = LANE * series.filter((one) => one.plateau).length;
  const bottom = height - FOOT - lanes - (lanes ? 8 : 0), innerRight = width - RIGHT;
  const highest = Math.max(...series.flatMap((one) => [
    ...one.mean.map((v, i) => v + (one.spread ? one.spread[i] : 0)), ...(one.refined ? one.refined.mean : [])]));
  const ceiling = Math.min(100, 20 * Math.ceil(highest / 20 + 0.05));
  const x = (threshold) => LEFT + threshold * (innerRight - LEFT);
  const y = (miou) => bottom - miou / ceiling * (bottom - TOP);
  const svg = svgElement("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  svgElement("title", {}, svg, label);
  for (let miou = 0; miou <= ceiling; miou += 20) {
    svgElement("line", { x1: LEFT, x2: innerRight, y1: y(miou), y2: y(miou), class: "rule" }, svg);
    svgElement("text", { x: LEFT - 7, y: y(miou) + 4, "text-anchor": "end" }, svg, miou);
  }
  for (let tenth = 0; tenth <= 10; tenth += 2)
    svgElement("text", { x: x(tenth / 10), y: height - 5, "text-anchor": "middle" }, svg, (tenth / 10).toFixed(1));
  for (const { threshold, name, method } of used) {
    if (method) continue;
    const line = svgElement("line", { x1: x(threshold), x2: x(threshold), y1: TOP, y2: bottom, class: "used" }, svg);
    svgElement("title", {}, line, `${name} ${threshold.toFixed(2)}`);
  }
  series.forEach((one, lane) => drawSeries(svg, one, thresholds, x, y, bottom + 8 + LANE * lane));
  for (const { threshold, name, method } of used) {
    const one = series.find(({ key }) => method && key === method);
    if (one) drawDiamond(svg, x(threshold), y(valueAt(one.mean, thresholds, threshold)), one.colour, `${name} ${threshold.toFixed(2)}`);
  }
  const now = svgElement("g", {}, svg);
  place.replaceChildren(svg);
  const drag = (event) => {
    const box = svg.getBoundingClientRect();
    choose(((event.clientX - box.left) * width / box.width - LEFT) / (innerRight - LEFT));
  };
  svg.addEventListener("pointerdown", (event) => { svg.setPointerCapture(event.pointerId); drag(event); });
  svg.addEventListener("pointermove", (event) => { if (event.buttons) drag(event); });
  return (position) => {
    now.replaceChildren();
    const at = x(thresholds[position]);
    svgElement("line", { x1: at, x2: at, y1: TOP - 6, y2: height - FOOT + 4, class: "now" }, now);
    for (const one of series)
      svgElement("circle", { cx: at, cy: y(one.mean[position]), r: 5, class: "tint-fill point", style: `--m:${one.colour}` }, now);
  };
}

function valueAt(values, thresholds, threshold) {
  const after = thresholds.findIndex((t) => t >= threshold);
  if (after <= 0) return after === 0 ? values[0] : values[values.length - 1];
  const share = (threshold - thresholds[after - 1]) / (thresholds[after] - thresholds[after - 1]);
  return values[after - 1] + share * (values[after] - values[after - 1]);
}

function drawSeries(svg, { name, colour, mean, spread, refined, best, plateau }, thresholds, x, y, lane) {
  const style = `--m:${colour}`;
  const points = (values) => values.map((v, i) => `${x(thresholds[i]).toFixed(1)},${y(v).toFixed(1)}`);
  if (spread && spread.some((s) => s > 0)) {
    const upper = points(mean.map((v, i) => v + spread[i])), lower = points(mean.map((v, i) => v - spread[i])).reverse();
    svgElement("polygon", { points: [...upper, ...lower].join(" "), class: "tint-fill", style, opacity: 0.18 }, svg);
  }
  if (refined) {
    const line = refined.thresholds.map((t, i) => `${x(t).toFixed(1)},${y(refined.mean[i]).toFixed(1)}`).join(" ");
    svgElement("polyline", { points: line, class: "tint-line refined", style }, svg);
  }
  svgElement("polyline", { points: points(mean).join(" "), class: "tint-line curve", style }, svg);
  for (const [low, high] of plateau || []) {
    const bar = svgElement("rect", { x: x(low), y: lane, width: x(high) - x(low), height: 7, rx: 2, class: "tint-fill", style }, svg);
    svgElement("title", {}, bar, `${name}: within 5 % of its best from ${low.toFixed(2)} to ${high.toFixed(2)}`);
  }
  if (best) {
    const ring = svgElement("circle", { cx: x(best.threshold), cy: y(best.miou), r: 6, class: "tint-line ring", style }, svg);
    svgElement("title", {}, ring, `${name}: best ${best.miou.toFixed(1)} at ${best.threshold.toFixed(3)}`);
  }
}

function drawDiamond(svg, x, y, colour, title) {
  const shape = svgElement("path", { d: `M${x},${y - 7}l7,7l-7,7l-7,-7z`, class: "tint-fill point", style: `--m:${colour}` }, svg);
  svgElement("title", {}, shape, title);
}
