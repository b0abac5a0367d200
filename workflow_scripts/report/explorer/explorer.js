"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const state = { image: 0, position: 0, views: null, request: 0 };
const move = { all: () => {}, one: () => {} };
const measured = data.methods.filter((method) => method.curve);

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

const signed = (gain) => `${gain < 0 ? "−" : "+"}${Math.abs(gain).toFixed(1)}`;
/* A class name in its own direction of writing, whatever stands around it. */
const bdi = (text) => node("bdi", {}, text);
const dot = (colour, shape = "") => node("span", { class: `dot ${shape}`, style: `--m:${colour}` });

/* ---- what stands still ---- */

function build() {
  byId("run").textContent = `${data.run} · ${data.split} · trial ${data.trial}`;
  byId("threshold").max = data.thresholds.length - 1;
  byId("rule").textContent = data.rule;
  byId("outline-option").hidden = !data.truth;
  const cards = byId("cards");
  cards.append(card("photo", "Photo", data.truth ? ["photo", "ground truth"] : ["photo"]));
  for (const method of data.methods) cards.append(card(method.key, method.name, ["activation", "mask"], method.colour));
  buildThumbs();
  buildJumps();
  byId("chart-section").hidden = !measured.length;
  byId("stage").classList.toggle("wide", measured.length > 0 && data.methods.length <= 3);
  if (!measured.length) return;
  const shares = measured.map(({ name, curve }, i) => `${name} ${i ? "at" : "is within 5 % of its best mIoU at"} ${Math.round(100 * curve.plateau_share)} %`);
  byId("finding").textContent = `On all ${data.count} images, ${shares.join(", ")} of the thresholds (coloured bars).`;
  byId("rail").append(...measured.map(({ colour, curve }) => {
    const bars = curve.plateau.map(([low, high]) => {
      const [left, right] = [low, high].map(along);
      return node("i", { style: `left:${left}%;width:${right - left}%` });
    });
    return node("div", { class: "bar", style: `--m:${colour}` }, ...bars);
  }));
  const key = [["block", "within 5 % of the best"], ["line dotted", `after ${data.refinement}`]]
    .map(([shape, text]) => node("li", {}, node("span", { class: `swatch ${shape}` }), text));
  const marks = [["ring", "best, which needs ground truth", true], ["diamond", "chosen without", data.used.some(({ method }) => method)],
    ["dashes", "used by this run", data.used.some(({ method }) => !method)]];
  const shown = marks.filter(([, , there]) => there).map(([shape, text]) => node("li", {}, dot("var(--soft)", shape), text));
  byId("chart-legend").append(...shown, ...key);
  if (measured.some(({ curve }) => curve.spread.some((s) => s > 0))) byId("chart-legend").append("band: standard deviation over trials");
}

/* Where a threshold lies along the slider, in percent. */
function along(threshold) {
  const first = data.thresholds[0], last = data.thresholds[data.thresholds.length - 1];
  return Math.max(0, Math.min(100, 100 * (threshold - first) / (last - first)));
}

function buildThumbs() {
  const groups = new Map();
  data.images.forEach((image, i) => {
    if (!groups.has(image.group)) {
      const title = image.gain === null ? "" : `${image.group[0].toUpperCase()}${image.group.slice(1)} gain, points of IoU`;
      const thumbs = node("div", { class: "thumbs" });
      groups.set(image.group, thumbs);
      byId("strip").append(node("div", { class: "group" }, ...(title ? [node("h3", {}, title)] : []), thumbs));
    }
    const gain = image.gain === null ? image.id : signed(image.gain);
    const picture = node("img", { src: image.photo, alt: "" });
    const button = node("button", { type: "button", "aria-label": `Image ${image.id}${image.gain === null ? "" : `, gain ${gain} points`}` }, picture, gain);
    button.addEventListener("click", () => showImage(i));
    groups.get(image.group).append(button);
  });
}

/* Buttons that move the slider to thresholds that mean something. */
function buildJumps() {
  const jump = (mark, text, threshold, title) => {
    const button = node("button", { type: "button", title }, mark, `${text} ${threshold.toFixed(3).replace(/0$/, "")}`);
    button.addEventListener("click", () => showThreshold(nearest(threshold)));
    return button;
  };
  const oracles = measured.map(({ name, colour, curve: { best } }) =>
    jump(dot(colour, "ring"), `${name} best`, best.threshold, `mIoU ${best.miou.toFixed(1)}: an oracle's choice, as it needs ground truth`));
  const chosen = data.used.map(({ name, threshold, method }) => {
    const colour = data.methods.find(({ key }) => key === method)?.colour;
    return colour ? jump(dot(colour, "diamond"), name, threshold, "chosen without ground truth, and used by this run")
      : jump(dot("", "dashes"), "used", threshold, "pseudo-masks of this run are made at it");
  });
  if (oracles.length + chosen.length) byId("jumps").append(node("span", {}, "Go to"), ...oracles, ...chosen);
}

function card(key, title, views, colour) {
  const mark = colour ? [dot(colour)] : [];
  const heading = node("h3", {}, node("span", {}, ...mark, title), node("b", {}));
  const figures = views.map((view) => node("figure", {}, node("canvas", { role: "img", "data-view": view }), node("figcaption", {}, view)));
  return node("section", { class: "card", "data-method": key, "aria-label": title }, heading, node("div", { class: "views" }, ...figures), node("ul", { class: "counts" }));
}

function drawCurves() {
  if (!measured.length || !byId("chart").clientWidth) return;
  const choose = (threshold) => showThreshold(nearest(threshold)), narrow = innerWidth < 640;
  const { thresholds, used } = data;
  const series = measured.map(({ key, name, colour, curve }) => ({ key, name, colour, ...curve }));
  const label = "mIoU of all images against the background threshold";
  move.all = drawChart(byId("chart"), { label, thresholds, used, series, choose, height: narrow ? 240 : 290 });
  move.all(state.position);
  const own = state.views ? state.views.methods.filter(({ iou }) => iou).map(({ method: { name, colour }, iou }) => ({ name, colour, mean: iou })) : [];
  byId("image-chart").hidden = byId("image-chart-title").hidden = !own.length;
  move.one = () => {};
  if (!own.length) return;
  move.one = drawChart(byId("image-chart"), { label: "IoU of this image against the background threshold", thresholds, series: own, choose, height: narrow ? 140 : 160 });
  move.one(state.position);
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
    methods: data.methods.map((method, i) => {
      const passed = planes[2 * i], winner = planes[2 * i + 1];
      return { method, passed, winner, iou: truth && iouCurve(truth, winner, passed, data.thresholds.length) };
    }),
  };
  byId("strip").querySelectorAll("button").forEach((button, i) => {
    button.setAttribute("aria-current", i === state.image);
  });
  draw();
  drawCurves();
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
  const gain = entry.gain === null ? "" : `${entry.group} gain, ${signed(entry.gain)} points`;
  const isolated = entry.labels.flatMap((label, i) => (i ? [", ", bdi(data.classes[label])] : [bdi(data.classes[label])]));
  byId("image-title").replaceChildren(...(isolated.length ? isolated : [names]), node("small", {}, [entry.id, gain].filter(Boolean).join(" · ")));
  byId("place").textContent = `${state.image + 1} of ${data.images.length}`;
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
  heated.nextSibling.textContent = "activation; line: threshold";
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
    node("span", {}, swatch(label), label === 255 ? "not counted" : bdi(data.classes[label])),
    node("span", {}, node("span", { class: "pixels" }, `${counts.get(label).toLocaleString("en")} px · `), percent(counts.get(label) / pixels)))));
}

function describe(counts, pixels) {
  return [...counts].map(([label, count]) => `${label === 255 ? "not counted" : data.classes[label]} ${percent(count / pixels)}`).join(", ");
}

function swatch(label) {
  return node("span", { class: "swatch", style: `background:${label === 0 ? "transparent" : label === 255 ? "#9ca3af" : colours()[label]}` });
}

function drawLegend(labels) {
  const items = labels.filter((label) => label !== 0 && label !== 255).map((label) => node("li", {}, swatch(label), bdi(data.classes[label])));
  if (data.truth) items.push(node("li", {}, node("span", { class: "swatch outlined" }), "true outline"));
  const bar = node("span", { class: "heat", style: `background:linear-gradient(90deg,${data.heat.join(",")})` });
  items.push(node("li", {}, "activation 0", bar, "1"));
  byId("legend").replaceChildren(...items);
}

/* How every method does on all images at the slider's threshold. */
function drawFigures() {
  byId("chart-title").textContent = `All ${data.count} images: mIoU at ${data.thresholds[state.position].toFixed(3)}, %`;
  const head = node("tr", {}, ...["", "here", "best", "thresholds within 5 %"].map((text) => node("th", { scope: "col" }, text)));
  byId("figures").replaceChildren(head, ...measured.map(({ name, colour, curve }) => node("tr", {},
    node("td", {}, dot(colour), name),
    node("td", {}, curve.mean[state.position].toFixed(1)),
    node("td", {}, `${curve.best.miou.toFixed(1)} at ${curve.best.threshold.toFixed(3)}`),
    node("td", {}, `${Math.round(100 * curve.plateau_share)} %`))));
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
  strokePath(context, state.views.outline, 3.6, "rgb(0 0 0 / 65%)");
  strokePath(context, state.views.outline, 1.7, "#ffffff");
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
  drawFigures();
  move.all(state.position);
  move.one(state.position);
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

/* Nothing asked for: neither the best nor the worst image, but one from the middle. */
function typical() {
  return Math.max(0, data.images.findIndex(({ group }) => group === "median"));
}

/* Show what a link asks for. A link that was followed says so itself: the address may hold what the page
   had before by now, as remember() writes it a little later. */
function recall(link) {
  const wanted = new URLSearchParams(link.slice(1));
  const found = data.images.findIndex((image) => image.id === wanted.get("image"));
  const threshold = parseFloat(wanted.get("t"));
  showThreshold(nearest(Number.isFinite(threshold) ? threshold : data.used.length ? data.used[0].threshold : 0.3));
  return showImage(found < 0 ? typical() : found);
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
  addEventListener("hashchange", ({ newURL }) => recall(new URL(newURL).hash));
  let width = 0;
  new ResizeObserver(() => {
    if (byId("chart").clientWidth !== width) { width = byId("chart").clientWidth; drawCurves(); }
  }).observe(byId("chart"));
  recall(location.hash);
}

start();
