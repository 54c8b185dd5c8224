"use strict";
// Text goes into the page as text alone: nothing here reads HTML from data.

const byId = (id) => document.getElementById(id);
const figure = document.querySelector("figure");
const photo = figure.querySelector("img");
const DARKEST = 0.8; // over what the model did not look at
// How maps of words are made: a name, what they show of the model, and what pointing at a word shows.
const METHODS = {
  attention: ["attention", "bright is where NAME looked", "where the model looked"],
  occlusion: ["occlusion (some seconds)", "bright is what NAME needs for it; where all is dark, no part matters much",
    "which parts the model needs for it"],
  gradients: ["input gradients (some seconds)", "bright is where pixels change the word most",
    "where pixels change it most"],
};
let facts;
let current = new AbortController(); // of the photo that is shown

function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

const percent = (p) => (p >= 0.1 ? `${Math.round(100 * p)} %` : p >= 0.001 ? `${(100 * p).toFixed(1)} %` : "< 0.1 %");

// Of a caption, which may be far below a percent.
function probability(p) {
  if (p >= 0.001) return percent(p);
  const [digits, exponent] = p.toExponential(1).split("e-");
  return `${digits} · 10⁻${[...exponent].map((d) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[d]).join("")}`;
}

function tell(text) {
  byId("message").textContent = text;
  byId("message").hidden = !text;
}

async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The demo does not answer; is it still running?");
  }
  if (answer.ok) return answer;
  throw new Error((await answer.json().catch(() => ({}))).error || `The demo says ${answer.status}.`);
}

// A photo: a file, or the number of an example.
async function show({ file, example }) {
  current.abort();
  current = new AbortController();
  const { signal } = current;
  tell("");
  if (file && file.size > facts.max_bytes) {
    tell(`This file has ${Math.round(file.size / 2 ** 20)} MB; the demo takes at most ${facts.max_bytes / 2 ** 20} MB.`);
    return;
  }
  const options = { method: "POST", signal, body: file ?? "" };
  const query = file ? "" : `example=${example}`;
  try {
    const small = await (await ask(`/photo?${query}`, options)).blob();
    if (signal.aborted) return;
    await place(small, file ? file.name : `example ${example + 1}`);
  } catch (error) {
    if (error.name !== "AbortError") tell(error.message);
    return;
  }
  byId("references").replaceChildren(...(file ? [] : facts.examples[example].slice(0, 2))
    .map((text) => h("li", {}, h("bdi", {}, text))));
  const cards = facts.models.map((model, i) => card(model, signal, async (method) =>
    (await ask(`/caption?model=${i}&method=${method}&${query}`, options)).json()));
  byId("models").replaceChildren(...cards);
  document.querySelector("main").hidden = false;
  window.scrollTo({ top: 0 });
}

// As a data address, which the page's policy allows and nobody has to release.
function place(blob, name) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onerror = () => reject(new Error("The photo cannot be shown."));
    reader.onload = () => {
      photo.onload = () => {
        figure.style.setProperty("--ratio", photo.naturalWidth / photo.naturalHeight);
        resolve();
      };
      hideMap();
      photo.alt = name;
      photo.src = reader.result;
    };
    reader.readAsDataURL(blob);
  });
}

// Of a model; `caption` asks what it says, with maps of the words by a method.
function card(model, signal, caption) {
  const answers = new Map(); // by method
  const body = h("div", {});
  const status = h("p", { class: "muted note", role: "status" });
  const names = model.methods[0] === "attention" ? model.methods : ["", ...model.methods];
  const choice = h("select", { onchange: () => fill(choice.value) },
    ...names.map((name) => h("option", { value: name }, name ? METHODS[name][0] : "not shown")));

  async function fill(method) {
    status.classList.remove("error");
    try {
      if (!answers.has(method)) {
        status.textContent = answers.size ? "computing what each word depends on; this takes some seconds …" : "writing a caption …";
        answers.set(method, await caption(method));
      }
    } catch (error) {
      if (error.name === "AbortError" || choice.value !== method) return;
      status.classList.add("error");
      status.textContent = error.message;
      return;
    }
    if (signal.aborted || choice.value !== method) return;
    body.replaceChildren(...captionOf(model, answers.get(method), method));
    status.textContent = method
      ? `Point at a word, or move to it by the Tab key, to see ${METHODS[method][2]}.`
      : "This model reads the whole photo at once: it has no attention to show. The other ways take some seconds.";
  }

  fill(names[0]);
  return h("article", {}, h("h2", {}, h("bdi", {}, model.name)), body,
    h("label", { class: "muted note" }, "What each word depends on: ", choice), status);
}

function captionOf(model, said, method) {
  const words = said.words.map((word) => wordOf(model, said, word, method));
  const caption = h("p", { class: "caption", dir: "auto" }, ...words);
  if (!words.length) caption.append("(empty caption)");
  const others = said.alternatives.map((other) =>
    h("li", {}, h("bdi", {}, other.text), ` (${probability(other.probability)})`));
  const notes = [`probability of the caption: ${probability(said.probability)}`];
  if (said.truncated) notes.push("cut at the longest length");
  notes.push(`${said.seconds.toFixed(1)} s`);
  return [caption, h("p", { class: "muted note" }, notes.join("; ")),
    ...(others.length ? [h("ol", { class: "alternatives muted", start: 2 }, ...others)] : [])];
}

function wordOf(model, said, word, method) {
  const element = h("span", { class: "word" }, h("bdi", {}, word.text), h("small", {}, percent(word.probability)));
  if (!word.map) return element;
  element.tabIndex = 0;
  element.classList.add("looks");
  const enter = () => {
    drawMap(word.map, said.rows, said.columns, model.seen);
    byId("word").textContent = `“${word.text}”, probability ${percent(word.probability)}; `
      + METHODS[method][1].replace("NAME", () => model.name);
  };
  for (const name of ["pointerenter", "focus"]) element.addEventListener(name, enter);
  for (const name of ["pointerleave", "blur"]) element.addEventListener(name, hideMap);
  return element;
}

// Dark where the photo matters less; black where it saw nothing, outside the central square.
function drawMap(map, rows, columns, seen) {
  hideMap();
  const [width, height] = [photo.clientWidth, photo.clientHeight];
  const side = seen * Math.min(width, height);
  const overlay = h("canvas", { class: "overlay", width: columns, height: rows, "aria-hidden": "true" });
  Object.assign(overlay.style, { width: `${side}px`, height: `${side}px`,
    left: `${(width - side) / 2}px`, top: `${(height - side) / 2}px` });
  const context = overlay.getContext("2d");
  [...map].forEach((digit, i) => {
    context.fillStyle = `rgb(0 0 0 / ${DARKEST * (1 - parseInt(digit, 16) / 15)})`;
    context.fillRect(i % columns, Math.floor(i / columns), 1, 1);
  });
  figure.append(overlay);
}

function hideMap() {
  figure.querySelector(".overlay")?.remove();
  byId("word").textContent = "";
}

function listen() {
  byId("file").addEventListener("change", (event) => {
    const [file] = event.target.files;
    event.target.value = ""; // so that the same photo can be chosen again
    if (file) show({ file });
  });
  const over = (event) => { event.preventDefault(); document.body.classList.add("over"); };
  document.addEventListener("dragover", over);
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("over");
    const [file] = event.dataTransfer.files;
    if (file) show({ file });
    else tell("Drop a file; this was none.");
  });
  document.addEventListener("paste", (event) => {
    const [file] = event.clipboardData.files;
    if (file) show({ file });
  });
}

async function start() {
  facts = await (await ask("/facts")).json();
  byId("tries").hidden = !facts.examples.length;
  byId("examples").replaceChildren(...facts.examples.map((references, example) =>
    h("button", { type: "button", onclick: () => show({ example }) },
      h("img", { src: `/example?example=${example}`, alt: references[0] ?? `example ${example + 1}`, loading: "lazy" }))));
  listen();
}

start().catch((error) => tell(error.message));
