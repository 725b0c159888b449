"use strict";
// Nothing here is needed: tables sort, rows are found at each key, and the page keeps itself up to date.
// Marked in the page: data-keep is left alone by updates, data-key tells which row is which.

const kept = {  // as long as the tab; where nothing can be kept, nothing is
  get: (name) => { try { return sessionStorage.getItem(name); } catch { return null; } },
  set: (name, value) => { try { sessionStorage.setItem(name, value); } catch { /* not kept, then */ } },
};

// --- tables sort by the column whose head is pressed ---

const sortedBy = (table) => kept.get(table.id)?.split(" ").map(Number);

function sort(table, [column, direction]) {
  const body = table.tBodies[0];
  const value = (row) => row.cells[column]?.dataset.sort ?? row.cells[column]?.textContent.trim() ?? "";
  const rows = [...body.rows].sort((a, b) => direction * value(a).localeCompare(value(b), undefined, { numeric: true }));
  if (rows.some((row, at) => row !== body.rows[at])) body.append(...rows);
  [...table.tHead.rows[0].cells].forEach((head, at) =>
    head.setAttribute("aria-sort", at !== column ? "none" : direction > 0 ? "ascending" : "descending"));
}

function enhance() {
  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      if (head.querySelector("button")) return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("focus", () => button.scrollIntoView({ block: "nearest", inline: "nearest" }));
      button.addEventListener("click", () => {
        const order = [column, head.getAttribute("aria-sort") === "ascending" ? -1 : 1];
        sort(table, order);
        kept.set(table.id, order.join(" "));
      });
    });
    const order = sortedBy(table);
    if (order) sort(table, order);
  }
}

// --- rows are found (search.py has the same rule) ---

const form = document.getElementById("filter");

function takes(row, words, state, zone, offers) {
  const has = row.dataset;
  return words.every((word) => has.find.includes(word))
    && (!state || !has.state || has.state.split(" ").includes(state))
    && (!zone || !has.zone || has.zone === zone)
    && (!offers || has.offers.split(" ").includes(offers));
}

function filter() {
  if (!form) return;
  const wish = Object.fromEntries(new FormData(form));
  const words = wish.find.toLowerCase().split(/\s+/).filter(Boolean);
  const said = [];
  for (const table of document.querySelectorAll("table.found")) {
    let shown = 0, all = 0;
    for (const row of table.tBodies[0].rows) {
      if (row.dataset.find === undefined) continue;
      const is = takes(row, words, wish.state, wish.zone ?? "", wish.offers);
      if (row.hidden === is) row.hidden = !is;
      all += 1;
      shown += is;
    }
    said.push(`${shown} of ${all} ${table.id.replace("-table", "")}`);
  }
  const found = document.getElementById("found"), text = said.join(", ");
  if (found.textContent !== text) found.textContent = text;
}

if (form) {
  const remember = () => {
    const query = new URLSearchParams(location.search);
    for (const [name, value] of new FormData(form)) if (value) query.set(name, value); else query.delete(name);
    history.replaceState(null, "", location.pathname + (query.toString() && `?${query}`));
  };
  form.addEventListener("input", filter);
  form.addEventListener("change", () => { filter(); remember(); });
  form.addEventListener("submit", (event) => { event.preventDefault(); filter(); remember(); });
  form.querySelector("a").addEventListener("click", (event) => {
    event.preventDefault();
    for (const field of form.elements) if (field.name) field.value = "";
    filter();
    remember();
  });
  form.querySelector("button").hidden = true;
}

// --- the page keeps itself up to date: what differs is changed where it stands, so that place, focus and selection stay ---

const LEFT_ALONE = { TR: ["hidden"], DETAILS: ["open"], OPTION: ["selected"] };

function change(old, fresh) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  if (old.hasAttribute("data-keep") || (old.tagName === "THEAD" && old.querySelector("button"))) return;
  const alone = LEFT_ALONE[old.tagName] ?? [];
  for (const { name } of [...old.attributes])
    if (!fresh.hasAttribute(name) && !alone.includes(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes)
    if (old.getAttribute(name) !== value && !alone.includes(name)) old.setAttribute(name, value);
  changeChildren(old, fresh);
}

const keyOf = (node) => node.nodeType === Node.ELEMENT_NODE ? node.dataset?.key ?? node.id ?? "" : "";

function changeChildren(old, fresh) {
  const keyed = new Map(), rest = new Map();
  for (const child of old.childNodes) {
    if (keyOf(child)) keyed.set(keyOf(child), child);
    else rest.set(child.nodeName, [...rest.get(child.nodeName) ?? [], child]);
  }
  const pairs = [...fresh.childNodes].map((child) => {
    const key = keyOf(child), match = key ? keyed.get(key) : rest.get(child.nodeName)?.shift();
    if (key) keyed.delete(key);
    return match?.nodeName === child.nodeName ? [match, child] : [document.importNode(child, true), null];
  });
  const stay = new Set(pairs.map(([match]) => match));
  for (const child of [...old.childNodes]) if (!stay.has(child)) child.remove();
  let at = old.firstChild;
  for (const [match, child] of pairs) {
    if (match === at) at = at.nextSibling; else old.insertBefore(match, at);
    if (child) change(match, child);
  }
}

const live = { state: document.getElementById("live-state"), failures: 0, isBusy: false, isDue: false, timer: 0, source: null };
const QUICK = 5000, CALM = 15000, SLOWEST = 60000, TOGETHER = 400, GIVE_UP = 30000;

function say(words, kind) {
  live.words.textContent = words;
  live.words.className = kind;
}

function schedule(milliseconds) {
  clearTimeout(live.timer);
  if (!live.isPaused && !document.hidden) live.timer = setTimeout(update, milliseconds);
}

// Our look costs the mesh something: a page that takes long to make is asked for less often.
const pause = (took) => Math.min(SLOWEST, Math.max(live.source ? CALM : QUICK, took * 10) * 2 ** Math.min(live.failures, 4));

async function update() {
  if (live.isBusy) { live.isDue = true; return; }
  live.isBusy = true;
  const began = performance.now();
  try {
    const query = new URLSearchParams(location.search);
    query.set("format", "part");
    query.delete("refresh");
    const answer = await fetch(`?${query}`, { signal: AbortSignal.timeout(GIVE_UP), cache: "no-store" });
    const text = await answer.text();
    if (!answer.ok) throw new Error(text.trim().slice(0, 200) || `status ${answer.status}`);
    const fresh = new DOMParser().parseFromString(text, "text/html").getElementById("live");
    if (!fresh) throw new Error("the answer is no page");
    show(fresh);
    live.failures = 0;
    say("Live", "good");
    listen();  // where there was no room for us, there may be now
  } catch (error) {
    live.failures += 1;
    const why = error.name === "TimeoutError" ? "no answer in time" : error instanceof TypeError ? "the server does not answer" : error.message;
    say(`Not up to date: ${why}`, "bad");
  }
  live.isBusy = false;
  const took = performance.now() - began;
  schedule(live.isDue ? Math.max(TOGETHER, took) : pause(took));
  live.isDue = false;
}

function show(fresh) {
  for (const table of fresh.querySelectorAll("table.sortable")) {
    const order = sortedBy(table);
    if (order) sort(table, order);
  }
  change(document.getElementById("live"), fresh);
  enhance();
  filter();
}

function listen() {
  if (!document.body.dataset.watch || live.source) return;
  live.source = new EventSource(document.body.dataset.watch);
  live.source.addEventListener("change", () => live.isBusy ? live.isDue = true : schedule(TOGETHER));
  live.source.addEventListener("open", () => { if (live.failures) schedule(0); });
  live.source.addEventListener("error", () => {  // it comes back by itself, unless there is no room for us
    if (live.source.readyState === EventSource.CLOSED) { live.source = null; schedule(QUICK); }
    else if (!live.failures) schedule(TOGETHER);  // does it answer at all?
  });
}

function go() {  // what nobody sees is not kept up to date
  clearTimeout(live.timer);
  if (live.isPaused || document.hidden) {
    live.source?.close();
    live.source = null;
    if (live.isPaused) say("Paused", "warn");
    return;
  }
  listen();
  update();
}

function start() {
  live.words = document.createElement("span");
  const button = document.createElement("button");
  button.type = "button";
  const label = () => { button.textContent = live.isPaused ? "go on" : "pause"; };
  button.addEventListener("click", () => {
    live.isPaused = !live.isPaused;
    kept.set("paused", live.isPaused ? "yes" : "");
    label();
    go();
  });
  live.isPaused = kept.get("paused") === "yes";
  label();
  live.state.append(live.words, " ", button);
  live.state.hidden = false;
  say(live.isPaused ? "Paused" : "Live", live.isPaused ? "warn" : "good");
  document.addEventListener("visibilitychange", go);
  if (!live.isPaused && !document.hidden) { listen(); schedule(QUICK); }
}

enhance();
filter();
if (live.state && location.protocol.startsWith("http")) start();
