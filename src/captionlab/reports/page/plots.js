"use strict";
// One number that was varied, heat map, learning curves, quality against cost.

const COLOURS = 8;
const DASHES = ["", "7 3", "2 3", "9 3 2 3"];
const colourOf = (i) => (i < COLOURS ? `var(--c${i})` : "var(--rest)");
const dashOf = (i) => DASHES[i % DASHES.length] || null;
// A piece of a curve, for a key.
const sample = (i) => s("svg", { width: 22, height: 8, style: { display: "inline", marginRight: "4px" } },
  s("line", { x1: 0, x2: 22, y1: 4, y2: 4, stroke: colourOf(i), "stroke-width": 2, "stroke-dasharray": dashOf(i) }));

// Every number against the setting that has three or more numbers: means, and a dot per seed.
function renderVaried() {
  const set = current(), place = set.varied;
  if (place === null) return;
  const box = byId("varied-plot"), number = numberOf(byId("varied-number").value);
  const lines = new Map(); // by the other settings
  for (const i of shownGroups()) {
    const { labels, values, curve } = set.groups[i];
    if (!values[number.name].length) continue;
    const point = { i, x: Number(labels[place]), ys: values[number.name].map((v) => number.scale * v) };
    lines.set(curve, [...(lines.get(curve) || []), point]);
  }
  const points = [...lines.values()].flat();
  if (!points.length) {
    box.replaceChildren(h("p", { class: "muted" }, "Nothing to show."));
    return;
  }
  const xs = points.map((p) => p.x);
  const isLog = isWide(xs);
  const name = set.settings[place];
  const { svg, x, y } = chart(box, xs, points.flatMap((p) => p.ys),
    { x: name + (isLog ? " (logarithmic)" : ""), y: number.title, label: `${number.title} against ${name}` }, isLog);
  const names = [...lines.keys()];
  svg.append(...names.map((curve, k) => {
    const line = lines.get(curve).sort((a, b) => a.x - b.x);
    return s("g", {},
      s("polyline", { class: "curve", points: line.map((p) => `${x(p.x)},${y(mean(p.ys))}`).join(" "),
        stroke: colourOf(k), "stroke-dasharray": dashOf(k) }),
      line.map((p) => {
        const text = () => `${p.i + 1} ${nameOf(p.i)}\n${number.title} ${mean(p.ys).toFixed(number.decimals)}` +
          (p.ys.length > 1 ? ` ±${deviation(p.ys).toFixed(number.decimals)}, ${p.ys.length} seeds` : "");
        return tip(s("g", { class: "point", tabindex: 0, role: "img", "aria-label": text() },
          p.ys.map((v) => s("circle", { cx: x(p.x), cy: y(v), r: 4, fill: colourOf(k), stroke: colourOf(k), "stroke-width": 1 }))), text);
      }));
  }));
  const keys = names.length > 1 ? names.slice(0, 12).map((curve, k) => h("span", {}, sample(k), bdi(curve), " ")) : [];
  box.replaceChildren(svg, h("div", { class: "key" }, keys));
}

function renderHeat() {
  const set = current();
  const [row, column] = [byId("heat-rows").value, byId("heat-columns").value];
  const number = numberOf(byId("heat-number").value);
  const label = (i, key) => (key === "" ? "all" : set.groups[i].config[set.different.indexOf(key)]);
  const cells = new Map(), rows = new Set(), columns = new Set();
  for (const i of shownGroups()) {
    const value = valueOf(set.groups[i], number);
    if (value === null) continue;
    const [r, c] = [label(i, row), label(i, column)];
    rows.add(r);
    columns.add(c);
    const key = JSON.stringify([r, c]);
    cells.set(key, [...(cells.get(key) || []), { i, value }]);
  }
  const means = [...cells.values()].map((entries) => mean(entries.map((e) => e.value)));
  const [low, high] = [Math.min(...means), Math.max(...means)];
  const best = number.best < 0 ? low : high;
  const cell = (r, c) => {
    const entries = cells.get(JSON.stringify([r, c]));
    if (!entries) return h("td", { class: "muted" }, "-");
    const value = mean(entries.map((e) => e.value));
    const share = high > low ? (value - low) / (high - low) : 0.5;
    const strength = 0.06 + 0.49 * (number.best < 0 ? 1 - share : share);
    const element = h("td", { class: value === best && number.best ? "best" : null, tabindex: 0,
      style: { background: `rgb(var(--good) / ${strength.toFixed(3)})` } },
    value.toFixed(number.decimals), entries.length > 1 ? h("span", { class: "muted" }, ` (${entries.length})`) : null);
    return tip(element, () => entries.map((e) => `${e.i + 1} ${nameOf(e.i)}: ${e.value.toFixed(number.decimals)}`)
      .slice(0, 8).join("\n"));
  };
  const sorted = (texts) => [...texts].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  byId("heat-map").replaceChildren(h("table", {},
    h("thead", {}, h("tr", {}, h("th", { class: "text" }, `${shortKey(row)} \\ ${shortKey(column) || "all"}`),
      sorted(columns).map((c) => h("th", { scope: "col" }, bdi(c))))),
    h("tbody", {}, sorted(rows).map((r) => h("tr", {}, h("th", { scope: "row", class: "text" }, bdi(r)),
      sorted(columns).map((c) => cell(r, c)))))));
}

// Round numbers for an axis.
function ticks(low, high, number) {
  const rough = (high - low || 1) / number;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((m) => m * power >= rough) * power;
  const values = [];
  for (let v = Math.ceil(low / step) * step; v <= high + step * 1e-6; v += step) values.push(v);
  return values;
}
const showTick = (v) => Number(v.toPrecision(4)).toLocaleString("en", { maximumFractionDigits: 6 });

// Whether there is room for a label at a place; says so once for each place.
function rooms(distance) {
  const taken = [];
  return (x, y) => {
    const isFree = taken.every(([u, v]) => Math.abs(u - x) > 1.6 * distance || Math.abs(v - y) > distance);
    if (isFree) taken.push([x, y]);
    return isFree;
  };
}

// Whether values need a logarithmic axis.
const isWide = (xs) => Math.min(...xs) > 0 && Math.max(...xs) > 20 * Math.min(...xs);

// An empty chart: its SVG, and where values lie in it.
function chart(box, xs, ys, titles, isLog) {
  const width = Math.max(280, Math.min(box.clientWidth, 760));
  const [height, left, bottom] = [Math.max(260, 0.55 * width), 52, 40];
  const pad = (low, high, share) => [low - share * (high - low || 1), high + share * (high - low || 1)];
  const place = isLog ? Math.log10 : (v) => v;
  const [x0, x1] = pad(place(Math.min(...xs)), place(Math.max(...xs)), 0.04);
  const [y0, y1] = pad(Math.min(...ys), Math.max(...ys), 0.06);
  const x = (v) => left + ((place(v) - x0) / (x1 - x0)) * (width - left - 30);
  const y = (v) => height - bottom - ((v - y0) / (y1 - y0)) * (height - bottom - 26);
  const tens = () => {
    const values = [];
    for (let p = Math.floor(x0); p <= Math.ceil(x1); p++) for (const m of [1, 2, 5]) values.push(m * 10 ** p);
    return values.filter((v) => Math.log10(v) >= x0 && Math.log10(v) <= x1);
  };
  const svg = s("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": titles.label },
    ticks(y0, y1, 5).map((v) => [
      s("line", { x1: left, x2: width - 20, y1: y(v), y2: y(v), class: "axis" }),
      s("text", { x: left - 8, y: y(v) + 4, "text-anchor": "end" }, showTick(v))]).flat(),
    (isLog ? tens() : ticks(x0, x1, width / 90).filter((v) => !titles.whole || Number.isInteger(v))).map((v) =>
      s("text", { x: x(v), y: height - bottom + 18, "text-anchor": "middle" }, showTick(v))),
    s("text", { class: "title", x: width - 20, y: height - 4, "text-anchor": "end" }, titles.x),
    s("text", { class: "title", x: 4, y: 12 }, titles.y));
  return { svg, x, y };
}

function renderCurves() {
  const column = byId("curve").value;
  const box = byId("curve-plot");
  const runs = current().curves.runs.filter((run) => shown(run.group) && run.lines[column]?.length);
  if (!runs.length) {
    box.replaceChildren(h("p", { class: "muted" }, "No run logged values per epoch."));
    return;
  }
  const points = runs.flatMap((run) => run.lines[column]);
  const { svg, x, y } = chart(box, points.map((p) => p[0]), points.map((p) => p[1]),
    { x: "epoch", y: column, label: `${column} by epoch`, whole: true });
  const hasRoom = rooms(11);
  const lines = runs.map((run) => {
    const values = run.lines[column];
    const [last, end] = [values[values.length - 1], run.group];
    const line = s("g", { "data-group": run.group, class: "run" },
      s("polyline", { class: "curve", points: values.map((p) => `${x(p[0])},${y(p[1])}`).join(" "),
        stroke: colourOf(end), "stroke-dasharray": dashOf(end) }),
      values.length === 1 ? s("circle", { cx: x(last[0]), cy: y(last[1]), r: 3, fill: colourOf(end) }) : null,
      end < COLOURS && hasRoom(x(last[0]), y(last[1])) ? s("text", { x: x(last[0]) + 4, y: y(last[1]) + 4 }, end + 1) : null);
    line.addEventListener("pointerenter", () => emphasise(box, run.group));
    line.addEventListener("pointerleave", () => emphasise(box, null));
    return tip(line, () => `${end + 1} ${nameOf(end)}, seed ${run.seed}\n` +
      values.map((p) => `${p[0]}: ${p[1].toPrecision(4)}`).slice(-8).join("  "));
  });
  svg.append(...lines.reverse()); // the best on top
  box.replaceChildren(svg, key(box, [...new Set(runs.map((run) => run.group))]));
}

function emphasise(box, group) {
  for (const line of box.querySelectorAll("g.run")) {
    const isIt = line.dataset.group === String(group);
    line.classList.toggle("dim", group !== null && !isIt);
    line.querySelector("polyline").classList.toggle("strong", isIt);
  }
}

// A button per system that lifts its curves out.
function key(box, groups) {
  const button = (i) => {
    const element = h("button", { type: "button" }, sample(i), `${i + 1} `, bdi(nameOf(i)));
    for (const name of ["pointerenter", "focus"]) element.addEventListener(name, () => emphasise(box, i));
    for (const name of ["pointerleave", "blur"]) element.addEventListener(name, () => emphasise(box, null));
    return element;
  };
  const rest = groups.length > 12 ? h("span", { class: "muted" }, `and ${groups.length - 12} more; hover over a line`) : null;
  return h("div", { class: "key" }, groups.slice(0, 12).map(button), rest);
}

function renderCost() {
  const set = current(), quality = rankingNumber();
  const box = byId("cost-plot");
  const number = numberOf(byId("cost-number").value);
  const points = (number ? shownGroups() : []).map((i) => ({ i, x: valueOf(set.groups[i], number),
    y: valueOf(set.groups[i], quality) })).filter((p) => p.x !== null && p.y !== null);
  if (!points.length) {
    box.replaceChildren(h("p", { class: "muted" }, "No run knows its cost."));
    return;
  }
  // On the front: nothing is as good for less.
  const front = [];
  for (const p of [...points].sort((a, b) => a.x - b.x || b.y - a.y)) {
    if (!front.length || p.y > front[front.length - 1].y) front.push(p);
  }
  const xs = points.map((p) => p.x);
  const isLog = isWide(xs);
  const { svg, x, y } = chart(box, xs, points.map((p) => p.y),
    { x: number.title + (isLog ? " (logarithmic)" : ""), y: quality.title,
      label: `${quality.title} against ${number.title}` }, isLog);
  const steps = front.map((p, k) => (k ? `H${x(p.x)}V${y(p.y)}` : `M${x(p.x)} ${y(p.y)}`)).join("");
  svg.append(s("path", { d: steps, class: "curve", stroke: "var(--muted)", "stroke-dasharray": "4 3" }));
  const hasRoom = rooms(12);
  svg.append(...points.map((p) => {
    const isFront = front.includes(p);
    const text = () => `${p.i + 1} ${nameOf(p.i)}\n${quality.title} ${p.y.toFixed(1)}, ` +
      `${number.title} ${p.x.toFixed(number.decimals)}${isFront ? "\non the front" : ""}`;
    return tip(s("g", { class: "point", tabindex: 0, role: "img", "aria-label": text() },
      s("circle", { cx: x(p.x), cy: y(p.y), r: 5, stroke: "var(--c0)", "stroke-width": 2,
        fill: isFront ? "var(--c0)" : "var(--paper)" }),
      hasRoom(x(p.x), y(p.y)) ? s("text", { x: x(p.x) + 9, y: y(p.y) + 4 }, p.i + 1) : null), text);
  }));
  const names = front.slice(0, 8).map((p) => `${p.i + 1} ${nameOf(p.i)} (${p.x.toFixed(number.decimals)})`).join(", ");
  box.replaceChildren(svg, h("p", { class: "legend" },
    `${quality.title} against ${number.title}. Filled: on the front, where nothing is as good for less: ${names}`,
    front.length > 8 ? ` and ${front.length - 8} more.` : "."));
}
