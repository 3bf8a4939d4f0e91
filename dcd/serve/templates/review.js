"use strict";

// What was decided waits in localStorage until the server says that it is kept: a closed browser or
// a killed server loses nothing. Every decision has an id of its own, so sending one twice is safe.

const home = location.pathname.replace(/\/$/, "");
const WAITING = `dcd-review:${home}:`;
const NAME = "dcd-reviewer";
const RETRY_MS = 2000;
const LOOK_MS = 15000;
const AT_ONCE = 100;
const VERBS = { accept: "accepted", reject: "rejected", relabel: "", skip: "skipped" };

const at = (id) => document.getElementById(id);
const state = {
  items: [], tiles: [], classes: [], failures: [], standing: {}, current: 0, done: [],
  waiting: new Map(), sending: false, areFailures: false,
};

function made(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function reviewer() { return localStorage.getItem(NAME) || ""; }

function trouble(words) {
  at("trouble").textContent = words || "";
  at("trouble").hidden = !words;
}

// The page.

function framed(url) {
  const frame = made("span", "frame");
  const image = made("img");
  image.loading = "lazy";
  image.decoding = "async";
  image.alt = "";
  image.addEventListener("error", () => frame.classList.add("gone"));
  image.src = url;
  frame.append(image);
  return frame;
}

function failurePicture(number) { return `${home}/pictures/failure-${number}`; }
function pickPicture(item) { return `${home}/pictures/pick-${item.key}`; }

function group(number) {
  const section = made("section", "group");
  const failure = state.failures[number];
  if (failure) {
    const asked = made("div", "asked");
    const words = made("p");
    words.append(made("b", "", failure.label));
    if (failure.predicted && failure.predicted !== failure.label) {
      words.append(`, taken for ${failure.predicted}`);
    }
    asked.append(framed(failurePicture(number)), words);
    section.append(asked);
  } else {
    section.classList.add("alone");
  }
  section.append(made("div", "tiles"));
  return section;
}

function tile(item, place) {
  const button = made("button", "tile");
  button.type = "button";
  button.title = item.id;
  const line = made("span", "line");
  line.append(made("span", "", item.label));
  if (item.distance !== null) line.append(made("span", "", item.distance.toPrecision(3)));
  button.append(framed(pickPicture(item)), made("span", "mark"), line);
  button.addEventListener("click", () => choose(place));
  return button;
}

function lay() {
  const groups = at("groups");
  groups.replaceChildren();
  let last, section;
  state.items.forEach((item, place) => {
    const key = state.areFailures ? item.label : item.failure;
    if (section === undefined || key !== last) {
      section = group(item.failure);
      groups.append(section);
      last = key;
    }
    const made_ = tile(item, place);
    state.tiles.push(made_);
    section.lastElementChild.append(made_);
  });
  if (!state.items.length) groups.append(made("p", "note", "Nothing to review here."));
}

// What stands of an image: what waits to be sent comes after what is kept.
function verdict(item) {
  let found = state.standing[item.key] || null;
  for (const one of state.waiting.values()) {
    if (one.key !== item.key) continue;
    found = one.verb === "undo" ? null : { verb: one.verb, to: one.to, reviewer: reviewer(), waits: true };
  }
  return found;
}

function show(place) {
  const item = state.items[place];
  const stands = verdict(item);
  const of = state.tiles[place];
  const mark = of.querySelector(".mark");
  of.classList.toggle("waiting", Boolean(stands && stands.waits));
  if (stands) {
    of.dataset.verb = stands.verb;
    mark.textContent = stands.verb === "relabel" ? stands.to : VERBS[stands.verb];
  } else {
    delete of.dataset.verb;
    mark.textContent = "";
  }
}

function showAll() {
  state.items.forEach((_, place) => show(place));
  showProgress();
  showPanel();
}

function showProgress() {
  const n = state.items.filter((item) => verdict(item)).length;
  at("progress").textContent = `${n.toLocaleString()} of ${state.items.length.toLocaleString()} decided`;
  const waits = state.waiting.size;
  at("saved").textContent = waits ? `${waits} not saved yet` : n ? "all saved" : "";
}

function put(figure, url, words) {
  const image = figure.querySelector("img");
  const gone = figure.querySelector(".gone");
  figure.querySelector("figcaption").replaceChildren(...words);
  if (image.getAttribute("src") === url) return;
  gone.hidden = true;
  image.onerror = () => { gone.hidden = false; };
  image.src = url;
}

function fact(name, value) {
  const row = made("div");
  row.append(made("dt", "", name), made("dd", "", value));
  return row;
}

function showPanel() {
  const item = state.items[state.current];
  at("panel").hidden = !item;
  if (!item) return;
  const failure = state.failures[item.failure];
  at("asked").hidden = !failure;
  if (failure) {
    const taken = failure.predicted && failure.predicted !== failure.label;
    const words = ["The failure: ", made("b", "", failure.label)];
    if (taken) words.push(` taken for ${failure.predicted}`);
    put(at("asked"), failurePicture(item.failure), words);
  }
  put(at("pick"), pickPicture(item), ["Is this ", made("b", "", item.label), "?"]);
  const facts = [];
  if (item.distance !== null) facts.push(fact("distance", item.distance.toPrecision(3)));
  if (item.agreement !== null) facts.push(fact("agreement", item.agreement.toFixed(2)));
  if (item.queries > 1) facts.push(fact("near", `${item.queries} failures`));
  const stands = verdict(item);
  if (stands) {
    const said = stands.verb === "relabel" ? `relabelled ${stands.to}` : VERBS[stands.verb];
    facts.push(fact(said, `by ${stands.reviewer}`));
  }
  facts.push(fact("id", item.id));
  at("facts").replaceChildren(...facts);
}

function choose(place, scroll = true) {
  if (!state.items.length) return;
  const next = Math.max(0, Math.min(place, state.items.length - 1));
  state.tiles[state.current].removeAttribute("aria-current");
  state.current = next;
  const button = state.tiles[next];
  button.setAttribute("aria-current", "true");
  if (scroll) {
    button.scrollIntoView({ block: "nearest" });
    button.focus({ preventScroll: true });
  }
  showPanel();
}

function nextUndecided(from) {
  const n = state.items.length;
  for (let step = 1; step < n; step += 1) {
    const place = (from + step) % n;
    if (!verdict(state.items[place])) return place;
  }
  return Math.min(from + 1, n - 1);
}

function rowStep(direction) {
  const here = state.tiles[state.current].getBoundingClientRect();
  let best = state.current, distance = Infinity;
  for (let place = state.current + direction; state.tiles[place]; place += direction) {
    const box = state.tiles[place].getBoundingClientRect();
    if (Math.abs(box.top - here.top) < 4) continue;
    if (distance < Infinity && Math.abs(box.top - state.tiles[best].getBoundingClientRect().top) > 4) break;
    const off = Math.abs(box.left - here.left);
    if (off < distance) { best = place; distance = off; }
  }
  return best;
}

// Deciding.

function decide(verb, to = null) {
  const item = state.items[state.current];
  if (!item) return;
  if (!reviewer()) { askName(); return; }
  if (verb === "undo") { undo(); return; }
  enqueue({ id: newId(), key: item.key, verb, to });
  state.done.push(state.current);
  show(state.current);
  choose(nextUndecided(state.current));
  showProgress();
}

function undo() {
  let place = state.done.pop();
  if (place === undefined) {
    const stands = verdict(state.items[state.current]);
    if (!stands || stands.reviewer !== reviewer()) return;
    place = state.current;
  }
  enqueue({ id: newId(), key: state.items[place].key, verb: "undo", to: null });
  show(place);
  choose(place);
  showProgress();
}

// randomUUID is for secure origins only, and a phone in the house is none.
function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
}

function enqueue(decision) {
  const stamped = { ...decision, n: Date.now() + state.waiting.size / 1000 };
  state.waiting.set(stamped.id, stamped);
  localStorage.setItem(WAITING + stamped.id, JSON.stringify(stamped));
  send();
}

function recall() {
  const found = [];
  for (let i = 0; i < localStorage.length; i += 1) {
    const key = localStorage.key(i);
    if (key.startsWith(WAITING)) found.push(JSON.parse(localStorage.getItem(key)));
  }
  found.sort((a, b) => a.n - b.n).forEach((one) => state.waiting.set(one.id, one));
}

function forget(id) {
  state.waiting.delete(id);
  localStorage.removeItem(WAITING + id);
}

async function send() {
  if (state.sending || !state.waiting.size || !reviewer()) return;
  state.sending = true;
  const batch = [...state.waiting.values()].slice(0, AT_ONCE);
  try {
    const decisions = batch.map(({ id, key, verb, to }) => ({ id, key, verb, to }));
    const answer = await fetch(`${home}/decisions`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ reviewer: reviewer(), decisions }),
    });
    if (answer.status === 403) throw new Error("you are not let in; open the address that dcd serve --review printed");
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    const said = await answer.json();
    said.kept.forEach(forget);
    said.refused.forEach((one) => forget(one.id));
    state.standing = said.standing;
    trouble(said.refused.length ? `Not taken: ${said.refused[0].why}` : "");
    state.sending = false;
    showAll();
    if (state.waiting.size) send();
  } catch (error) {
    state.sending = false;
    const words = error instanceof TypeError ? "the server does not answer" : error.message;
    trouble(`${state.waiting.size} decisions wait in this browser and are sent again: ${words}.`);
    showProgress();
    setTimeout(send, RETRY_MS);
  }
}

async function look() {
  if (document.hidden || state.sending || state.waiting.size) return;
  try {
    const answer = await fetch(`${home}/standing`);
    if (answer.ok) { state.standing = await answer.json(); showAll(); }
  } catch { /* what is decided next will say it */ }
}

// Dialogs.

function askName() {
  at("reviewer").value = reviewer();
  at("name").showModal();
}

function askLabel() {
  if (!reviewer()) { askName(); return; }
  at("label").value = "";
  filterLabels();
  at("labels").showModal();
  at("label").focus();
}

function matching() {
  const wanted = at("label").value.trim().toLowerCase();
  const own = state.items[state.current].label;
  const begins = (label) => !label.toLowerCase().startsWith(wanted);
  return state.classes
    .filter((label) => label !== own && label.toLowerCase().includes(wanted))
    .sort((a, b) => begins(a) - begins(b));
}

function filterLabels() {
  at("choices").replaceChildren(...matching().slice(0, 100).map((label) => {
    const row = made("li"), button = made("button", "", label);
    button.type = "button";
    button.addEventListener("click", () => relabel(label));
    row.append(button);
    return row;
  }));
}

function relabel(label) {
  at("labels").close();
  if (label !== undefined) decide("relabel", label);
}

const KEYS = {
  a: () => decide("accept"), r: () => decide("reject"), l: askLabel, s: () => decide("skip"),
  u: () => decide("undo"), n: () => choose(nextUndecided(state.current)),
  ArrowRight: () => choose(state.current + 1), ArrowLeft: () => choose(state.current - 1),
  ArrowDown: () => choose(rowStep(1)), ArrowUp: () => choose(rowStep(-1)),
};

function listen() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const act = KEYS[event.key];
    if (act) { event.preventDefault(); act(); }
  });
  for (const button of document.querySelectorAll(".keys button")) {
    const verb = button.dataset.verb;
    button.addEventListener("click", () => (verb === "relabel" ? askLabel() : decide(verb)));
  }
  at("label").addEventListener("input", filterLabels);
  at("labels").querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    relabel(matching()[0]);
  });
  at("name").addEventListener("close", () => {
    const given = at("reviewer").value.trim();
    if (given) localStorage.setItem(NAME, given);
    at("who").textContent = reviewer() || "who are you?";
    send();
  });
  at("who").addEventListener("click", askName);
}

async function begin() {
  listen();
  at("who").textContent = reviewer() || "who are you?";
  const answer = await fetch(`${home}/items`);
  if (!answer.ok) { trouble(`The server answered ${answer.status}.`); return; }
  const found = await answer.json();
  Object.assign(state, {
    items: found.items, classes: found.classes, failures: found.failures,
    standing: found.standing, areFailures: found.areFailures,
  });
  recall();
  lay();
  showAll();
  choose(state.items.length && verdict(state.items[0]) ? nextUndecided(0) : 0, false);
  if (!reviewer()) askName();
  send();
  setInterval(look, LOOK_MS);
}

begin();
