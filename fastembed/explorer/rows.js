// The list of rows, of which only those in the window are in the page.

const LINE = 24;

function element(kind, className, text = "") {
  const made = document.createElement(kind);
  made.className = className;
  made.textContent = text;
  return made;
}

class RowList {
  constructor(root, table, onChoose) {
    this.root = root;
    this.table = table;
    this.onChoose = onChoose;
    this.scroll = root.querySelector(".scroll");
    this.lines = root.querySelector(".lines");
    this.chosen = -1;
    this.rows = Array.from({length: table.n}, (_, row) => row);
    this.columns = [
      {name: "row", text: String, value: row => row},
      {name: "name", isText: true, text: row => table.names[row], value: row => table.lower[row]},
      {name: "norm", text: row => table.norms[row].toPrecision(4), value: row => table.norms[row]},
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
    new ResizeObserver(() => this.show()).observe(this.scroll);
    this.show();
  }

  // By a column; by the same one again in the other direction. Numbers start with the largest.
  sort(column) {
    const isAgain = this.sorted.column === column;
    const sign = isAgain ? -this.sorted.sign : column.isText || column === this.columns[0] ? 1 : -1;
    this.sorted = {column, sign};
    const {value} = column;
    this.rows.sort((a, b) => {
      const one = value(a), other = value(b);
      return one < other ? -sign : one > other ? sign : a - b;
    });
    for (const {name, head} of this.columns) head.textContent = name + (head === column.head ? (sign > 0 ? " \u2191" : " \u2193") : "");
    this.scroll.scrollTop = 0;
    this.show();
  }

  choose(row) {
    this.chosen = row;
    if (row >= 0) {
      const top = this.rows.indexOf(row) * LINE, {scrollTop, clientHeight} = this.scroll;
      if (top < scrollTop || top > scrollTop + clientHeight - LINE) this.scroll.scrollTop = top - clientHeight / 2;
    }
    this.show();
  }

  show() {
    const first = Math.max(Math.floor(this.scroll.scrollTop / LINE) - 4, 0);
    const end = Math.min(first + Math.ceil(this.scroll.clientHeight / LINE) + 8, this.rows.length);
    this.lines.style.top = `${first * LINE}px`;
    this.lines.replaceChildren(...this.rows.slice(first, end).map(row => {
      const line = element("div", row === this.chosen ? "line chosen" : "line");
      line.append(...this.columns.map(column => element("span", column.isText ? "text" : "number", column.text(row))));
      line.addEventListener("click", () => this.onChoose(row));
      return line;
    }));
  }
}
