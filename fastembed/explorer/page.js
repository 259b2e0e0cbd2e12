// The page: choosing, finding, keys and pointers.

const N_NEAREST = 12, N_MATCHES = 12, STEP = 60;

// The row that the page's address ends with, as in page.html#12; -1 for none.
function rowOfAddress() {
  return Number.parseInt((/^#(\d+)$/.exec(location.hash) || [])[1] ?? "-1", 10);
}

class Explorer {
  constructor() {
    this.table = new Table(JSON.parse(document.getElementById("data").textContent));
    this.map = new PointMap(document.getElementById("map"), this.table);
    this.map.onView = () => this.hideTip();
    this.list = new RowList(document.querySelector(".list"), this.table, row => this.choose(row));
    this.search = document.getElementById("search");
    this.matches = document.getElementById("matches");
    this.colour = document.getElementById("colour");
    this.tip = document.getElementById("tip");
    this.cosines = null;
    this.active = 0;
    const [first, second] = this.table.shares.map(share => `${Math.round(100 * share)}%`);
    document.getElementById("about").textContent = `${this.table.about}; the map shows ${first} and ${second} of the variance`;
    if (!this.table.counts) this.colour.querySelector('[value="count"]').remove();
    this.listen();
    this.choose(rowOfAddress());
  }

  listen() {
    const on = (id, event, action) => document.getElementById(id).addEventListener(event, action);
    on("in", "click", () => this.map.zoom(1.5));
    on("out", "click", () => this.map.zoom(1 / 1.5));
    on("all", "click", () => this.map.showAll());
    on("theme", "click", () => this.switchTheme());
    on("colour", "change", () => this.shade());
    on("search", "input", () => { this.active = 0; this.showMatches(); });
    on("search", "focus", () => this.showMatches());
    on("search", "blur", () => this.hideMatches());
    on("search", "keydown", event => this.searchKey(event));
    document.addEventListener("keydown", event => this.key(event));
    window.addEventListener("hashchange", () => this.choose(rowOfAddress()));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.map.restyle());
    this.listenToPointers(this.map.canvas);
  }

  listenToPointers(canvas) {
    const held = new Map();
    let moved = 0;
    const place = event => {
      const box = canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    const apart = () => {
      const [[ax, ay], [bx, by]] = held.values();
      return Math.hypot(ax - bx, ay - by);
    };
    canvas.addEventListener("pointerdown", event => {
      if (event.button !== 0) return;
      canvas.setPointerCapture(event.pointerId);
      held.set(event.pointerId, place(event));
      moved = 0;
      canvas.classList.add("drag");
    });
    canvas.addEventListener("pointermove", event => {
      const [x, y] = place(event), from = held.get(event.pointerId);
      if (!from) return this.hover(x, y);
      const before = held.size === 2 ? apart() : 0;
      moved += Math.hypot(x - from[0], y - from[1]);
      held.set(event.pointerId, [x, y]);
      if (held.size === 2) this.map.zoom(apart() / Math.max(before, 1), x, y);
      else this.map.move(x - from[0], y - from[1]);
      return undefined;
    });
    canvas.addEventListener("pointerup", event => {
      if (held.has(event.pointerId) && moved < 5) this.choose(this.map.at(...place(event)));
    });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, event => {
      held.delete(event.pointerId);
      canvas.classList.toggle("drag", held.size > 0);
    });
    canvas.addEventListener("pointerleave", () => this.hideTip());
    canvas.addEventListener("wheel", event => {
      event.preventDefault();
      this.map.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), ...place(event));
    }, {passive: false});
  }

  hover(x, y) {
    const row = this.map.at(x, y);
    this.mark(row);
    if (row < 0) return;
    this.tip.textContent = this.describe(row);
    const left = Math.min(this.map.x(row) + 12, this.map.width - this.tip.offsetWidth - 8);
    this.tip.style.left = `${left}px`;
    this.tip.style.top = `${Math.max(this.map.y(row) - this.tip.offsetHeight - 10, 4)}px`;
  }

  // Where the row is no longer, or is another to the chosen one.
  hideTip() {
    this.mark(-1);
  }

  mark(row) {
    this.tip.hidden = row < 0;
    if (row === this.map.hovered) return;
    this.map.hovered = row;
    this.map.wantDraw();
  }

  describe(row) {
    const {names, norms, counts} = this.table, cosine = this.cosines && row !== this.map.chosen;
    const parts = [`row ${row}`, `norm ${short(norms[row])}`];
    if (counts) parts.push(`${counts[row].toLocaleString("en")} look-ups`);
    if (cosine) parts.push(`cosine ${this.cosines[row].toFixed(3)}`);
    return `${names[row]}\n${parts.join(", ")}`;
  }

  choose(row) {
    const isRow = row >= 0 && row < this.table.n;
    this.hideTip();
    this.cosines = isRow ? this.table.cosines(row) : null;
    this.map.chosen = isRow ? row : -1;
    this.map.near = isRow && this.table.isShown(row) && this.table.norms[row] > 0 ? this.table.nearest(row, N_NEAREST, this.cosines) : [];
    try {
      history.replaceState(null, "", isRow ? `#${row}` : location.pathname + location.search);
    } catch { /* a page in a frame, as of a notebook, has no address of its own */ }
    this.showChosen();
    this.list.choose(this.map.chosen);
    if (isRow && this.table.isShown(row)) this.map.showRow(row);
    this.shade();
  }

  showChosen() {
    const place = document.getElementById("chosen"), row = this.map.chosen;
    if (row < 0) {
      place.replaceChildren(element("p", "", "Choose a point, or a row of the list, to see the rows that are nearest to it."));
      return;
    }
    const near = element("ol", ""), [name, about] = [this.table.names[row], this.describe(row).split("\n").pop()];
    for (const other of this.map.near) {
      const item = element("li", ""), button = element("button", ""), bar = element("span", "bar"), filled = element("i", "");
      button.type = "button";
      filled.style.width = `${Math.max(this.cosines[other], 0) * 100}%`;
      bar.append(filled);
      button.append(element("span", "text", this.table.names[other]), bar, element("span", "number", this.cosines[other].toFixed(3)));
      button.addEventListener("click", () => {
        this.choose(other);
        document.querySelector("#chosen h2").focus(); // the next Tab is the first of its neighbours
      });
      item.append(button);
      near.append(item);
    }
    const head = element("h2", "", name);
    head.tabIndex = -1;
    head.title = name;
    const nearest = element("h3", "", this.map.near.length ? "Nearest rows by cosine" : "No row is near: it has no direction, or is alone.");
    place.replaceChildren(head, element("p", "", about), nearest, near);
    place.scrollTop = 0;
  }

  // A number from 0 to 1 for each row: by rank, so that a few large values do not hide the others.
  shade() {
    const values = {norm: this.table.norms, count: this.table.counts, cosine: this.cosines}[this.colour.value];
    this.map.shade = null;
    if (values) {
      const rows = this.table.order.filter(row => !Number.isNaN(values[row])).sort((a, b) => values[a] - values[b]);
      this.map.shade = new Float32Array(this.table.n);
      rows.forEach((row, rank) => { this.map.shade[row] = rank / Math.max(rows.length - 1, 1); });
    }
    const scale = document.getElementById("scale");
    scale.hidden = this.colour.value === "none";
    if (values) scale.replaceChildren("low", element("i", ""), "high");
    else scale.textContent = "choose a row";
    this.map.wantDraw();
  }

  switchTheme() {
    const root = document.documentElement, isDark = getComputedStyle(root).colorScheme === "dark";
    root.dataset.theme = isDark ? "light" : "dark";
    this.map.restyle();
  }

  showMatches() {
    const text = this.search.value, rows = text ? this.table.find(text, N_MATCHES) : [];
    this.active = Math.min(this.active, Math.max(rows.length - 1, 0));
    this.matches.replaceChildren(...rows.map((row, k) => {
      const item = element("li", "");
      item.setAttribute("role", "option");
      item.setAttribute("aria-selected", k === this.active);
      item.id = `match${k}`;
      item.append(element("span", "text", this.table.names[row]), element("span", "number", `row ${row}`));
      item.addEventListener("pointerdown", event => event.preventDefault()); // the search keeps the focus
      item.addEventListener("click", () => this.take(row));
      return item;
    }));
    if (text && !rows.length) this.matches.append(element("li", "none", "No row has this in its name."));
    this.matches.hidden = !text;
    this.search.setAttribute("aria-expanded", !this.matches.hidden);
    this.search.setAttribute("aria-activedescendant", rows.length ? `match${this.active}` : "");
    this.matches.children[this.active]?.scrollIntoView({block: "nearest"});
    return rows;
  }

  hideMatches() {
    this.matches.hidden = true;
    this.active = 0;
    this.search.setAttribute("aria-expanded", false);
  }

  take(row) {
    this.search.value = "";
    this.search.blur();
    this.choose(row);
  }

  searchKey(event) {
    if (event.isComposing) return; // a character of which more keys are parts
    const move = {ArrowDown: 1, ArrowUp: -1}[event.key];
    if (move) {
      event.preventDefault();
      this.active = Math.min(Math.max(this.active + move, 0), N_MATCHES - 1);
      this.showMatches();
    } else if (event.key === "Enter") {
      const rows = this.showMatches();
      if (rows.length) this.take(rows[this.active]);
    } else if (event.key === "Escape") {
      this.search.value = "";
      this.search.blur();
    }
    event.stopPropagation();
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target === this.search) return;
    if (event.target === this.colour && !/^([/]|Escape)$/.test(event.key)) return; // the others choose a colour
    const actions = {
      "/": () => this.search.focus(), "+": () => this.map.zoom(1.5), "=": () => this.map.zoom(1.5), "-": () => this.map.zoom(1 / 1.5),
      "0": () => this.map.showAll(), "t": () => this.switchTheme(), "Escape": () => this.choose(-1),
      "n": () => { if (this.map.near.length) this.choose(this.map.near[0]); },
    };
    const moves = {ArrowLeft: [STEP, 0], ArrowRight: [-STEP, 0], ArrowUp: [0, STEP], ArrowDown: [0, -STEP]};
    if (actions[event.key]) actions[event.key]();
    else if (moves[event.key] && !event.target.closest(".scroll")) this.map.move(...moves[event.key]);
    else return;
    event.preventDefault();
  }
}

const explorer = new Explorer();
