"use strict";
// Text goes into the page as text alone: nothing here reads HTML from data.

const facts = JSON.parse(document.getElementById("facts").textContent);
const state = { filter: "", baseline: -1, sort: null, columns: {} };
const byId = (id) => document.getElementById(id);
const current = () => facts.data;
const SVG = "http://www.w3.org/2000/svg";

// Control characters, such as those of terminal escape codes, as visible symbols.
function visible(text) {
  return String(text).replace(/[\u0000-\u001f\u007f]/g, (c) =>
    String.fromCharCode(c === "\u007f" ? 0x2421 : 0x2400 + c.charCodeAt(0)));
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(element.style, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat()) {
    if (child === null || child === undefined) continue;
    element.append(child instanceof Node ? child : visible(child));
  }
  return element;
}
const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const s = (tag, attributes, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);
const bdi = (text) => h("bdi", {}, text);

function options(select, entries, chosen) {
  select.replaceChildren(...entries.map(([value, title]) =>
    h("option", { value, selected: String(value) === String(chosen) }, title)));
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
function deviation(values) {
  const centre = mean(values);
  return Math.sqrt(values.reduce((sum, v) => sum + (v - centre) ** 2, 0) / (values.length - 1));
}

const numberOf = (name) => current().numbers.find((number) => number.name === name);
const rankingNumber = () => numberOf(current().ranking);
function valueOf(group, number) {
  const values = group.values[number.name];
  return values.length ? number.scale * mean(values) : null;
}
const nameOf = (i) => current().groups[i].name;
const shortKey = (key) => key.replace(/\.name$/, "");

// Groups that the filter lets through: every word of it is in a label.
function shown(i) {
  const words = state.filter.toLowerCase().split(/\s+/).filter(Boolean);
  const text = `${nameOf(i)} ${current().groups[i].config.join(" ")}`.toLowerCase();
  return words.every((word) => text.includes(word));
}
const shownGroups = () => current().groups.map((_, i) => i).filter(shown);

// The first system's score less the second's: difference, interval, p over images and seeds.
const tests = new Map(facts.data?.tests.map((t) => [`${t[0]},${t[1]}`, t]));
function testOf(first, second) {
  const straight = tests.get(`${first},${second}`);
  const crossed = tests.get(`${second},${first}`);
  if (!straight && !crossed) return null;
  const [, , difference, low, high, images, seeds] = straight || crossed;
  const scale = rankingNumber().scale;
  return straight
    ? { difference: scale * difference, low: scale * low, high: scale * high, images, seeds }
    : { difference: -scale * difference, low: -scale * high, high: -scale * low, images, seeds };
}
const showP = (p) => (p === null ? "none" : p < 0.001 ? "< 0.001" : p.toFixed(3));
const signed = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(1);

// A tooltip at the pointer or at what has the focus.
function tip(element, text) {
  const show = (event) => {
    const box = byId("tip");
    box.textContent = visible(text()).replaceAll("\u240a", "\n");
    box.hidden = false;
    const place = element.getBoundingClientRect();
    const x = event.clientX ?? place.right;
    const y = event.clientY ?? place.bottom;
    box.style.left = `${Math.max(4, Math.min(x + 12, innerWidth - box.offsetWidth - 8))}px`;
    box.style.top = `${y + 16 + box.offsetHeight > innerHeight ? y - box.offsetHeight - 10 : y + 14}px`;
  };
  const hide = () => { byId("tip").hidden = true; };
  for (const name of ["pointerenter", "pointermove", "focus"]) element.addEventListener(name, show);
  for (const name of ["pointerleave", "blur"]) element.addEventListener(name, hide);
  return element;
}
