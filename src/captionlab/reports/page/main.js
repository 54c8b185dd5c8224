"use strict";
// Puts the page together and keeps it in step with its controls.

function renderAbout() {
  byId("definitions").replaceChildren(...facts.definitions.flatMap(([title, text]) => [h("dt", {}, title), h("dd", {}, text)]));
  const counted = (entries) => entries.map(([text, n]) => `${text} (${n} ${n === 1 ? "run" : "runs"})`).join("; ");
  byId("versions").textContent = visible([counted(facts.versions), counted(facts.machines)].filter(Boolean).join(". "));
  const complete = facts.runs.filter((run) => run.error === null);
  const failed = facts.runs.filter((run) => run.error !== null);
  const table = (runs, title, cell) => h("table", {},
    h("thead", {}, h("tr", {}, ["run", "seed", title].map((t) => h("th", { scope: "col", class: "text" }, t)))),
    h("tbody", {}, runs.map((run) => h("tr", {}, h("td", { class: "text" }, bdi(run.folder)), h("td", {}, run.seed),
      h("td", { class: "text wrap" }, cell(run))))));
  byId("runs").replaceChildren(table(complete, "command that makes it again", (run) =>
    h("code", {}, bdi(run.command ? `python ${run.command}` : "not known"))));
  if (failed.length) {
    byId("failed").replaceChildren(h("h3", {}, `Without a result (${failed.length})`),
      h("div", { class: "scroll", tabindex: 0 }, table(failed, "why", (run) => bdi(run.error))));
  }
  byId("notes").replaceChildren(...facts.notes.map((note) => h("li", {}, bdi(note))));
}

function renderAll() {
  const set = current();
  const groups = set.groups.map((_, i) => [i, `${i + 1} ${nameOf(i)}`]);
  const settings = set.different.map((key) => [key, shortKey(key)]);
  const preferred = [...set.settings, ...set.different];
  const find = (key, other) => (set.different.includes(key) ? key : preferred.find((k) => k !== other && set.different.includes(k)) ?? "");
  const row = find("encoder.name", "decoder.name");
  options(byId("baseline"), [[-1, "none"], ...groups], -1);
  options(byId("left"), groups, 0);
  options(byId("right"), groups, Math.min(1, groups.length - 1));
  options(byId("varied-number"), set.numbers.map((n) => [n.name, n.title]), set.ranking);
  byId("varied").hidden = set.varied === null;
  byId("varied-title").textContent = `Scores against ${visible(set.settings[set.varied] ?? "")}`;
  options(byId("heat-rows"), settings.length ? settings : [["", "all"]], row);
  options(byId("heat-columns"), [...settings, ["", "all"]], row === "decoder.name" ? "" : find("decoder.name", row));
  options(byId("heat-number"), set.numbers.map((n) => [n.name, n.title]), set.ranking);
  options(byId("curve"), set.curves.columns.map((c) => [c, c]), set.curves.columns[0]);
  const costs = set.numbers.filter((n) => n.kind === "cost");
  options(byId("cost-number"), costs.map((n) => [n.name, n.title]), "seconds_train");
  options(byId("gallery-group"), [["", "all systems shown"], ...groups], "");
  byId("gallery-notes").replaceChildren(...set.gallery.notes.map((note) => h("li", {}, bdi(note))));
  byId("heat").hidden = !set.different.length;
  byId("differences").hidden = groups.length < 2;
  for (const link of document.querySelectorAll("nav a")) {
    link.hidden = document.querySelector(link.getAttribute("href")).hidden;
  }
  if (set.curves.runs.length < 2) byId("order").value = "worst"; // one run disagrees with nobody
  renderColumns();
  renderDiff();
  renderShown();
  renderAnswer();
}

// What the filter changes.
function renderShown() {
  renderTable();
  renderVaried();
  renderHeat();
  renderCurves();
  renderCost();
  if (galleryIsSeen) renderGallery();
  else galleryIsDue = true;
}

let galleryIsSeen = false, galleryIsDue = true;

function start() {
  renderAbout();
  if (!facts.data) {
    byId("answer").textContent = "No run has a result yet; the reasons stand below.";
    for (const id of ["scores", "differences", "varied", "heat", "curves", "cost", "gallery"]) byId(id).hidden = true;
    document.querySelector("header .bar").hidden = true;
    document.querySelector("nav").hidden = true;
    return;
  }
  const on = (id, name, action) => byId(id).addEventListener(name, action);
  on("filter", "input", (event) => { state.filter = event.target.value; renderShown(); });
  on("baseline", "change", (event) => { state.baseline = Number(event.target.value); renderTable(); });
  for (const id of ["left", "right"]) on(id, "change", renderDiff);
  for (const id of ["heat-rows", "heat-columns", "heat-number"]) on(id, "change", renderHeat);
  on("varied-number", "change", renderVaried);
  on("curve", "change", renderCurves);
  on("cost-number", "change", renderCost);
  for (const id of ["order", "gallery-group"]) on(id, "change", renderGallery);
  on("search", "input", renderGallery);
  on("more", "click", moreCards);
  renderAll();
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    renderVaried();
    renderCurves();
    renderCost();
  });
  new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting) && galleryIsDue) {
      galleryIsSeen = true;
      galleryIsDue = false;
      renderGallery();
    }
  }, { rootMargin: "600px" }).observe(byId("gallery"));
  new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting)) moreCards();
  }, { rootMargin: "800px" }).observe(byId("more"));
}

start();
