// Places for labels, so that none covers another or the point of another; with few points, no point.

const LABEL_HEIGHT = 15, LABEL_GAP = 2, BETWEEN = 4, MOST_LABELS = 220, CELL = 60;

// A grid of boxes, in which those near another are found.
class Boxes {
  constructor() {
    this.cells = new Map();
  }

  *keys([left, top, right, bottom]) {
    for (let x = Math.floor(left / CELL); x <= Math.floor(right / CELL); x++)
      for (let y = Math.floor(top / CELL); y <= Math.floor(bottom / CELL); y++) yield x * 100003 + y;
  }

  overlap(box) {
    for (const key of this.keys(box))
      for (const other of this.cells.get(key) || [])
        if (box[2] > other[0] && box[0] < other[2] && box[3] > other[1] && box[1] < other[3]) return true;
    return false;
  }

  add(box) {
    for (const key of this.keys(box)) {
      if (!this.cells.has(key)) this.cells.set(key, []);
      this.cells.get(key).push(box);
    }
  }
}

// Candidates are {row, x, y, width, radius} in the order of importance; the labels that have room
// beside one another, the points, and boxes that are covered.
function placeLabels(candidates, width, height, covered) {
  const labels = new Boxes(), marks = new Boxes(), placed = [], areFew = candidates.length <= MOST_LABELS;
  const markOf = ({x, y, radius}) => [x - radius, y - radius, x + radius, y + radius];
  for (const box of covered) if (box[2] > box[0]) marks.add(box);
  if (areFew) for (const one of candidates) marks.add(markOf(one));
  for (const one of candidates) {
    if (placed.length === MOST_LABELS) break;
    const {x, y, radius} = one;
    if (labels.overlap(markOf(one))) continue;
    const away = radius + LABEL_GAP, half = LABEL_HEIGHT / 2;
    for (const [left, top] of [
      [x + away, y - half], [x - away - one.width, y - half],
      [x - one.width / 2, y - away - LABEL_HEIGHT], [x - one.width / 2, y + away],
    ]) {
      const box = [left, top, left + one.width, top + LABEL_HEIGHT];
      if (left < 2 || top < 2 || box[2] > width - 2 || box[3] > height - 2) continue;
      if (labels.overlap([left - BETWEEN, top, box[2] + BETWEEN, box[3]]) || marks.overlap(box)) continue;
      labels.add(box);
      if (!areFew) marks.add(markOf(one));
      placed.push({row: one.row, box});
      break;
    }
  }
  return placed;
}
