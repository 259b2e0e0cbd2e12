// The map: rows as points on a canvas that is moved and zoomed.

const LABEL_FONT = '12px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif';
// From low to high, each at a contrast of 3.7 or more to the page.
const SCALES = {
  light: [[68, 1, 84], [59, 82, 139], [33, 135, 140], [60, 150, 60], [160, 125, 0]],
  dark: [[122, 104, 220], [86, 140, 214], [51, 178, 165], [94, 201, 98], [253, 231, 37]],
};
const CANDIDATES = 6000, MAX_LABEL = 28;

function scaleColour(scale, part) {
  const at = Math.min(Math.max(part, 0), 1) * (scale.length - 1), low = Math.min(Math.floor(at), scale.length - 2);
  return `rgb(${scale[low].map((c, k) => Math.round(c + (scale[low + 1][k] - c) * (at - low))).join()})`;
}

class PointMap {
  constructor(canvas, table) {
    this.canvas = canvas;
    this.table = table;
    this.onView = () => {}; // what the page does when another part of the map is shown
    this.context = canvas.getContext("2d");
    this.chosen = this.hovered = -1;
    this.near = [];
    this.labels = [];
    this.shade = null; // for each row a number from 0 to 1
    this.widths = new Map();
    this.colours = {};
    this.isWaiting = false;
    new ResizeObserver(() => this.resize()).observe(canvas);
    this.resize(true);
  }

  resize(isFirst) {
    const ratio = window.devicePixelRatio || 1;
    const wasAll = isFirst || this.isAll;
    this.width = this.canvas.clientWidth;
    this.height = this.canvas.clientHeight;
    this.canvas.width = Math.round(this.width * ratio);
    this.canvas.height = Math.round(this.height * ratio);
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
    if (wasAll) this.showAll();
    this.draw();
  }

  showAll() {
    const {points, n} = this.table, low = [Infinity, Infinity], high = [-Infinity, -Infinity];
    for (let i = 0; i < 2 * n; i++) {
      if (!Number.isFinite(points[i])) continue;
      low[i % 2] = Math.min(low[i % 2], points[i]);
      high[i % 2] = Math.max(high[i % 2], points[i]);
    }
    const size = [0, 1].map(k => Math.max(high[k] - low[k], 0) || 1), margin = 46;
    this.scale = Math.max(Math.min((this.width - 2 * margin) / size[0], (this.height - 2 * margin) / size[1]), 1e-30);
    this.middle = [0, 1].map(k => (Number.isFinite(low[k]) ? (low[k] + high[k]) / 2 : 0));
    this.least = this.scale / 4;
    this.viewChanged(true);
  }

  viewChanged(isAll) {
    this.isAll = isAll;
    this.onView();
    this.wantDraw();
  }

  x(row) {
    return this.width / 2 + (this.table.points[2 * row] - this.middle[0]) * this.scale;
  }

  y(row) {
    return this.height / 2 - (this.table.points[2 * row + 1] - this.middle[1]) * this.scale;
  }

  move(dx, dy) {
    this.middle[0] -= dx / this.scale;
    this.middle[1] += dy / this.scale;
    this.viewChanged(false);
  }

  // Zoom about a place of the canvas, which stays where it is.
  zoom(factor, x = this.width / 2, y = this.height / 2) {
    const scale = Math.min(Math.max(this.scale * factor, this.least), this.least * 1e6);
    const fromMiddle = [x - this.width / 2, this.height / 2 - y];
    [0, 1].forEach(k => { this.middle[k] += fromMiddle[k] * (1 / this.scale - 1 / scale); });
    this.scale = scale;
    this.viewChanged(false);
  }

  showRow(row) {
    const x = this.x(row), y = this.y(row);
    if (x < 40 || y < 40 || x > this.width - 40 || y > this.height - 40) this.move(this.width / 2 - x, this.height / 2 - y);
  }

  at(x, y) {
    let found = -1, least = 14 * 14;
    for (let row = 0; row < this.table.n; row++) {
      const distance = (this.x(row) - x) ** 2 + (this.y(row) - y) ** 2;
      if (distance < least) [found, least] = [row, distance];
    }
    return found;
  }

  wantDraw() {
    if (this.isWaiting) return;
    this.isWaiting = true;
    requestAnimationFrame(() => { this.isWaiting = false; this.draw(); });
  }

  restyle() {
    const root = document.documentElement, style = getComputedStyle(root);
    this.scaleColours = SCALES[style.colorScheme];
    root.style.setProperty("--scale", `linear-gradient(to right, ${this.scaleColours.map(colour => `rgb(${colour})`)})`);
    for (const name of ["page", "ink", "soft", "dot", "near"]) this.colours[name] = style.getPropertyValue(`--${name}`);
    this.wantDraw();
  }

  draw() {
    if (!this.colours.ink) this.restyle();
    this.context.clearRect(0, 0, this.width, this.height);
    const visible = this.drawPoints();
    this.drawMarks();
    this.drawLabels(visible);
  }

  radius() {
    return Math.min(Math.max(60 / Math.sqrt(this.table.n), 1.2), 4) * Math.min(Math.max((this.scale / (4 * this.least)) ** 0.25, 1), 2.5);
  }

  // Draw every point in the window; their rows in the order of importance.
  drawPoints() {
    const {context, table, shade} = this, radius = this.radius(), visible = [];
    context.globalAlpha = table.n > 3000 ? 0.6 : 1;
    context.fillStyle = this.colours.dot;
    for (const row of table.order) {
      const x = this.x(row), y = this.y(row);
      if (!(x > -9 && y > -9 && x < this.width + 9 && y < this.height + 9)) continue;
      visible.push(row);
      if (shade) context.fillStyle = scaleColour(this.scaleColours, shade[row]);
      if (radius < 2) {
        context.fillRect(x - radius, y - radius, 2 * radius, 2 * radius);
      } else {
        context.beginPath();
        context.arc(x, y, radius, 0, 7);
        context.fill();
      }
    }
    context.globalAlpha = 1;
    return visible;
  }

  drawMarks() {
    const {context} = this, radius = this.radius();
    const dot = (row, colour, size) => {
      context.fillStyle = colour;
      context.beginPath();
      context.arc(this.x(row), this.y(row), size, 0, 7);
      context.fill();
      if (!this.shade) return; // of the scale's colours one is like the marks'
      context.strokeStyle = this.colours.ink;
      context.stroke();
    };
    context.lineWidth = 1;
    for (const row of this.near) {
      context.strokeStyle = this.colours.near;
      context.globalAlpha = 0.45;
      context.beginPath();
      context.moveTo(this.x(this.chosen), this.y(this.chosen));
      context.lineTo(this.x(row), this.y(row));
      context.stroke();
      context.globalAlpha = 1;
      dot(row, this.colours.near, radius + 1);
    }
    if (this.chosen >= 0) dot(this.chosen, this.colours.near, radius + 3);
    if (this.hovered >= 0) dot(this.hovered, this.colours.ink, radius + 1.5);
  }

  text(row) {
    const name = this.table.names[row].replace(/\s/g, "\u2423");
    if (name.length <= MAX_LABEL) return name; // in UTF-16; there are as many characters, or fewer
    const characters = [...name];
    return characters.length > MAX_LABEL ? `${characters.slice(0, MAX_LABEL - 1).join("")}\u2026` : name;
  }

  font(row) {
    return row === this.chosen ? `bold ${LABEL_FONT}` : LABEL_FONT;
  }

  labelWidth(row) {
    const text = this.text(row), key = row === this.chosen ? `bold ${text}` : text; // no text has a space
    if (!this.widths.has(key)) {
      this.context.font = this.font(row);
      this.widths.set(key, this.context.measureText(text).width);
    }
    return this.widths.get(key);
  }

  // Where buttons and keys lie over the map.
  coveredBoxes() {
    const map = this.canvas.getBoundingClientRect();
    return [...this.canvas.parentElement.querySelectorAll(".zoom, .keys")].map(part => {
      const box = part.getBoundingClientRect();
      return [box.left - map.left, box.top - map.top, box.right - map.left, box.bottom - map.top];
    });
  }

  drawLabels(visible) {
    const {context} = this, first = [this.chosen, ...this.near].filter(row => row >= 0 && this.table.isShown(row));
    const important = new Set(first), radius = this.radius();
    const rows = [...first, ...visible.filter(row => !important.has(row)).slice(0, CANDIDATES)];
    const candidates = rows.map(row => {
      return {row, x: this.x(row), y: this.y(row), width: this.labelWidth(row), radius: radius + (row === this.chosen ? 3 : 1)};
    });
    this.labels = placeLabels(candidates, this.width, this.height, this.coveredBoxes());
    context.textBaseline = "middle";
    context.lineWidth = 3;
    context.lineJoin = "round";
    context.strokeStyle = this.colours.page;
    for (const {row, box} of this.labels) {
      context.fillStyle = important.has(row) ? this.colours.near : this.colours.ink;
      context.font = this.font(row);
      context.strokeText(this.text(row), box[0], box[1] + LABEL_HEIGHT / 2, box[2] - box[0]);
      context.fillText(this.text(row), box[0], box[1] + LABEL_HEIGHT / 2, box[2] - box[0]);
    }
    this.canvas.setAttribute("aria-label", `Map of ${this.table.n} rows, ${visible.length} in view, ${this.labels.length} with labels`);
  }
}
