"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const state = { image: 0, position: 0, views: null, request: 0 };
let moveChart = () => {};

function node(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const colours = () => (byId("safe").checked ? data.colours.safe : data.colours.voc);
const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
const percent = (share) => (share > 0 && share < 0.0995 ? (100 * share).toFixed(1) : Math.round(100 * share)) + " %";
const nearest = (threshold) => {
  let best = 0;
  data.thresholds.forEach((t, i) => { if (Math.abs(t - threshold) < Math.abs(data.thresholds[best] - threshold)) best = i; });
  return best;
};
const heat = Array.from({ length: 256 }, (_, value) => {
  const at = value / 255 * (data.heat.length - 1), low = Math.min(Math.floor(at), data.heat.length - 2);
  const first = rgb(data.heat[low]), second = rgb(data.heat[low + 1]);
  return first.map((v, i) => v + (second[i] - v) * (at - low));
});

/* ---- what stands still ---- */

function build() {
  byId("run").textContent = `${data.run} · ${data.split} · trial ${data.trial}`;
  byId("threshold").max = data.thresholds.length - 1;
  byId("rule").textContent = data.rule;
  byId("outline-option").hidden = !data.truth;
  const cards = byId("cards");
  cards.append(card("photo", "Photo", data.truth ? ["photo", "ground truth"] : ["photo"]));
  for (const method of data.methods) cards.append(card(method.key, method.name, ["activation", "mask"], method.colour));
  const groups = new Map();
  data.images.forEach((image, i) => {
    if (!groups.has(image.group)) {
      const title = image.gain === null ? "" : `${image.group[0].toUpperCase()}${image.group.slice(1)} gain`;
      const thumbs = node("div", { class: "thumbs" });
      groups.set(image.group, thumbs);
      byId("strip").append(node("div", { class: "group" }, ...(title ? [node("h3", {}, title)] : []), thumbs));
    }
    const gain = image.gain === null ? image.id : `${image.gain < 0 ? "−" : "+"}${Math.abs(image.gain).toFixed(1)}`;
    const picture = node("img", { src: image.photo, alt: "" });
    const button = node("button", { type: "button", "aria-label": `Image ${image.id}${image.gain === null ? "" : `, gain ${gain} points`}` }, picture, gain);
    button.addEventListener("click", () => showImage(i));
    groups.get(image.group).append(button);
  });
  const jumps = data.methods.filter((method) => method.curve).map((method) => {
    const { threshold, miou } = method.curve.best;
    const button = node("button", { type: "button" }, node("span", { class: "dot", style: `background:${method.colour}` }), `${method.name} best ${threshold.toFixed(3)}`);
    button.title = `mIoU ${miou.toFixed(1)}: an oracle's choice, as it needs ground truth`;
    button.addEventListener("click", () => showThreshold(nearest(threshold)));
    return button;
  });
  byId("jumps").append(...(jumps.length ? ["oracle:", ...jumps] : []));
  byId("chart-section").hidden = !data.methods.some((method) => method.curve);
}

function card(key, title, views, colour) {
  const dot = colour ? [node("span", { class: "dot", style: `background:${colour}` })] : [];
  const heading = node("h3", {}, node("span", {}, ...dot, title), node("b", {}));
  const figures = views.map((view) => node("figure", {}, node("canvas", { role: "img", "data-view": view }), node("figcaption", {}, view)));
  return node("section", { class: "card", "data-method": key, "aria-label": title }, heading, node("div", { class: "views" }, ...figures), node("ul", { class: "counts" }));
}

function drawCurves() {
  if (byId("chart-section").hidden) return;
  moveChart = drawChart(byId("chart"), data, (threshold) => showThreshold(nearest(threshold)));
  moveChart(state.position);
}

/* ---- one image ---- */

async function showImage(number) {
  const request = ++state.request;
  state.image = (number + data.images.length) % data.images.length;
  const entry = data.images[state.image];
  const [photo, planes] = await Promise.all([bitmapOf(entry.photo), planesOf(entry)]);
  if (request !== state.request) return;
  const truth = data.truth ? planes.shift() : null;
  const zoom = Math.max(1, Math.min(4, Math.ceil(560 / entry.width)));
  const cut = truth && truth.map((label) => (label === 255 ? 0 : label));
  state.views = {
    entry, photo, truth, zoom,
    outline: truth && bordersOf(cut, entry.width, entry.height),
    methods: data.methods.map((method, i) => ({ method, passed: planes[2 * i], winner: planes[2 * i + 1] })),
  };
  byId("strip").querySelectorAll("button").forEach((button, i) => {
    button.setAttribute("aria-current", i === state.image);
  });
  draw();
}

function draw() {
  const { entry, photo, truth, zoom, methods } = state.views;
  const canvas = (key, view) => {
    const found = document.querySelector(`[data-method="${key}"] [data-view="${view}"]`);
    found.width = entry.width * zoom;
    found.height = entry.height * zoom;
    const context = found.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(photo, 0, 0, found.width, found.height);
    return [found, context];
  };
  const names = entry.labels.map((label) => data.classes[label]).join(", ") || "no object";
  byId("image-title").textContent = `${entry.id}: ${names}`;
  const [plain, plainContext] = canvas("photo", "photo");
  plain.setAttribute("aria-label", `Photo ${entry.id} with ${names}`);
  stroke(plainContext);
  if (truth) {
    const [element, context] = canvas("photo", "ground truth");
    lay(context, truth, entry);
    element.setAttribute("aria-label", `Ground truth: ${describe(countsOf(truth), truth.length)}`);
  }
  const seen = new Set(truth ? [...countsOf(truth).keys()] : []);
  for (const label of [0, ...entry.labels]) seen.add(label);
  drawLegend([...seen].sort((a, b) => a - b));
  for (const { method, passed, winner } of methods) drawMethodCard(method, passed, winner, canvas);
  if (truth) drawCounts(document.querySelector('[data-method="photo"]'), countsOf(truth), truth.length);
  document.documentElement.dataset.ready = `${entry.id} ${data.thresholds[state.position]}`;
}

function drawMethodCard(method, passed, winner, canvas) {
  const { entry, truth } = state.views;
  const threshold = data.thresholds[state.position];
  const mask = maskAt(passed, winner, state.position), counts = countsOf(mask);
  const place = document.querySelector(`[data-method="${method.key}"]`);
  const [heated, heatContext] = canvas(method.key, "activation");
  layHeat(heatContext, passed, entry);
  strokePath(heatContext, bordersOf(mask, entry.width, entry.height), 1.1, "#ffffff");
  heated.setAttribute("aria-label", `Activation of ${method.name}; the line is at ${threshold.toFixed(3)}`);
  const [masked, maskContext] = canvas(method.key, "mask");
  lay(maskContext, mask, entry);
  stroke(maskContext);
  const iou = truth ? imageIou(truth, mask) : null;
  const said = iou === null ? "" : `; IoU ${iou.toFixed(1)} %`;
  masked.setAttribute("aria-label", `Mask of ${method.name} at threshold ${threshold.toFixed(3)}: ${describe(counts, mask.length)}${said}`);
  place.querySelector("h3 b").textContent = iou === null ? "" : `IoU ${iou.toFixed(1)}`;
  place.dataset.counts = JSON.stringify(Object.fromEntries(counts));
  place.dataset.iou = iou === null ? "" : iou;
  drawCounts(place, counts, mask.length);
}

function drawCounts(place, counts, pixels) {
  const labels = [...counts.keys()].sort((a, b) => a - b);
  place.querySelector(".counts").replaceChildren(...labels.map((label) => node("li", {},
    node("span", {}, swatch(label), label === 255 ? "not counted" : data.classes[label]),
    node("span", {}, `${counts.get(label).toLocaleString("en")} px · ${percent(counts.get(label) / pixels)}`))));
}

function describe(counts, pixels) {
  return [...counts].map(([label, count]) => `${label === 255 ? "not counted" : data.classes[label]} ${percent(count / pixels)}`).join(", ");
}

function swatch(label) {
  return node("span", { class: "swatch", style: `background:${label === 0 ? "transparent" : label === 255 ? "#9ca3af" : colours()[label]}` });
}

function drawLegend(labels) {
  const items = labels.filter((label) => label !== 0 && label !== 255).map((label) => node("li", {}, swatch(label), data.classes[label]));
  if (data.truth) items.push(node("li", {}, node("span", { class: "swatch outlined" }), "true outline"));
  const bar = node("span", { class: "heat", style: `background:linear-gradient(90deg,${data.heat.join(",")})` });
  items.push(node("li", {}, "activation 0", bar, "1"));
  byId("legend").replaceChildren(...items);
  const curves = data.methods.filter((method) => method.curve).map((method) => {
    const { mean, best, plateau_share: share } = method.curve, now = mean[state.position];
    return node("li", {}, node("span", { class: "dot", style: `background:${method.colour}` }), node("b", {}, `${method.name} ${now.toFixed(1)}`),
      ` here, oracle ${best.miou.toFixed(1)}, plateau ${Math.round(100 * share)} %`);
  });
  byId("chart-legend").replaceChildren(...curves, node("li", {}, "○ best · bars: within 5 % of it · dotted: after CRF · dashed: used by this run"));
  byId("chart-title").textContent = `mIoU of all images of ${data.split} at threshold ${data.thresholds[state.position].toFixed(3)}`;
}

/* ---- layers ---- */

function layer(context, entry, fill) {
  const small = new OffscreenCanvas(entry.width, entry.height), paint = small.getContext("2d");
  const image = paint.createImageData(entry.width, entry.height);
  fill(image.data);
  paint.putImageData(image, 0, 0);
  return small;
}

function lay(context, mask, entry) {
  const palette = colours().map(rgb);
  const small = layer(context, entry, (pixels) => {
    for (let i = 0; i < mask.length; i++) {
      const label = mask[i], colour = label === 255 ? [148, 163, 184] : palette[label];
      pixels.set(label === 0 ? [10, 14, 22, 120] : [...colour, 165], 4 * i);
    }
  });
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 0, 0, context.canvas.width, context.canvas.height);
}

function layHeat(context, passed, entry) {
  const most = data.thresholds.length;
  const small = layer(context, entry, (pixels) => {
    for (let i = 0; i < passed.length; i++) {
      const share = passed[i] / most, [red, green, blue] = heat[Math.round(255 * share)];
      pixels.set([red, green, blue, 120 + 110 * share], 4 * i);
    }
  });
  context.imageSmoothingEnabled = true;
  context.drawImage(small, 0, 0, context.canvas.width, context.canvas.height);
}

function stroke(context) {
  if (!state.views.outline || !byId("outline").checked) return;
  strokePath(context, state.views.outline, 4.2, "rgb(0 0 0 / 65%)");
  strokePath(context, state.views.outline, 2, "#ffffff");
}

function strokePath(context, path, thickness, colour) {
  const { zoom } = state.views, scale = context.canvas.width / 560;
  context.save();
  context.scale(zoom, zoom);
  context.lineWidth = thickness * scale / zoom;
  context.lineCap = "round";
  context.strokeStyle = colour;
  context.stroke(path);
  context.restore();
}

/* ---- what moves ---- */

function showThreshold(position) {
  state.position = Math.max(0, Math.min(data.thresholds.length - 1, position));
  const text = data.thresholds[state.position].toFixed(3), slider = byId("threshold");
  slider.value = state.position;
  slider.setAttribute("aria-valuetext", text);
  byId("value").textContent = text;
  if (state.views) draw();
  moveChart(state.position);
  remember();
}

let remembering = 0;
function remember() {
  clearTimeout(remembering);
  remembering = setTimeout(() => {
    const link = `#image=${encodeURIComponent(data.images[state.image].id)}&t=${data.thresholds[state.position]}`;
    // A page opened from a data address, as inside a report, may not change its address.
    try { history.replaceState(null, "", link); } catch { return; }
    byId("live").textContent = [...document.querySelectorAll('[data-view="mask"]')].map((view) => view.getAttribute("aria-label")).join(". ");
  }, 150);
}

function recall() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  const found = data.images.findIndex((image) => image.id === wanted.get("image"));
  const threshold = parseFloat(wanted.get("t"));
  showThreshold(nearest(Number.isFinite(threshold) ? threshold : data.used.length ? data.used[0].threshold : 0.3));
  return showImage(found < 0 ? 0 : found);
}

function onKey(event) {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const step = event.shiftKey ? 10 : 1;
  const keys = {
    ArrowLeft: () => showThreshold(state.position - step),
    ArrowRight: () => showThreshold(state.position + step),
    Home: () => showThreshold(0),
    End: () => showThreshold(data.thresholds.length - 1),
    ArrowUp: () => showImage(state.image - 1).then(remember),
    ArrowDown: () => showImage(state.image + 1).then(remember),
  };
  if (!keys[event.key]) return;
  event.preventDefault();
  keys[event.key]();
}

function start() {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const root = document.documentElement;
  root.dataset.theme = dark ? "dark" : "light";
  byId("theme").addEventListener("click", () => { root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark"; });
  build();
  byId("threshold").addEventListener("input", (event) => showThreshold(Number(event.target.value)));
  byId("previous").addEventListener("click", () => showImage(state.image - 1).then(remember));
  byId("next").addEventListener("click", () => showImage(state.image + 1).then(remember));
  for (const option of ["outline", "safe"]) byId(option).addEventListener("change", draw);
  addEventListener("keydown", onKey);
  addEventListener("hashchange", recall);
  let width = 0;
  new ResizeObserver(() => {
    if (byId("chart").clientWidth !== width) { width = byId("chart").clientWidth; drawCurves(); }
  }).observe(byId("chart"));
  recall().then(drawCurves);
}

start();
