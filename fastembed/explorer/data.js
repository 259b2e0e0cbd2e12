// The table: its rows as unit vectors, and what is computed of them.

function bytesOf(text) {
  const raw = atob(text), bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes;
}

function fromHalf(bits) {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  return exponent ? sign * 2 ** (exponent - 15) * (1 + fraction / 1024) : sign * 2 ** -14 * (fraction / 1024);
}

class Table {
  constructor(data) {
    this.n = data.rows;
    this.columns = data.columns;
    this.about = data.about;
    this.shares = data.shares;
    this.counts = data.counts;
    this.names = data.names || Array.from({length: this.n}, (_, row) => String(row));
    this.points = new Float32Array(bytesOf(data.points).buffer);
    this.norms = new Float64Array(bytesOf(data.norms).buffer);
    const bytes = bytesOf(data.values);
    const stored = data.kind === "int8" ? new Int8Array(bytes.buffer) : new Uint16Array(bytes.buffer);
    this.units = Float32Array.from(stored, data.kind === "int8" ? Number : fromHalf);
    this.normalise();
    this.lower = this.names.map(name => name.normalize().toLowerCase());
    this.order = Array.from({length: this.n}, (_, row) => row);
    if (this.counts) this.order.sort((a, b) => this.counts[b] - this.counts[a] || a - b);
  }

  normalise() {
    const {units, columns} = this;
    for (let at = 0; at < units.length; at += columns) {
      let sum = 0;
      for (let k = at; k < at + columns; k++) sum += units[k] * units[k];
      const factor = sum ? 1 / Math.sqrt(sum) : 0;
      for (let k = at; k < at + columns; k++) units[k] *= factor;
    }
  }

  isShown(row) {
    return Number.isFinite(this.points[2 * row]);
  }

  cosines(row) {
    const {units, columns, n} = this, first = row * columns, found = new Float32Array(n);
    for (let i = 0, at = 0; i < n; i++) {
      let sum = 0;
      for (let k = 0; k < columns; k++, at++) sum += units[first + k] * units[at];
      found[i] = sum;
    }
    return found;
  }

  // The k rows nearest to one, without itself: of equal cosines the lower row comes first.
  nearest(row, k, cosines) {
    const best = [];
    for (let i = 0; i < this.n; i++) {
      if (i === row || !this.isShown(i) || (best.length === k && cosines[i] <= cosines[best[k - 1]])) continue;
      let place = best.length;
      while (place && cosines[best[place - 1]] < cosines[i]) place--;
      best.splice(place, 0, i);
      if (best.length > k) best.pop();
    }
    return best;
  }

  // Rows by a part of their name: equal ones first, then those that begin with it.
  find(text, most) {
    const wanted = text.normalize().toLowerCase(), equal = [], begin = [], others = [];
    for (const row of this.order) {
      const name = this.lower[row];
      if (name === wanted) equal.push(row);
      else if (name.startsWith(wanted)) begin.push(row);
      else if (others.length < most && name.includes(wanted)) others.push(row);
    }
    return [...equal, ...begin, ...others].slice(0, most);
  }
}
