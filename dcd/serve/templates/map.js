"use strict";

// 100,000 points are too many elements and, one by one, too many calls of a canvas: each is a few
// pixels that are set in one picture, which is then put on the canvas at once.

const home = location.pathname.replace(/\/$/, "");
const at = (id) => document.getElementById(id);
const canvas = at("map");
const pen = canvas.getContext("2d");
const HALF = 32767;
const NO_POSTERIOR = 255;
const REACH_PX = 14; // how far from a point a click may be
const MOVED_PX = 5; // farther is a drag
const FEW = 5000; // points that have room to be larger
const MAX_ZOOM = 200;
const STEP_PX = 80;
const SIZES = [1.6, 2, 3.6, 4.2]; // of a role: half its mark's size in pixels
const FIRST_LOOKED_AT = 2; // n and p go through picks and failures
const INSIDE = {
  dot: (x, y, r) => x * x + y * y <= r * r + 0.3,
  square: (x, y, r) => Math.max(Math.abs(x), Math.abs(y)) <= r * 0.9,
  triangle: (x, y, r) => y <= r * 0.8 && y >= -r * 1.1 && Math.abs(x) <= (y + r * 1.1) * 0.6,
  cross: (x, y, r) => Math.max(Math.abs(x), Math.abs(y)) <= r && Math.abs(Math.abs(x) - Math.abs(y)) <= r * 0.3,
};

let n = 0, labels = [], failing = [];
// As the report has it: shapes and colours of the roles, colours of the labels that fail most, and
// of posteriors the least, a colour and the words.
let kinds = { shapes: [], roles: [], labels: [], posteriors: [] };
let xs, ys, labelOf, roleOf, posteriorOf;
// Where the middle of the map is on the canvas, and how many pixels half of it is; in device pixels.
const view = { x: 0, y: 0, half: 1 };
const shown = { roles: [true, true, true, true], by: "role", label: -1 };
let chosen = -1, picture = null, pending = false, colours = null;

function made(tag, text) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  return element;
}

function trouble(words) {
  at("trouble").textContent = words;
  at("trouble").hidden = !words;
}

async function asked(path) {
  const answer = await fetch(home + path);
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
  return answer;
}

// Colours, as numbers that are set in a picture. They follow the style sheet, dark mode too.

function numberOf(variable) {
  const dot = document.createElement("canvas").getContext("2d");
  dot.fillStyle = getComputedStyle(document.documentElement).getPropertyValue(variable).trim();
  dot.fillRect(0, 0, 1, 1);
  return new Uint32Array(dot.getImageData(0, 0, 1, 1).data.buffer)[0];
}

function coloured() {
  const paper = numberOf("--paper");
  const rest = numberOf("--rest");
  const of = new Uint32Array(n);
  if (shown.by === "role") {
    const by = kinds.roles.map(numberOf);
    for (let i = 0; i < n; i++) of[i] = by[roleOf[i]];
  } else if (shown.by === "label") {
    const by = new Uint32Array(65536).fill(rest);
    failing.forEach((code, i) => { by[code] = numberOf(kinds.labels[i]); });
    for (let i = 0; i < n; i++) of[i] = by[labelOf[i]];
  } else {
    const by = new Uint32Array(256).fill(rest);
    for (let p = 0; p <= 200; p++) by[p] = numberOf(kinds.posteriors.find(([least]) => p >= least)[1]);
    for (let i = 0; i < n; i++) of[i] = by[posteriorOf[i]];
  }
  colours = { of, paper };
}

function legend() {
  const list = at("colours");
  list.replaceChildren();
  const add = (variable, words) => {
    const item = made("li");
    const swatch = made("canvas");
    swatch.width = swatch.height = 14;
    const ink = swatch.getContext("2d");
    ink.fillStyle = getComputedStyle(document.documentElement).getPropertyValue(variable).trim();
    ink.fillRect(0, 0, 14, 14);
    item.append(swatch, made("bdi", words));
    list.append(item);
  };
  if (shown.by === "label") {
    failing.forEach((code, i) => add(kinds.labels[i], labels[code]));
    if (failing.length < labels.length) add("--rest", "other labels");
  } else if (shown.by === "posterior") {
    kinds.posteriors.forEach(([, variable, words]) => add(variable, words));
    add("--rest", "label taken for true");
  }
  for (const mark of document.querySelectorAll(".mark")) {
    const role = Number(mark.dataset.role);
    const put = mark.getContext("2d");
    const image = put.createImageData(20, 20);
    const pixels = new Uint32Array(image.data.buffer);
    const ink = numberOf(shown.by === "role" ? kinds.roles[role] : "--ink");
    const { core } = stamp(kinds.shapes[role], role < 2 ? 4 : 6, 20);
    for (const offset of core) pixels[10 * 20 + 10 + offset] = ink;
    put.putImageData(image, 0, 0);
  }
}

// Drawing.

/** Offsets of a shape's pixels, and of its edge, in a picture of that width. */
function stamp(shape, r, width) {
  const core = [], edge = [], inside = INSIDE[shape], most = Math.ceil(r) + 2;
  for (let y = -most; y <= most; y++) {
    for (let x = -most; x <= most; x++) {
      if (inside(x, y, r)) core.push(y * width + x);
      else if (inside(x, y, r + 1.2)) edge.push(y * width + x);
    }
  }
  return { core: Int32Array.from(core), edge: Int32Array.from(edge) };
}

function isShown(i) {
  return shown.roles[roleOf[i]] && (shown.label < 0 || labelOf[i] === shown.label);
}

function fitted() {
  view.x = canvas.width / 2;
  view.y = canvas.height / 2;
  view.half = Math.min(canvas.width, canvas.height) / 2 * 0.96;
}

function zoomed() { return view.half / (Math.min(canvas.width, canvas.height) / 2 * 0.96); }

function draw() {
  const { width, height } = canvas;
  const dpr = devicePixelRatio || 1;
  const few = n < FEW ? 1.3 : 1;
  const grown = Math.min(2.4, few * Math.pow(zoomed(), 0.3)) * dpr;
  const margin = Math.ceil(SIZES[3] * grown) + 4;
  const wide = width + 2 * margin, high = height + 2 * margin;
  if (!picture || picture.width !== wide || picture.height !== high) {
    picture = pen.createImageData(wide, high);
    picture.words = new Uint32Array(picture.data.buffer);
  }
  const pixels = picture.words;
  pixels.fill(0);
  const stamps = kinds.shapes.map((shape, role) => stamp(shape, SIZES[role] * grown, wide));
  const scale = view.half / HALF;
  const left = view.x - view.half + margin, top = view.y + view.half + margin;
  const { of, paper } = colours;
  const right = wide - margin / 2, bottom = high - margin / 2, first = margin / 2;
  let drawn = 0;
  for (let i = 0; i < n; i++) {
    if (!isShown(i)) continue;
    const x = left + xs[i] * scale, y = top - ys[i] * scale;
    if (x < first || x >= right || y < first || y >= bottom) continue;
    drawn++;
    const { core, edge } = stamps[roleOf[i]];
    const middle = (y | 0) * wide + (x | 0);
    if (roleOf[i] >= 2) for (let k = 0; k < edge.length; k++) pixels[middle + edge[k]] = paper;
    const colour = of[i];
    for (let k = 0; k < core.length; k++) pixels[middle + core[k]] = colour;
  }
  pen.clearRect(0, 0, width, height);
  pen.putImageData(picture, -margin, -margin);
  if (chosen >= 0) {
    const [x, y] = placeOf(chosen);
    pen.strokeStyle = getComputedStyle(document.documentElement).getPropertyValue("--accent").trim();
    pen.lineWidth = 2.5 * dpr;
    pen.beginPath();
    pen.arc(x, y, (SIZES[3] + 6) * grown, 0, 2 * Math.PI);
    pen.stroke();
  }
  canvas.dataset.drawn = drawn;
}

function drawSoon() {
  if (pending) return;
  pending = true;
  requestAnimationFrame(() => { pending = false; draw(); });
}

/** Where a point is on the canvas, in device pixels. */
function placeOf(i) {
  const scale = view.half / HALF;
  return [view.x - view.half + xs[i] * scale, view.y + view.half - ys[i] * scale];
}

/** The shown point nearest to a place, the one drawn last of several; -1 if none is in reach. */
function nearest(x, y, reach) {
  let found = -1, least = reach * reach;
  const scale = view.half / HALF, left = view.x - view.half - x, top = view.y + view.half - y;
  for (let i = 0; i < n; i++) {
    const dx = left + xs[i] * scale, dy = top - ys[i] * scale;
    const far = dx * dx + dy * dy;
    if (far <= least && isShown(i)) { least = far; found = i; }
  }
  return found;
}

function zoom(by, x, y) {
  const now = zoomed();
  const factor = Math.min(MAX_ZOOM, Math.max(0.5, now * by)) / now;
  view.x = x + (view.x - x) * factor;
  view.y = y + (view.y - y) * factor;
  view.half *= factor;
  drawSoon();
}

function resized() {
  const dpr = devicePixelRatio || 1;
  const wide = Math.max(1, Math.round(canvas.clientWidth * dpr));
  const high = Math.max(1, Math.round(canvas.clientHeight * dpr));
  if (wide === canvas.width && high === canvas.height) return;
  const before = { x: view.x - canvas.width / 2, y: view.y - canvas.height / 2, zoom: zoomed() };
  const isFirst = view.half === 1;
  canvas.width = wide;
  canvas.height = high;
  fitted();
  if (!isFirst) {
    view.half *= before.zoom;
    view.x += before.x;
    view.y += before.y;
  }
  if (colours) draw();
}

// The chosen point.

async function choose(i) {
  chosen = i;
  drawSoon();
  const panel = at("panel");
  if (i < 0) { panel.hidden = true; return; }
  const image = panel.querySelector("img"), gone = panel.querySelector(".gone");
  try {
    const point = await (await asked(`/points/${i}`)).json();
    if (chosen !== i) return; // another one was chosen meanwhile
    image.hidden = false;
    gone.hidden = true;
    image.alt = `${point.role}, ${point.label}`;
    image.src = `${home}/pictures/${i}`;
    const facts = panel.querySelector("dl");
    facts.replaceChildren();
    const posterior = point.posterior === null ? "taken for true" : `right with ${Math.round(100 * point.posterior)} %`;
    for (const [name, value] of [["label", point.label], ["posterior", posterior], ["role", point.role], ["image", point.image_id]]) {
      const row = made("div"), said = made("dd");
      said.append(made("bdi", value));
      row.append(made("dt", name), said);
      facts.append(row);
    }
    panel.hidden = false;
    panel.dataset.point = i;
    trouble("");
  } catch (error) {
    trouble(`This point cannot be shown: ${error.message}.`);
  }
}

function step(by) {
  const every = [];
  for (let i = n - 1; i >= 0; i--) if (roleOf[i] >= FIRST_LOOKED_AT && isShown(i)) every.push(i);
  if (!every.length) for (let i = 0; i < n; i++) if (isShown(i)) every.push(i);
  if (!every.length) return;
  const place = every.indexOf(chosen);
  const next = every[place < 0 ? (by > 0 ? 0 : every.length - 1) : (place + by + every.length) % every.length];
  const [x, y] = placeOf(next), { width, height } = canvas;
  // Not moved where it is to be seen: what is around it keeps its place.
  if (x < width * 0.05 || x > width * 0.75 || y < height * 0.05 || y > height * 0.95) {
    view.x += width / 2 - x;
    view.y += height / 2 - y;
  }
  choose(next);
}

// Hands.

const touching = new Map();
let travelled = 0;

function placeIn(event) {
  const box = canvas.getBoundingClientRect(), dpr = canvas.width / box.width;
  return { x: (event.clientX - box.left) * dpr, y: (event.clientY - box.top) * dpr };
}

function listen() {
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    if (touching.size === 0) travelled = 0;
    touching.set(event.pointerId, placeIn(event));
    canvas.classList.add("held");
  });
  canvas.addEventListener("pointermove", (event) => {
    const now = placeIn(event), before = touching.get(event.pointerId);
    if (!before) {
      canvas.classList.toggle("near", nearest(now.x, now.y, REACH_PX * (devicePixelRatio || 1)) >= 0);
      return;
    }
    const other = [...touching].find(([id]) => id !== event.pointerId);
    travelled += Math.hypot(now.x - before.x, now.y - before.y);
    touching.set(event.pointerId, now);
    if (other) {
      const [, still] = other;
      const was = Math.hypot(before.x - still.x, before.y - still.y);
      const is = Math.hypot(now.x - still.x, now.y - still.y);
      view.x += (now.x - before.x) / 2;
      view.y += (now.y - before.y) / 2;
      if (was > 0 && is > 0) zoom(is / was, (now.x + still.x) / 2, (now.y + still.y) / 2);
    } else {
      view.x += now.x - before.x;
      view.y += now.y - before.y;
      drawSoon();
    }
  });
  const lifted = (event) => {
    if (!touching.delete(event.pointerId)) return;
    if (touching.size) return;
    canvas.classList.remove("held");
    const dpr = devicePixelRatio || 1;
    if (event.type === "pointerup" && travelled <= MOVED_PX * dpr) {
      const place = placeIn(event);
      choose(nearest(place.x, place.y, REACH_PX * dpr));
    }
  };
  canvas.addEventListener("pointerup", lifted);
  canvas.addEventListener("pointercancel", lifted);
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const place = placeIn(event), lines = event.deltaMode === 1 ? 16 : 1;
    zoom(Math.exp(-event.deltaY * lines / 500), place.x, place.y);
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const dpr = devicePixelRatio || 1, x = canvas.width / 2, y = canvas.height / 2;
    const keys = {
      ArrowLeft: () => { view.x += STEP_PX * dpr; drawSoon(); },
      ArrowRight: () => { view.x -= STEP_PX * dpr; drawSoon(); },
      ArrowUp: () => { view.y += STEP_PX * dpr; drawSoon(); },
      ArrowDown: () => { view.y -= STEP_PX * dpr; drawSoon(); },
      "+": () => zoom(1.5, x, y),
      "=": () => zoom(1.5, x, y),
      "-": () => zoom(1 / 1.5, x, y),
      0: () => { fitted(); drawSoon(); },
      n: () => step(1),
      p: () => step(-1),
      Enter: () => choose(nearest(x, y, Infinity)),
      Escape: () => choose(-1),
    };
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });
  for (const button of document.querySelectorAll("[data-zoom]")) {
    button.addEventListener("click", () => {
      const by = Number(button.dataset.zoom);
      if (by) zoom(by, canvas.width / 2, canvas.height / 2);
      else { fitted(); drawSoon(); }
    });
  }
  at("close").addEventListener("click", () => { choose(-1); canvas.focus(); });
  at("panel").querySelector("img").addEventListener("error", (event) => {
    event.target.hidden = true;
    at("panel").querySelector(".gone").hidden = false;
  });
  at("choices").addEventListener("change", (event) => {
    const { name, value, checked } = event.target;
    if (name === "role") shown.roles[Number(value)] = checked;
    if (name === "label") shown.label = value === "" ? -1 : Number(value);
    if (name === "by") shown.by = value;
    if (chosen >= 0 && !isShown(chosen)) choose(-1);
    coloured();
    legend();
    drawSoon();
  });
  at("choices").addEventListener("submit", (event) => event.preventDefault());
  new ResizeObserver(resized).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { coloured(); legend(); draw(); });
}

async function begin() {
  try {
    const [described, numbers] = await Promise.all([asked("/described"), asked("/numbers")]);
    const said = await described.json(), data = await numbers.arrayBuffer();
    n = said.n;
    if (data.byteLength !== 8 * n) throw new Error("the map came in part only");
    labels = said.labels;
    failing = said.failing.map((label) => labels.indexOf(label));
    const variable = (colour) => `--${colour}`;
    kinds = {
      shapes: said.legend.shapes,
      roles: said.legend.roles.map(variable),
      labels: said.legend.labels.map(variable),
      posteriors: said.legend.posteriors.map(([least, colour, words]) => [least, variable(colour), words]),
    };
    xs = new Uint16Array(data, 0, n);
    ys = new Uint16Array(data, 2 * n, n);
    labelOf = new Uint16Array(data, 4 * n, n);
    roleOf = new Uint8Array(data, 6 * n, n);
    posteriorOf = new Uint8Array(data, 7 * n, n);
  } catch (error) {
    trouble(`The map cannot be shown: ${error.message}. Load the page again.`);
    return;
  }
  resized();
  coloured();
  legend();
  listen();
  draw();
}

begin();
