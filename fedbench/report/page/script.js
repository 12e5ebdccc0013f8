"use strict";
// The page's behaviour: sort, filter, link to a view, details, downloads, light and dark.
// Rows and numbers are in the page already; without this script it is a plain table.
(() => {
  const root = document.documentElement;
  const find = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const MISSING = "–";

  // light and dark: before anything is drawn

  const theme = {
    key: "fedbench-theme",
    // A page of a local file may be refused any storage.
    load() {
      try { return localStorage.getItem(this.key); } catch { return null; }
    },
    save(value) {
      try { localStorage.setItem(this.key, value); } catch { /* it holds until the page is left */ }
    },
    dark() {
      return root.dataset.theme ? root.dataset.theme === "dark"
        : matchMedia("(prefers-color-scheme: dark)").matches;
    },
    set(value) {
      if (value === "dark" || value === "light") root.dataset.theme = value;
    },
  };
  root.classList.add("scripted");
  theme.set(theme.load());

  function startTheme() {
    const button = find("#theme");
    const name = () => { button.textContent = theme.dark() ? "Light" : "Dark"; };
    button.addEventListener("click", () => {
      theme.set(theme.dark() ? "light" : "dark");
      theme.save(root.dataset.theme);
      name();
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", name);
    name();
  }

  // what the page holds

  let data, times, board, bodies, lines, flat;
  const view = { filters: {}, sort: "", direction: "" };

  function load() {
    data = JSON.parse(find("#data").textContent);
    data.rows = unpacked(data.rows);
    data.runs = unpacked(data.runs);
    times = JSON.parse(find("#times").textContent);
    board = find("#board");
    if (!board) return false;
    fillTimes();
    bodies = all("tbody.block", board);
    lines = bodies.flatMap((body) => all("tr.row", body).map((row) => {
      const number = Number(row.dataset.row);
      return { row, number, more: row.nextElementSibling, facts: facts(number, row, body) };
    }));
    flat = document.createElement("tbody");
    flat.className = "flat";
    board.append(flat);
    return true;
  }

  /** The lines of a table that is written as each column's values and which of them a line has. */
  function unpacked({ values, rows }) {
    return rows.map((row) => row.map((place, column) => values[column][place]));
  }

  function fillTimes() {
    for (const cell of all("[data-time]", board)) {
      const number = Number(cell.closest("tr").dataset.row);
      cell.textContent = times.rows[cell.dataset.time][number][1];
    }
  }

  /** What filters compare: one text for each filter. */
  function facts(number, row, body) {
    const text = (name) => value(number, name) || MISSING;
    const label = data.labels[number];
    return {
      dataset: text("dataset"), scheme: text("scheme"), beta: text("beta"),
      clients: text("clients"), method: text("method"), profile: text("profile"),
      budget: body.dataset.budget,
      kind: row.classList.contains("control") ? "controls" : "contenders",
      search: [label, ...data.rows[number]].join(" ").toLowerCase(),
    };
  }

  /** A row's text in a column of table.csv, or of a time; empty where it has none. */
  function value(number, name) {
    if (name === "label") return data.labels[number];
    if (name in times.rows) return times.rows[name][number][0];
    return data.rows[number][data.columns.indexOf(name)];
  }

  // filter and sort

  function passes(line) {
    return Object.entries(view.filters).every(([name, wanted]) => name === "search"
      ? wanted.toLowerCase().split(/\s+/).every((word) => line.facts.search.includes(word))
      : line.facts[name] === wanted);
  }

  /** The rows that pass, each once though it may stand in several blocks, in the chosen order. */
  function shownRows() {
    const once = new Map(lines.filter(passes).map((line) => [line.number, line]));
    const found = [...once.values()].sort((one, other) => one.number - other.number);
    return view.sort ? found.sort(compare) : found; // JavaScript's sort is stable
  }

  function compare(one, other) {
    const [a, b] = [sortable(one.number), sortable(other.number)];
    if (a === null || b === null) return (a === null) - (b === null);
    const order = a < b ? -1 : a > b ? 1 : 0;
    return view.direction === "descending" ? -order : order;
  }

  /** A number, a lower-case name, or null for nothing, which stands last in either direction. */
  function sortable(number) {
    const text = value(number, view.sort);
    if (view.sort === "label") return text.toLowerCase();
    return text === "" || Number.isNaN(Number(text)) ? null : Number(text);
  }

  function show() {
    const rows = shownRows();
    const passing = new Set(lines.filter(passes));
    for (const line of lines) {
      line.row.classList.toggle("out", !passing.has(line));
      line.more.classList.toggle("out", !passing.has(line));
    }
    for (const body of bodies) {
      const left = all("tr.row:not(.out)", body);
      find("tr.head", body).classList.toggle("out", left.length === 0);
      const controls = left.some((row) => row.classList.contains("control"));
      find("tr.apart", body)?.classList.toggle("out", !controls);
    }
    board.classList.toggle("sorted", view.sort !== "");
    flat.replaceChildren(...(view.sort ? rows.flatMap(copy) : []));
    showHead();
    showCount(rows.length);
  }

  /** A row and its details for the flat table. Who is best of a block means nothing there. */
  function copy(line) {
    const row = line.row.cloneNode(true);
    for (const mark of all(".mark", row)) mark.remove();
    for (const score of all(".value", row)) score.className = "value";
    row.classList.remove("out");
    const more = line.more.cloneNode(true);
    more.classList.remove("out");
    return [row, more];
  }

  function showHead() {
    for (const head of all("thead th", board)) {
      const sorted = head.dataset.key === view.sort;
      if (sorted) head.setAttribute("aria-sort", view.direction);
      else head.removeAttribute("aria-sort");
    }
  }

  function showCount(count) {
    const head = view.sort && find(`thead th[data-key="${view.sort}"] .sort`, board);
    const order = head ? `, sorted by ${head.textContent}, ${view.direction}` : "";
    find("#count").textContent = `${count} of ${data.rows.length} rows${order}`;
    find("#reset").hidden = !view.sort && Object.keys(view.filters).length === 0;
  }

  // the view in the address: #beta=0.1&sort=accuracy_mean&direction=descending

  function read() {
    const wanted = new URLSearchParams(location.hash.slice(1));
    view.filters = {};
    for (const field of find("#filters").elements) {
      const text = wanted.get(field.name) ?? "";
      field.value = text; // a value that no row has leaves a list empty
      if (field.tagName === "SELECT" && field.selectedIndex < 0) field.value = "";
      if (field.value) view.filters[field.name] = field.value;
    }
    const keys = all("thead th", board).map((head) => head.dataset.key);
    view.sort = keys.includes(wanted.get("sort")) ? wanted.get("sort") : "";
    const upwards = wanted.get("direction") !== "descending";
    view.direction = view.sort && (upwards ? "ascending" : "descending");
  }

  function write() {
    const wanted = new URLSearchParams(view.filters);
    if (view.sort) {
      wanted.set("sort", view.sort);
      wanted.set("direction", view.direction);
    }
    history.replaceState(null, "", `#${wanted}`);
  }

  function startViews() {
    const form = find("#filters");
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", () => {
      const chosen = [...form.elements].filter((field) => field.value);
      view.filters = Object.fromEntries(chosen.map((field) => [field.name, field.value]));
      write();
      show();
    });
    find("#reset").addEventListener("click", () => {
      form.reset();
      Object.assign(view, { filters: {}, sort: "", direction: "" });
      write();
      show();
      form.elements[0].focus();
    });
    find("thead", board).addEventListener("click", (event) => {
      const button = event.target.closest(".sort");
      if (button) sortBy(button.closest("th"));
    });
    addEventListener("hashchange", () => {
      // Links to parts of the page are no views.
      if (location.hash.length > 1 && !location.hash.includes("=")) return;
      read();
      show();
    });
  }

  /** The better end first, then the other, then blocks again. */
  function sortBy(head) {
    const first = head.dataset.better === "high" ? "descending" : "ascending";
    const second = first === "ascending" ? "descending" : "ascending";
    const next = view.sort !== head.dataset.key ? first : view.direction === first ? second : "";
    view.sort = next && head.dataset.key;
    view.direction = next;
    write();
    show();
  }

  function startDetails() {
    board.addEventListener("click", (event) => {
      const button = event.target.closest(".open");
      if (!button) return;
      const open = button.closest("tr").nextElementSibling.classList.toggle("shown");
      button.setAttribute("aria-expanded", String(open));
    });
  }

  // downloads

  /** One cell: a name that a spreadsheet would run as a formula gets an apostrophe. */
  function cell(text) {
    const name = Number.isNaN(Number(text));
    const still = name && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
    return /[",\r\n]/.test(still) ? `"${still.replaceAll('"', '""')}"` : still;
  }

  function csv(rows) {
    return rows.map((row) => `${row.map(cell).join(",")}\n`).join("");
  }

  function table() {
    return csv([data.columns, ...shownRows().map((line) => data.rows[line.number])]);
  }

  function runs() {
    const wanted = shownRows().flatMap(
      (line) => data.runs.filter(([number]) => number === line.number).map((run) => run.slice(1)));
    return csv([data.runColumns, ...wanted]);
  }

  function save(name, type, text) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  function startDownloads() {
    for (const button of all("[data-csv]")) {
      const kind = button.dataset.csv;
      button.addEventListener("click", () => save(
        `${data.suite}-${kind}.csv`, "text/csv;charset=utf-8", kind === "runs" ? runs() : table()));
    }
  }

  // figures

  function startFigures() {
    for (const paper of all("[data-timing]")) {
      const drawn = new DOMParser().parseFromString(
        times.figures[paper.dataset.figure], "image/svg+xml");
      const narrow = parseFloat(drawn.documentElement.getAttribute("width")) < paper.dataset.narrow;
      paper.closest("figure").classList.toggle("narrow", narrow);
      paper.replaceChildren(document.importNode(drawn.documentElement, true));
    }
    for (const link of all("a.save")) {
      link.addEventListener("click", (event) => {
        event.preventDefault();
        const drawn = find("svg", link.closest("figure"));
        save(link.download, "image/svg+xml", new XMLSerializer().serializeToString(drawn));
      });
    }
  }

  document.addEventListener("DOMContentLoaded", () => {
    startTheme();
    const rows = load();
    startFigures();
    if (!rows) return;
    startViews();
    startDetails();
    startDownloads();
    read();
    show();
  });
})();
