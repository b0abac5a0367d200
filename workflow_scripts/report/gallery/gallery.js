"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const state = { page: 0 };

function node(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const signed = (gain) => `${gain < 0 ? "−" : "+"}${Math.abs(gain).toFixed(1)}`;
const ORDERS = {
  "largest gain first": (a, b) => b.gain - a.gain,
  "smallest gain first": (a, b) => a.gain - b.gain,
  "by name": (a, b) => (a.id < b.id ? -1 : 1),
};

function chosen() {
  const wanted = byId("class").value, split = byId("split").value;
  return data.images
    .filter((image) => (!wanted || image.labels.includes(wanted)) && (!split || image.split === split))
    .sort(ORDERS[byId("order").value]);
}

function card(image) {
  const facts = [image.split, image.labels.join(", ") || "no object"];
  if (image.gain !== null) facts.push(`gain ${signed(image.gain)}`);
  for (const [method, iou] of Object.entries(image.iou)) facts.push(`${method} ${iou.toFixed(1)}`);
  const rows = image.rows.map((row) => {
    const pictures = row.pictures.map(({ title, uri }) => node("figure", {},
      node("img", { src: uri, alt: `${row.name} ${title} of ${image.id}`.trim() }), node("figcaption", {}, title)));
    return node("section", { class: "row" }, node("h3", {}, row.name), node("div", { class: "pictures" }, ...pictures));
  });
  return node("article", {}, node("h2", {}, image.id, ...facts.map((fact) => node("span", {}, fact))), node("div", { class: "rows" }, ...rows));
}

function show(page) {
  const images = chosen(), pages = Math.max(1, Math.ceil(images.length / data.page));
  state.page = Math.max(0, Math.min(pages - 1, page));
  const start = state.page * data.page;
  byId("cards").replaceChildren(...images.slice(start, start + data.page).map(card));
  byId("where").textContent = `${state.page + 1} of ${pages} · ${images.length} images`;
  byId("previous").disabled = state.page === 0;
  byId("next").disabled = state.page === pages - 1;
}

function options(select, entries) {
  select.append(...entries.map(([value, text]) => node("option", { value }, text)));
}

byId("run").textContent = data.run;
const measured = data.images.some((image) => image.gain !== null);
byId("rule").textContent = measured
  ? `Evenly spaced over all images ranked by gain: IoU of ${data.pair[1]} minus ${data.pair[0]}, each at its best threshold for the split. IoU in percent.`
  : "Evenly spaced in the order of the index.";
options(byId("order"), Object.keys(ORDERS).filter((name) => measured || name === "by name").map((name) => [name, name]));
options(byId("class"), [["", "all"], ...data.classes.map((name) => [name, name])]);
options(byId("split"), [["", "all"], ...data.splits.map((name) => [name, name])]);
byId("legend").append(...data.classes.map((name, i) => node("li", {}, node("span", { class: "swatch", style: `background:${data.colours[i]}` }), name)),
  node("li", {}, node("span", { class: "swatch", style: "background:rgb(210 210 210)" }), "ignored"));
byId("bar").addEventListener("submit", (event) => event.preventDefault());
for (const id of ["order", "class", "split"]) byId(id).addEventListener("change", () => show(0));
byId("previous").addEventListener("click", () => { show(state.page - 1); scrollTo(0, 0); });
byId("next").addEventListener("click", () => { show(state.page + 1); scrollTo(0, 0); });
show(0);
