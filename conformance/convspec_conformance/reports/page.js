"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const PAGE = 100; // cases shown at a time
  const at = (id) => document.getElementById(id);

  // ---- small helpers ----

  /** An element with attributes and children; texts are never read as markup. */
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "onclick") element.addEventListener("click", value);
      else if (value !== false && value != null) element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child != null && child !== ""));
    return element;
  }
  function draw(tag, attributes, text) { // the same in SVG
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    if (text) element.textContent = text;
    return element;
  }
  const percent = (part) => `${Math.floor(1000 * part) / 10} %`; // 100 % is said of all alone
  const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);
  const total = (summary) => sum(Object.values(summary.counts));
  const surveyed = (summary) => total(summary) - summary.steered; // cases that every backend has
  const bad = (summary) => total(summary) - summary.counts.pass - summary.counts.unclaimed;
  function ratioText(ratio) {
    if (ratio == null) return "";
    return ratio >= data.infinite ? "∞" : ratio === 0 ? "0" : String(Number(ratio.toPrecision(2)));
  }
  /** For a shell; a case's line, which has single quotes only, stays readable. */
  const quoted = (text) => /^[\w:.-]+$/.test(text) ? text
    : /["$`\\!]/.test(text) || !text.includes("'") ? `'${text.replaceAll("'", "'\\''")}'` : `"${text}"`;

  // ---- the results as objects ----

  const results = data.targets.flatMap((target, t) => target.results.map((row) => {
    const [place, status, claimed, detail, ratio, seconds, smallest] = row;
    const found = data.cases[place];
    const result = {
      target: t, line: found.line, capabilities: new Set(found.capabilities),
      status: data.statuses[status], claimed: Boolean(claimed), detail: data.details[detail],
      ratio, seconds, smallest,
    };
    result.bad = result.status !== "pass" && result.status !== "unclaimed";
    result.claimable = !result.claimed && result.status === "pass";
    result.text = `${target.name} ${found.line} ${result.detail}`.toLowerCase();
    return result;
  }));
  // What is bad comes first, with a smallest case before those without; else as it was run.
  const rank = (result) => result.bad ? (result.smallest ? 0 : 1) : 2;
  results.sort((a, b) => rank(a) - rank(b));

  const STATUSES = {
    "": ["any", () => true],
    bad: ["bad", (result) => result.bad],
    pass: ["pass", (result) => result.status === "pass"],
    unclaimed: ["not claimed", (result) => result.status === "unclaimed"],
    claimable: ["could be claimed", (result) => result.claimable],
    fail: ["wrong result", (result) => result.status === "fail"],
    error: ["raised an error", (result) => result.status === "error"],
    crash: ["crashed", (result) => result.status === "crash"],
    hang: ["hung", (result) => result.status === "hang"],
  };

  // ---- what is chosen; the address has it, so that a view can be linked ----

  const FIELDS = { backend: "by-target", status: "by-status", capability: "by-capability", text: "by-text" };
  let shown = PAGE;
  function chosen() {
    return Object.fromEntries(Object.entries(FIELDS).map(([name, id]) => [name, at(id).value]));
  }
  function choose(values) {
    for (const [name, id] of Object.entries(FIELDS)) at(id).value = values[name] ?? "";
    changed();
  }
  function changed() {
    shown = PAGE;
    const set = Object.entries(chosen()).filter(([, value]) => value);
    history.replaceState(null, "", set.length ? `#${new URLSearchParams(set)}` : location.pathname);
    list();
    for (const cell of document.querySelectorAll(".cell")) {
      const { backend, capability, status, text } = chosen();
      const same = cell.dataset.target === backend && cell.dataset.capability === capability;
      cell.setAttribute("aria-pressed", same && backend !== "" && !text && !status);
    }
  }
  function go(values) {
    choose(values);
    at("cases").scrollIntoView({ behavior: "auto", block: "start" });
  }

  // ---- header and cards ----

  function header() {
    const said = [
      `Level ${data.level}`, `seed ${data.seed}`, `${data.cases.length} cases`,
      `convspec ${data.convspec}`, `Python ${data.python}`, data.platform,
      data.date.replace("T", " ").replace("+00:00", " UTC"),
    ];
    if (data.only.length) said.splice(1, 0, `only ${data.only.join(" and ")}`);
    at("about").textContent = said.join(" · ");
  }
  function card(target, t) {
    const wrong = bad(target), counts = target.counts;
    const fact = (number, words, status, css = "") => number
      ? make("li", { class: css },
        make("button", { type: "button", onclick: () => go({ backend: String(t), status }) },
          `${number} ${words}`))
      : null;
    const ran = target.results.length > 0;
    return make("article", { class: `card${wrong || target.broken ? " is-bad" : ""}` },
      make("h3", {}, target.name, " ", make("span", {}, target.version)),
      ran ? make("p", { class: "share" },
        make("strong", {}, percent(target.claimed_share)),
        make("span", {}, "of convolutions claimed")) : null,
      ran ? make("div", { class: "bar", "aria-hidden": "true" },
        make("i", { class: "pass", style: `flex: ${counts.pass} 0 0` }),
        wrong ? make("i", { class: "bad", style: `flex: ${wrong} 0 0` }) : null,
        make("i", { style: `flex: ${counts.unclaimed} 0 0` })) : null,
      ran ? make("ul", { class: "facts" },
        fact(wrong, "bad", "bad", "bad"),
        fact(counts.pass, "pass", "pass"),
        fact(counts.unclaimed, "not claimed", "unclaimed"),
        fact(target.claimable, "could be claimed", "claimable"),
        target.gradient_share == null ? null : make("li", {}, `${percent(target.gradient_share)} of gradients claimed`),
        target.worst == null ? null : make("li", {}, `worst error/bound ${ratioText(target.worst)}`)) : null,
      target.broken ? make("p", { class: "broken" }, `Not run to the end: ${target.broken}`) : null);
  }

  // ---- the matrix ----

  function matrix() {
    const columns = data.targets.map((target, t) => [target, t]).filter(([target]) => target.results.length);
    at("matrix-title").closest("section").hidden = !columns.length;
    if (!columns.length) return;
    const head = make("tr", {}, make("th", { scope: "col" }, "capability"),
      make("th", { scope: "col", class: "cases" }, "cases"),
      ...columns.map(([target]) => make("th", { scope: "col" }, target.name)));
    const bodies = [];
    let group = null;
    data.capabilities.forEach((capability, c) => {
      const cases = surveyed(columns[0][0].capabilities[c]);
      if (!columns.some(([target]) => total(target.capabilities[c]))) return;
      if (capability.group !== group) {
        group = capability.group;
        bodies.push(make("tbody", {}, make("tr", { class: "group" },
          make("th", { scope: "rowgroup" }, group), make("td", { class: "cases" }), make("td", { colspan: columns.length }))));
      }
      bodies.at(-1).append(make("tr", {}, make("th", { scope: "row" }, capability.name),
        make("td", { class: "cases" }, String(cases)),
        ...columns.map(([target, t]) => make("td", {}, cell(target, t, c)))));
    });
    at("matrix").style.setProperty("--columns", columns.length);
    at("matrix").append(make("thead", {}, head), ...bodies);
    const box = at("matrix").parentElement;
    const told = () => { at("aside").hidden = box.scrollWidth <= box.clientWidth; };
    addEventListener("resize", told);
    told();
  }
  function cell(target, t, c) {
    const summary = target.capabilities[c], wrong = bad(summary), all = total(summary);
    const passed = summary.counts.pass, more = summary.steered;
    const [kind, text, words] = wrong ? ["bad", `${wrong} bad`, `${wrong} of ${all} are bad`]
      : passed === all ? ["full", String(all), `all ${all} pass`]
      : passed ? ["part", `${passed - more} of ${all - more}${more ? ` +${more}` : ""}`,
        `${passed - more} of ${all - more} pass, the rest is not claimed${more ? `; so do ${more} drawn in its place` : ""}`]
      : ["none", "–", "none is claimed"];
    const worst = ratioText(summary.worst);
    const { group, name } = data.capabilities[c];
    return make("button", {
      type: "button", class: `cell ${kind}`, "data-target": t, "data-capability": c,
      title: `${target.name}, ${group} ${name}: ${words}${worst && `; worst error/bound ${worst}`}`,
      "aria-pressed": "false",
      onclick: () => go({ backend: String(t), capability: String(c), status: wrong ? "bad" : "" }),
    }, make("span", {}, text), worst ? make("small", {}, worst) : null);
  }

  // ---- histograms of error over bound, by powers of ten of which each has two bars ----

  const LEAST = -5, MOST = 2, PER = 2, LABELLED = [-5, -3, -1, 0, 2];
  function histograms() {
    const figures = data.targets.map((target, t) => {
      const ratios = results.filter((r) => r.target === t && r.ratio != null).map((r) => r.ratio);
      return ratios.length ? histogram(target, ratios) : null;
    }).filter(Boolean);
    at("errors").hidden = !figures.length;
    at("histograms").append(...figures);
  }
  function histogram(target, ratios) {
    const bins = Array((MOST - LEAST) * PER).fill(0);
    for (const ratio of ratios) {
      // A bar holds what is above its left edge up to its right one: 1 itself is within the bound.
      const bin = Math.ceil((Math.log10(ratio) - LEAST) * PER) - 1;
      bins[Math.min(Math.max(bin, 0), bins.length - 1)] += 1;
    }
    const width = 320, height = 120, left = 4, base = height - 18, step = (width - 2 * left) / bins.length;
    const highest = Math.max(...bins);
    const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
    svg.append(draw("title", {}, `${target.name}: ${ratios.length} cases, worst ${ratioText(target.worst)}`));
    svg.append(draw("line", { x1: left, x2: width - left, y1: base, y2: base }));
    bins.forEach((count, i) => {
      if (!count) return;
      const tall = Math.max((base - 16) * count / highest, 2), over = LEAST + i / PER >= 0;
      const bar = draw("rect", { x: left + i * step + 1, y: base - tall, width: step - 2, height: tall, rx: 2, class: over ? "bad" : "" });
      const [from, to] = [LEAST + i / PER, LEAST + (i + 1) / PER].map((p) => ratioText(10 ** p));
      bar.append(draw("title", {}, `${count} between ${from} and ${to}`));
      svg.append(bar, draw("text", { x: left + (i + 0.5) * step, y: base - tall - 4, "text-anchor": "middle" }, String(count)));
    });
    for (let p = LEAST; p <= MOST; p += 1) {
      const x = left + (p - LEAST) * PER * step;
      if (p === 0) svg.append(draw("line", { x1: x, x2: x, y1: 2, y2: base, class: "limit" }));
      if (!LABELLED.includes(p)) continue;
      const anchor = p === LEAST ? "start" : p === MOST ? "end" : "middle";
      const text = p === LEAST ? `≤1e${p}` : p === MOST ? `≥1e${p}` : p === 0 ? "1" : `1e${p}`;
      svg.append(draw("text", { x, y: height - 4, "text-anchor": anchor }, text));
    }
    return make("figure", { class: "histogram" },
      make("figcaption", {}, make("b", {}, target.name),
        make("span", {}, `${ratios.length} cases, worst ${ratioText(target.worst)}`)), svg);
  }

  // ---- the list of cases ----

  function found() {
    const { backend, status, capability, text } = chosen();
    const holds = (STATUSES[status] ?? STATUSES[""])[1];
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    return results.filter((result) => (backend === "" || result.target === Number(backend))
      && (capability === "" || result.capabilities.has(Number(capability)))
      && holds(result) && words.every((word) => result.text.includes(word)));
  }
  function list() {
    const all = found();
    at("list").replaceChildren(...all.slice(0, shown).map(item));
    const wrong = all.filter((result) => result.bad).length;
    at("count").textContent = `${all.length} results, ${wrong} of them bad`;
    at("more").hidden = all.length <= shown;
    at("more").textContent = `Show more (${all.length - shown} left)`;
  }
  function item(result) {
    const kind = result.bad ? "bad" : result.claimable ? "claimable" : result.status;
    const details = make("details", {}, make("summary", {},
      make("span", { class: `badge ${kind}` }, STATUSES[result.bad ? result.status : kind][0]),
      make("span", { class: "who" }, data.targets[result.target].name),
      make("span", { class: "line" }, result.line),
      make("span", { class: "ratio" }, ratioText(result.ratio))));
    details.addEventListener("toggle", () => { // written when it is opened for the first time
      if (details.open && details.children.length === 1) details.append(opened(result));
    });
    return make("li", {}, details);
  }
  function opened(result) {
    const { smallest } = result, probe = result.claimed ? "" : " --probe";
    const again = (line) =>
      `convspec conformance run --backend ${quoted(data.targets[result.target].name)}${probe} --case ${quoted(line)}`;
    const parts = make("div", { class: "more" });
    if (result.detail) parts.append(make("h4", {}, "What came of it"), block(result.detail, "wrap"));
    if (smallest) {
      const text = [smallest.line, smallest.detail].filter(Boolean).join("\n\n");
      parts.append(make("h4", {}, "The smallest case that still fails"), block(text, "wrap"));
      if (smallest.snippet) parts.append(...copied("As code", smallest.snippet, ""));
    }
    parts.append(...copied("Run it again", again((smallest ?? result).line), "wrap"));
    const seconds = result.seconds < 0.01 ? "under 0.01" : result.seconds.toFixed(2);
    const needs = [...result.capabilities].map((c) => {
      const { group, name } = data.capabilities[c];
      return `${group} ${name}`;
    });
    parts.append(make("p", { class: "quiet" }, `Needs: ${needs.join(", ")}. Took ${seconds} s.`));
    return parts;
  }
  const block = (text, kind) => make("pre", { class: kind, tabindex: kind ? null : "0" }, text.trimEnd());
  function copied(title, text, kind) {
    const button = make("button", { type: "button", class: "copy", onclick: () => {
      navigator.clipboard?.writeText(text.trimEnd()).then(() => { button.textContent = "Copied"; });
    } }, "Copy");
    return [make("div", { class: "titled" }, make("h4", {}, title), button), block(text, kind)];
  }

  // ---- filters ----

  function filters() {
    const option = (value, text) => make("option", { value }, text);
    at("by-target").append(option("", "any"), ...data.targets.map((target, t) => option(String(t), target.name)));
    at("by-status").append(...Object.entries(STATUSES)
      .filter(([name, [, holds]]) => !name || results.some(holds))
      .map(([name, [text]]) => option(name, text)));
    const groups = new Map();
    data.capabilities.forEach(({ group, name }, c) => {
      if (!groups.has(group)) groups.set(group, make("optgroup", { label: group }));
      groups.get(group).append(option(String(c), `${group}: ${name}`));
    });
    at("by-capability").append(option("", "any"), ...groups.values());
    for (const id of Object.values(FIELDS)) {
      at(id).addEventListener(id === "by-text" ? "input" : "change", changed);
    }
    at("filters").addEventListener("submit", (event) => event.preventDefault());
    at("reset").addEventListener("click", () => choose({}));
    at("more").addEventListener("click", () => { shown += PAGE; list(); });
    addEventListener("hashchange", fromAddress);
  }
  function fromAddress() {
    choose(Object.fromEntries(new URLSearchParams(location.hash.slice(1))));
  }

  header();
  at("cards").append(...data.targets.map(card));
  matrix();
  histograms();
  filters();
  fromAddress();
})();
