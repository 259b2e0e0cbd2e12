// The list of rows, of which only those in the window are in the page.

const LINE = 24;

function element(kind, className, text = "") {
  const made = document.createElement(kind);
  made.className = className;
  made.textContent = text;
  return made;
}

// A number in four digits, in at most eight characters.
function short(number) {
  const text = number.toPrecision(4);
  return text.length > 8 ? number.toExponential(1) : text;
}

class RowList {
  constructor(root, table, onChoose) {
    this.root = root;
    this.table = table;
    this.onChoose = onChoose;
    this.scroll = root.querySelector(".scroll");
    this.lines = root.querySelector(".lines");
    this.chosen = -1;
    this.active = 0; // the place that keys have reached
    this.rows = Array.from({length: table.n}, (_, row) => row);
    this.columns = [
      {name: "row", text: String, value: row => row},
      {name: "name", isText: true, text: row => table.names[row], value: row => table.lower[row]},
      {name: "norm", text: row => short(table.norms[row]), value: row => table.norms[row]},
    ];
    if (table.counts) {
      this.columns.push({name: "look-ups", text: row => table.counts[row].toLocaleString("en"), value: row => table.counts[row]});
      root.classList.add("counted");
    }
    this.sorted = {column: this.columns[0], sign: 1};
    for (const column of this.columns) {
      column.head = element("button", column.isText ? "text" : "", column.name);
      column.head.type = "button";
      column.head.addEventListener("click", () => this.sort(column));
      root.querySelector(".heads").append(column.head);
    }
    root.querySelector(".space").style.height = `${table.n * LINE}px`;
    this.scroll.addEventListener("scroll", () => this.show());
    this.scroll.addEventListener("keydown", event => this.key(event));
    new ResizeObserver(() => this.show()).observe(this.scroll);
    this.showOrder();
    this.show();
  }

  // By a column; by the same one again in the other direction. Numbers start with the largest, and
  // what is no number comes last.
  sort(column) {
    const isAgain = this.sorted.column === column;
    const sign = isAgain ? -this.sorted.sign : column.isText || column === this.columns[0] ? 1 : -1;
    this.sorted = {column, sign};
    const {value} = column;
    this.rows.sort((a, b) => {
      const one = value(a), other = value(b);
      if (Number.isNaN(one) !== Number.isNaN(other)) return Number.isNaN(one) ? 1 : -1;
      return one < other ? -sign : one > other ? sign : a - b;
    });
    this.active = 0;
    this.scroll.scrollTop = 0;
    this.showOrder();
    this.show();
  }

  showOrder() {
    const {column, sign} = this.sorted;
    for (const {name, head} of this.columns) {
      const isSorted = head === column.head;
      head.textContent = name + (isSorted ? (sign > 0 ? " \u2191" : " \u2193") : "");
      head.setAttribute("aria-pressed", isSorted);
    }
  }

  key(event) {
    const last = this.rows.length - 1, page = Math.max(Math.floor(this.scroll.clientHeight / LINE) - 1, 1);
    if (last < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const places = {
      ArrowDown: this.active + 1, ArrowUp: this.active - 1, PageDown: this.active + page, PageUp: this.active - page, Home: 0, End: last,
    };
    if (event.key in places) this.goTo(Math.min(Math.max(places[event.key], 0), last));
    else if (event.key === "Enter" || event.key === " ") this.onChoose(this.rows[this.active]);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  goTo(place) {
    const top = place * LINE, {scrollTop, clientHeight} = this.scroll;
    this.active = place;
    if (top < scrollTop) this.scroll.scrollTop = top;
    else if (top + LINE > scrollTop + clientHeight) this.scroll.scrollTop = top + LINE - clientHeight;
    this.show();
  }

  choose(row) {
    this.chosen = row;
    if (row >= 0) {
      this.active = this.rows.indexOf(row);
      const top = this.active * LINE, {scrollTop, clientHeight} = this.scroll;
      if (top < scrollTop || top > scrollTop + clientHeight - LINE) this.scroll.scrollTop = top - clientHeight / 2;
    }
    this.show();
  }

  show() {
    const first = Math.max(Math.floor(this.scroll.scrollTop / LINE) - 4, 0);
    const end = Math.min(first + Math.ceil(this.scroll.clientHeight / LINE) + 8, this.rows.length);
    this.lines.style.top = `${first * LINE}px`;
    this.lines.replaceChildren(...this.rows.slice(first, end).map((row, k) => {
      const line = element("div", row === this.chosen ? "line chosen" : "line");
      line.id = `line${first + k}`;
      line.classList.toggle("active", first + k === this.active);
      line.setAttribute("role", "option");
      line.setAttribute("aria-selected", row === this.chosen);
      line.append(...this.columns.map(column => element("span", column.isText ? "text" : "number", column.text(row))));
      line.addEventListener("click", () => this.onChoose(row));
      return line;
    }));
    this.scroll.setAttribute("aria-activedescendant", `line${this.active}`);
  }
}
