"use strict";
// The answer, the table of scores, and what differs between two systems.

function renderAnswer() {
  const set = current(), number = rankingNumber();
  const best = set.groups[0];
  const parts = [h("strong", {}, bdi(nameOf(0))), ` has ${set.groups.length > 1 ? "the best" : "a"} `,
    h("span", { class: "nowrap" }, number.title), " of ", h("strong", {}, valueOf(best, number).toFixed(1))];
  if (best.interval) {
    parts.push(` [${best.interval.map((v) => (number.scale * v).toFixed(1)).join(", ")}]`);
  }
  const equal = set.groups.map((_, i) => i).slice(1).filter((i) => {
    const test = testOf(0, i);
    return test && !(test.images < 0.05);
  });
  if (set.tests.length) {
    const names = equal.slice(0, 3).map(nameOf).join(", ");
    const others = equal.length > 3 ? ` and ${equal.length - 3} more` : "";
    parts.push(equal.length
      ? `; over images it cannot be told apart from ${names}${others}.`
      : "; over images it differs from every other.");
  } else parts.push(".");
  const people = set.people[number.name];
  if (people !== undefined) parts.push(` People: ${(number.scale * people).toFixed(1)}.`);
  const runs = set.groups.reduce((sum, group) => sum + group.runs.length, 0);
  const count = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;
  parts.push(h("span", { class: "muted" },
    ` ${count(runs, "run")}, ${count(set.groups.length, "system")}, ` +
    `${count(set.num_images, "test image")}${set.name ? ` of ${set.name}` : ""}.`));
  byId("answer").replaceChildren(...parts);
}

// Interval, seeds and blind score of a row on the axis that all rows share.
function forest(values, interval, blind, end, isPeople) {
  const width = 210, height = 18, middle = height / 2;
  const x = (value) => 4 + (value / end) * (width - 8);
  const centre = x(mean(values));
  const marks = [s("line", { x1: 4, x2: width - 4, y1: middle, y2: middle, class: "axis" })];
  if (interval) {
    const [low, high] = interval.map(x);
    marks.push(s("path", { d: `M${low} ${middle - 4}v8m0-4H${high}m0-4v8`, class: "forest",
      "stroke-width": 1.5, fill: "none" }));
  }
  if (blind !== null) {
    marks.push(s("line", { x1: x(blind), x2: x(blind), y1: 3, y2: height - 3,
      class: "forest", "stroke-width": 1.5, "stroke-dasharray": "2 2" }));
  }
  if (values.length > 1) {
    marks.push(...values.map((v) => s("circle", { cx: x(v), cy: middle, r: 2, fill: "var(--ink)" })));
  }
  const shape = isPeople
    ? s("path", { d: `M${centre} ${middle - 5}l5 5l-5 5l-5-5z`, fill: "none", class: "forest" })
    : s("rect", { x: centre - 2.5, y: middle - 4, width: 5, height: 8, fill: "var(--c0)" });
  return s("svg", { width, height, "aria-hidden": "true" }, marks, shape);
}

function tableColumns() {
  const set = current(), ranking = rankingNumber();
  const blind = numberOf(`blind_${ranking.name}`);
  const highest = set.groups.map((g) => (g.interval ? g.interval[1] : mean(g.values[ranking.name])));
  const end = ranking.scale * Math.max(...highest, set.people[ranking.name] || 0, 1e-9);
  const scaled = (values) => values.map((v) => ranking.scale * v);
  const number = (n) => ({
    key: n.name, title: n.title, kind: n.kind, start: n.best || -1,
    value: (i) => valueOf(set.groups[i], n),
    cell: (i) => showNumber(set.groups[i].values[n.name], n),
    isBest: (i) => isBest(i, n),
    people: () => (n.name in set.people ? (n.scale * set.people[n.name]).toFixed(n.decimals) : ""),
  });
  const columns = [{ key: "rank", title: "#", className: "rank", start: -1, value: (i) => i,
    cell: (i) => i + 1 }];
  set.settings.forEach((key, k) => columns.push({ key, title: shortKey(key), className: "text",
    start: -1, value: (i) => set.groups[i].labels[k], cell: (i) => bdi(set.groups[i].labels[k]) }));
  if (set.groups.some((g) => g.seeds !== "1")) {
    columns.push({ key: "seeds", title: "seeds", start: 1, value: (i) => set.groups[i].runs.length,
      cell: (i) => set.groups[i].seeds });
  }
  columns.push(number(ranking));
  columns.push({ key: "interval", title: "interval, seeds, blind", className: "text", start: 1,
    value: (i) => valueOf(set.groups[i], ranking),
    cell: (i) => forest(scaled(set.groups[i].values[ranking.name]),
      set.groups[i].interval && scaled(set.groups[i].interval),
      blind ? valueOf(set.groups[i], blind) : null, end, false),
    people: () => forest([ranking.scale * set.people[ranking.name]], null, null, end, true) });
  const others = [[0, "against best"], [state.baseline, "against baseline"]];
  for (const [other, title] of set.tests.length ? others : []) {
    if (other >= 0) {
      columns.push({ key: title, title, className: "text", start: 1,
        value: (i) => valueOf(set.groups[i], ranking) - valueOf(set.groups[other], ranking), cell: (i) => difference(i, other) });
    }
  }
  for (const kind of ["blind", "cost", "score", "truth"]) {
    columns.push(...set.numbers.filter((n) => n !== ranking && n.kind === kind).map(number));
  }
  return columns.filter((column) => state.columns[column.kind] !== false);
}

function showNumber(values, number) {
  if (!values.length) return "-";
  let text = (number.scale * mean(values)).toFixed(number.decimals);
  if (values.length > 1 && number.best) {
    text += ` ±${(number.scale * deviation(values)).toFixed(number.decimals)}`;
  }
  return text;
}

function isBest(i, number) {
  if (!number.best || current().groups.length < 2) return false;
  const own = valueOf(current().groups[i], number);
  return own !== null && current().groups.every((group) => {
    const other = valueOf(group, number);
    return other === null || number.best * other <= number.best * own;
  });
}

function difference(i, other) {
  if (i === other) return h("span", { class: "muted" }, other === 0 ? "best" : "baseline");
  const test = testOf(i, other);
  if (!test) { // of many systems only pairs with the best are tested
    const [own, theirs] = [i, other].map((k) => valueOf(current().groups[k], rankingNumber()));
    return h("span", { class: "muted" }, `${signed(own - theirs)} not tested`);
  }
  const marks = [];
  if (test.images < 0.05) marks.push("images");
  if (test.seeds !== null && test.seeds < 0.05) marks.push("seeds");
  const cell = h("span", {},
    `${test.difference < 0 ? "▼" : "▲"} ${signed(test.difference)} [${signed(test.low)}, ${signed(test.high)}]`,
    marks.map((mark) => h("span", { class: "mark" }, mark)));
  return tip(cell, () => `p over images ${showP(test.images)}\np over seeds ${showP(test.seeds)}`);
}

function renderTable() {
  const set = current();
  const columns = tableColumns();
  const sort = columns.find((c) => c.key === state.sort?.key);
  const rows = shownGroups();
  if (sort) {
    const order = (a, b) => (typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b);
    rows.sort((a, b) => {
      const [x, y] = [sort.value(a), sort.value(b)];
      if (x === null || y === null) return (x === null) - (y === null);
      return state.sort.direction * order(x, y);
    });
  }
  const brokenAtDots = (title) => title.split(/(?<=\.)/).flatMap((part) => [h("wbr"), part]);
  const head = columns.map((column) => {
    const isSorted = column === sort;
    const up = isSorted && state.sort.direction > 0;
    return h("th", { scope: "col", class: column.className,
      "aria-sort": isSorted ? (up ? "ascending" : "descending") : null },
    h("button", { type: "button", "data-key": column.key, onclick: () => {
      state.sort = { key: column.key, direction: isSorted ? -state.sort.direction : -column.start };
      renderTable();
      document.querySelector(`#table button[data-key="${CSS.escape(column.key)}"]`).focus();
    } }, brokenAtDots(column.title.replaceAll("-", "\u2011")), isSorted ? (up ? " ↑" : " ↓") : ""));
  });
  const body = rows.map((i) => h("tr", { "data-group": i, class: i === state.baseline ? "baseline" : null },
    columns.map((column) => h("td", { class:
      [column.className, column.isBest?.(i) ? "best" : ""].join(" ").trim() || null }, column.cell(i)))));
  if (rankingNumber().name in set.people) {
    body.push(h("tr", { class: "people" }, columns.map((column, k) =>
      h("td", { class: column.className }, k === 1 ? "people" : column.people ? column.people() : ""))));
  }
  byId("table").replaceChildren(h("table", {}, h("thead", {}, h("tr", {}, head)), h("tbody", {}, body)));
  const seeds = set.groups.some((g) => g.runs.length > 1) ? " Scores are means over seeds ± standard deviation." : "";
  byId("legend").textContent =
    `Scores x100 as papers print them, the best in bold.${seeds} Square: score; line: 95 % interval over images; ` +
    "dashed tick: blind, the same captions given to other images; dots: seeds; diamond: people. " +
    "images, seeds: a difference with p < 0.05 over images, over seeds. A click on a title sorts.";
}

function renderColumns() {
  const kinds = { score: "other scores", blind: "blind", cost: "cost", truth: "true of the scene" };
  const present = new Set(current().numbers.filter((n) => n !== rankingNumber()).map((n) => n.kind));
  byId("columns").replaceChildren(...Object.entries(kinds).filter(([kind]) => present.has(kind)).map(
    ([kind, title]) => h("label", {}, h("input", { type: "checkbox", "data-kind": kind,
      checked: state.columns[kind] !== false, onchange: (event) => {
        // The score that systems are ranked by stays.
        state.columns[kind] = event.target.checked;
        renderTable();
      } }), title)));
}

function renderDiff() {
  const set = current();
  const [left, right] = [Number(byId("left").value), Number(byId("right").value)];
  const [a, b] = [set.groups[left].config, set.groups[right].config];
  const rows = set.different.map((key, k) => [key, a[k], b[k]]).filter(([, x, y]) => x !== y);
  byId("diff").replaceChildren(rows.length
    ? h("table", {}, h("tbody", {}, rows.map(([key, x, y]) => h("tr", {},
      h("th", { scope: "row", class: "text wrap" }, key),
      h("td", { class: "text wrap" }, h("span", { class: "removed" }, bdi(x))),
      h("td", { class: "text wrap" }, h("span", { class: "added" }, bdi(y)))))))
    : h("p", { class: "muted" }, left === right ? " The same system." : " Nothing but their seeds."));
  const equal = Object.entries(set.equal);
  byId("equal-title").textContent = `${equal.length} settings are the same in all runs`;
  byId("equal").replaceChildren(h("table", {}, h("tbody", {}, equal.map(([key, value]) =>
    h("tr", {}, h("th", { scope: "row", class: "text wrap" }, key), h("td", { class: "text wrap" }, bdi(value)))))));
}
