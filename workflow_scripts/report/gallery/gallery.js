"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const state = { page: 0, ticked: new Set() };

function node(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/* A class name in its own direction of writing, whatever stands around it. */
const bdi = (text) => node("bdi", {}, text);
const signed = (gain, digits = 1) => `${gain < 0 ? "−" : "+"}${Math.abs(gain).toFixed(digits)}`;
const LOOK = "largest expected gain of a correction first", APART = "where the judged sets differ most first";
const placeOf = (image) => (image.look ? image.look.place : Infinity);
const differenceOf = (image) => (image.look?.difference ?? -1);
const ORDERS = {
  "largest gain first": (a, b) => b.gain - a.gain,
  "smallest gain first": (a, b) => a.gain - b.gain,
  [LOOK]: (a, b) => placeOf(a) - placeOf(b),
  [APART]: (a, b) => differenceOf(b) - differenceOf(a),
  "by name": (a, b) => (a.id < b.id ? -1 : 1),
};

function chosen() {
  const wanted = byId("class").value, split = byId("split").value, order = byId("order").value;
  return data.images
    .filter((image) => (!wanted || image.labels.includes(wanted)) && (!split || image.split === split))
    .filter((image) => image.look || (order !== LOOK && order !== APART))
    .sort(ORDERS[order]);
}

function figureOf(image, name, { title, uri }) {
  const picture = node("img", { src: uri, alt: `${name} ${title} of ${image.id}`.trim() });
  return node("figure", { "data-kind": title }, picture, node("figcaption", {}, title));
}

function card(image) {
  const facts = [[image.split], image.labels.length ? image.labels.flatMap((name, i) => (i ? [", ", bdi(name)] : [bdi(name)])) : ["no object"]];
  if (image.gain !== null) facts.push([`gain ${signed(image.gain)} points`]);
  const [given, ...methods] = image.rows.map(({ name, pictures }) => {
    const figures = pictures.map((picture) => figureOf(image, name, picture));
    if (!name) return node("div", { class: "given" }, ...figures);
    const iou = image.iou[name] === undefined ? "" : `IoU ${image.iou[name].toFixed(1)}`;
    return node("section", { class: "row" }, node("h3", {}, name, node("span", {}, iou)), ...figures);
  });
  if (image.look) facts.push([`look ${image.look.place} of ${data.looks.length}`], [`a correction gains ${signed(image.look.gain, 2)} points`]);
  const heading = node("h2", {}, image.id, ...facts.map((fact) => node("span", {}, ...fact)), ...(image.look ? [ticker(image.id)] : []));
  return node("article", {}, heading, node("div", { class: "rows" }, given, node("div", { class: "methods" }, ...methods)));
}

function ticker(id) {
  const box = node("input", { type: "checkbox" });
  box.checked = state.ticked.has(id);
  box.addEventListener("change", () => {
    state.ticked[box.checked ? "add" : "delete"](id);
    tell();
  });
  return node("label", {}, box, " correct");
}

/* The first of all judged images, shown here or not. */
function firstOnes() {
  const wanted = Math.round(Number(byId("first").value));
  return data.looks.slice(0, Math.max(1, Math.min(data.looks.length, wanted || 1)));
}

function tell() {
  const rows = firstOnes(), all = data.looks.reduce((sum, row) => sum + row[2], 0);
  const share = all > 0 ? 100 * rows.reduce((sum, row) => sum + row[2], 0) / all : 0;
  byId("worth").textContent = `${rows.length} of ${data.looks.length} images of ${data.judged}, ${share.toFixed(0)} % of the gains expected of all`;
  byId("save-ticked").textContent = `Save the ticked (${state.ticked.size})`;
  byId("save-ticked").disabled = state.ticked.size === 0;
}

/* A part of the table of images that `judge` writes. */
function csv(rows) {
  const quoted = (value) => (/[",\r\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : value);
  return ["set,image,look,gain", ...rows.map((row) => [data.judged, ...row].map(quoted).join(","))].map((line) => `${line}\n`).join("");
}

function save(rows) {
  const address = URL.createObjectURL(new Blob([csv(rows)], { type: "text/csv" }));
  node("a", { href: address, download: "look_first.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

function show(page) {
  const images = chosen(), pages = Math.max(1, Math.ceil(images.length / data.page));
  state.page = Math.max(0, Math.min(pages - 1, page));
  const start = state.page * data.page, shown = images.slice(start, start + data.page);
  byId("cards").replaceChildren(...(shown.length ? shown.map(card) : ["No image here shows this class in this split, or none of these was judged."]));
  byId("where").textContent = `page ${state.page + 1} of ${pages} · ${images.length} images`;
  byId("previous").disabled = byId("back").disabled = state.page === 0;
  byId("next").disabled = byId("forth").disabled = state.page === pages - 1;
}

function turn(pages) {
  show(state.page + pages);
  scrollTo(0, 0);
}

function options(select, entries) {
  select.append(...entries.map(([value, text]) => node("option", { value }, text)));
}

byId("run").textContent = data.run;
const measured = data.images.some((image) => image.gain !== null);
const share = data.images.length < data.total ? `${data.images.length} of ${data.total} images, evenly spaced` : `All ${data.total} images`;
byId("rule").textContent = measured
  ? `${share} over the ranking by gain: IoU of ${data.pair[1]} minus IoU of ${data.pair[0]} in the image, each at its best threshold for the split. IoU in percent, over the classes present and background.`
  : `${share} in the order of the index.`;
const judged = data.images.some((image) => image.look);
if (judged) byId("rule").textContent += ` A third of the places belongs to the images to look at first: those whose correction is expected to raise the mIoU of ${data.judged} most, which no true mask has told.`;
const offered = (name) => ({ [LOOK]: judged, [APART]: data.images.some((image) => differenceOf(image) >= 0), "by name": true })[name] ?? measured;
options(byId("order"), Object.keys(ORDERS).filter(offered).map((name) => [name, name]));
options(byId("class"), [["", "all"], ...data.classes.map((name) => [name, name])]);
options(byId("split"), [["", "all"], ...data.splits.map((name) => [name, name])]);
byId("legend").append(node("li", {}, node("span", { class: "swatch", style: "background:#000" }), "background"), ...data.classes.map((name, i) => node("li", {}, node("span", { class: "swatch", style: `background:${data.colours[i]}` }), bdi(name))),
  node("li", {}, node("span", { class: "swatch", style: "background:rgb(210 210 210)" }), "ignored"),
  node("li", {}, "activation 0", node("span", { class: "heat", style: `background:linear-gradient(90deg,${data.heat.join(",")})` }), "1"));
if (data.looks.length) {
  byId("save").hidden = false;
  byId("first").value = Math.min(data.looks.length, Math.max(10, Math.ceil(data.looks.length / 20)));
  byId("first").max = data.looks.length;
  byId("first").addEventListener("input", tell);
  byId("save").addEventListener("submit", (event) => { event.preventDefault(); save(firstOnes()); });
  byId("save-ticked").addEventListener("click", () => save(data.looks.filter(([id]) => state.ticked.has(id))));
  tell();
}
byId("bar").addEventListener("submit", (event) => event.preventDefault());
for (const id of ["order", "class", "split"]) byId(id).addEventListener("change", () => show(0));
for (const [id, pages] of [["previous", -1], ["next", 1], ["back", -1], ["forth", 1]]) byId(id).addEventListener("click", () => turn(pages));
addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || ["SELECT", "INPUT"].includes(event.target.tagName)) return;
  if (event.key === "ArrowLeft") turn(-1);
  if (event.key === "ArrowRight") turn(1);
});
show(0);
