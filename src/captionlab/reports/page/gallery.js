"use strict";
// Photos with references and captions; read and decoded when they come into view.

const PAGE = 24; // cards at a time
const CAPTIONS = 8; // distinct captions of a card before it is unfolded
let listed = [], drawn = 0, reading = null;

function readGallery() {
  reading ??= (async () => {
    const bytes = Uint8Array.from(atob(byId("captions").textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const content = await new Response(stream).json();
    content.images.forEach((image, place) => {
      image.place = place;
      image.words = new Set(image.references.flatMap(wordsOf));
      image.text = [...image.captions.map((c) => c.text), ...image.references].join("\n").toLowerCase();
    });
    return content;
  })();
  return reading;
}

const wordsOf = (text) => text.toLowerCase().match(/[\p{L}\p{N}\p{M}]+(?:['’][\p{L}]+)*/gu) || [];

async function renderGallery() {
  const content = await readGallery();
  const group = byId("gallery-group").value;
  const isChosen = content.runs.map(([g]) => (group === "" ? shown(g) : String(g) === group));
  const query = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  listed = [];
  for (const image of content.images) {
    if (!query.every((word) => image.text.includes(word))) continue;
    const scores = image.captions.flatMap((c) => c.runs.filter((r) => isChosen[r]).map(() => c.score));
    if (!scores.length) continue;
    listed.push({ image, mean: mean(scores), spread: scores.length > 1 ? deviation(scores) : 0 });
  }
  const order = byId("order").value;
  const keys = { disagreement: (e) => -e.spread, best: (e) => -e.mean, worst: (e) => e.mean, file: (e) => e.image.place };
  listed.sort((a, b) => keys[order](a) - keys[order](b) || a.image.place - b.image.place);
  listed.forEach((entry) => { entry.isChosen = isChosen; });
  const { shown: have, total } = current().gallery;
  byId("gallery-count").textContent = `${listed.length.toLocaleString("en")} of ${have.toLocaleString("en")} photos` +
    (have < total ? ` (${total.toLocaleString("en")} in the split; captionlab report --photos shows more)` : "");
  byId("cards").replaceChildren();
  drawn = 0;
  moreCards();
}

async function moreCards() {
  const content = await readGallery();
  const next = listed.slice(drawn, drawn + PAGE);
  drawn += next.length;
  byId("cards").append(...next.map((entry) => card(content, entry)));
  byId("more").hidden = drawn >= listed.length;
}

function card(content, { image, isChosen }) {
  const data = byId(`photo-${image.place}`);
  const photo = data
    ? h("img", { alt: `photo ${image.id}`, src: `data:image/webp;base64,${data.textContent}`, decoding: "async" })
    : h("div", { class: "gone" }, "photo missing");
  const captions = image.captions.filter((c) => c.runs.some((r) => isChosen[r]));
  const list = h("ul", { class: "captions" }, captions.slice(0, CAPTIONS).map((c) => captionItem(content, image, c, isChosen)));
  const rest = captions.slice(CAPTIONS);
  const unfold = rest.length ? h("button", { type: "button", onclick: () => {
    list.append(...rest.map((c) => captionItem(content, image, c, isChosen)));
    unfold.remove();
  } }, `${rest.length} more captions`) : null;
  return h("article", { class: "card" },
    h("figure", {}, photo, h("figcaption", {}, bdi(image.id))),
    h("div", {}, list, unfold,
      image.references.length ? h("h3", {}, "References") : null,
      h("ul", { class: "references" }, image.references.map((text) => h("li", {}, h("bdi", { dir: "auto" }, text))))));
}

function captionItem(content, image, caption, isChosen) {
  const runs = caption.runs.filter((r) => isChosen[r]);
  const ranks = [...new Set(runs.map((r) => content.runs[r][0] + 1))].sort((a, b) => a - b);
  const text = ranks.length > 6 ? `${ranks.slice(0, 5).join(" ")} … (${ranks.length})` : ranks.join(" ");
  const names = () => runs.slice(0, 10).map((r) => {
    const [group, seed] = content.runs[r];
    return `${group + 1} ${nameOf(group)}, seed ${seed}`;
  }).join("\n") + (runs.length > 10 ? `\nand ${runs.length - 10} more` : "");
  return h("li", {}, h("span", { class: "score" }, (rankingNumber().scale * caption.score).toFixed(0)),
    tip(h("span", { class: "ranks", tabindex: 0, "aria-label": `systems ${text}` }, text), names),
    h("bdi", { class: "text", dir: "auto" }, markedWords(image, caption)),
    caption.claims ? claims(caption.claims) : null);
}

// Words that no reference has are marked, without references none; those of a run that recorded
// its attention show on the photo where it looked.
function markedWords(image, { text, attention }) {
  let place = -1;
  return text.split(/(\s+)/).map((piece) => {
    if (!piece.trim()) return piece;
    place += 1;
    const words = image.references.length ? wordsOf(piece) : [];
    const isSupported = words.every((word) => image.words.has(word));
    const word = h("span", { class: words.length ? (isSupported ? "yes" : "no") : null }, piece);
    return attention?.maps[place] ? looking(word, attention, attention.maps[place]) : word;
  });
}

// Under the pointer or the focus, the photo is dark where the model did not look.
function looking(word, { rows, columns, seen }, map) {
  word.tabIndex = 0;
  word.classList.add("looks");
  const show = () => {
    const figure = word.closest(".card").querySelector("figure");
    const photo = figure.querySelector("img");
    if (!photo) return;
    const overlay = h("canvas", { width: columns, height: rows, class: "overlay", "aria-hidden": "true" });
    const side = seen * Math.min(photo.clientWidth, photo.clientHeight);
    Object.assign(overlay.style, { width: `${side}px`, height: `${side}px`,
      left: `${(photo.clientWidth - side) / 2}px`, top: `${(photo.clientHeight - side) / 2}px` });
    const context = overlay.getContext("2d");
    [...map].forEach((digit, i) => {
      context.fillStyle = `rgb(0 0 0 / ${0.85 * (1 - parseInt(digit, 16) / 15)})`;
      context.fillRect(i % columns, Math.floor(i / columns), 1, 1);
    });
    figure.querySelector(".overlay")?.remove();
    figure.append(overlay);
  };
  const hide = () => word.closest(".card")?.querySelector(".overlay")?.remove();
  for (const name of ["pointerenter", "focus"]) word.addEventListener(name, show);
  for (const name of ["pointerleave", "blur"]) word.addEventListener(name, hide);
  return word;
}

function claims(counts) {
  return h("div", { class: "claims" }, Object.entries(counts).map(([name, [numTrue, num]]) =>
    h("span", { class: numTrue === num ? "true" : "false" },
      `${numTrue === num ? "✓" : "✗"} ${name}${num > 1 ? ` ${numTrue}/${num}` : ""}`)));
}
