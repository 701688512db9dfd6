// Pictures in rows of one height each, in their own shapes. Only what is near the window is in the document, so that
// ten thousand are as light as fifty.

import { thumbnail } from "./api.js";
import { baseName, cosine, element } from "./elements.js";

const GAP = 14;
const CAPTION = 30;
// Shapes beyond these are shown whole within these.
const NARROWEST = 0.5;
const WIDEST = 3;
// How far around the window pictures are there, in heights of the window.
const AROUND = 1;
const AT_ONCE = 6;
const MOST_KEPT = 400;
const SIZE = window.devicePixelRatio > 1 ? 512 : 320;

export class Grid {
  #list;
  #open;
  #more;
  #items = [];
  #rows = [];
  #width = 0;
  #tiles = new Map();
  #current = 0;
  #pictures = new Pictures();
  #asked = false;
  // Those that a camera held on its side: records have the size as it is stored.
  #turned = new Set();
  #turning = 0;

  /** `open` is called with the position of a picture, `more` when the end comes near. */
  constructor(list, { open, more }) {
    this.#list = list;
    this.#open = open;
    this.#more = more;
    list.addEventListener("keydown", (event) => this.#move(event));
    list.addEventListener("focusin", (event) => this.#focused(event.target));
    new ResizeObserver(() => this.#resized()).observe(list);
    addEventListener("scroll", () => this.#soon(), { passive: true });
  }

  get items() {
    return this.#items;
  }

  /** Show these pictures and no others. */
  replace(items) {
    this.#clear();
    this.#items = items;
    this.#current = 0;
    this.#arrange();
  }

  /** Show these as well, behind the others. */
  append(items) {
    this.#items = this.#items.concat(items);
    this.#arrange();
  }

  /** Show these first; those that are there already move. */
  prepend(items) {
    const names = new Set(items.map((item) => item.name));
    names.forEach((name) => this.#pictures.forget(name));
    this.#clear();
    this.#items = items.concat(this.#items.filter((item) => !names.has(item.name)));
    this.#arrange();
    items.forEach((_, at) => this.#tiles.get(at)?.classList.add("new"));
  }

  /** Give the focus to the picture at this position. */
  focus(at) {
    this.#current = Math.max(0, Math.min(at, this.#items.length - 1));
    const row = this.#rows.find((one) => this.#current < one.to);
    if (!row) return;
    const top = this.#list.getBoundingClientRect().top + row.top;
    const header = document.querySelector("header").offsetHeight + GAP;
    if (top < header) scrollBy(0, top - header);
    else if (top + row.height > innerHeight) scrollBy(0, top + row.height - innerHeight + GAP);
    this.#draw();
    this.#tiles.get(this.#current)?.firstChild.focus({ preventScroll: true });
  }

  /** The small picture of an item, if it is there already. */
  small(name) {
    return this.#pictures.known(name);
  }

  #clear() {
    this.#tiles.forEach((tile, at) => this.#remove(at));
  }

  #resized() {
    if (this.#list.clientWidth !== this.#width) this.#arrange();
  }

  #arrange() {
    this.#width = this.#list.clientWidth;
    this.#rows = rowsOf(this.#items.map((item) => this.#shape(item)), this.#width);
    const last = this.#rows.at(-1);
    this.#list.style.height = last ? `${last.top + last.height}px` : "0";
    this.#tiles.forEach((tile, at) => at < this.#items.length && this.#place(tile, at));
    this.#draw();
  }

  #soon() {
    if (this.#asked) return;
    this.#asked = true;
    requestAnimationFrame(() => {
      this.#asked = false;
      this.#draw();
    });
  }

  #draw() {
    const above = -this.#list.getBoundingClientRect().top;
    const [from, to] = this.#near(above - AROUND * innerHeight, above + (1 + AROUND) * innerHeight);
    for (const at of this.#tiles.keys()) {
      const isFocused = this.#tiles.get(at).contains(document.activeElement);
      if ((at < from || at >= to) && !isFocused) this.#remove(at);
    }
    for (let at = from; at < to; at++) {
      if (!this.#tiles.has(at)) this.#add(at);
    }
    const end = this.#rows.at(-1);
    if (end && above + 3 * innerHeight > end.top) this.#more();
  }

  #near(top, bottom) {
    const near = this.#rows.filter((row) => row.top + row.height > top && row.top < bottom);
    return near.length ? [near[0].from, near.at(-1).to] : [0, 0];
  }

  #add(at) {
    const item = this.#items[at];
    const image = element("img", { alt: "", decoding: "async" });
    const scored = item.score !== undefined;
    const score = scored ? element("span", { className: "score", title: "Cosine" }, cosine(item.score, 3)) : null;
    const button = element(
      "button",
      { type: "button", title: item.name, tabIndex: at === this.#current ? 0 : -1, onclick: () => this.#open(at) },
      image,
      element("span", { className: "name" }, baseName(item.name)),
      score,
    );
    const tile = element("li", { data: { at } }, button);
    this.#tiles.set(at, tile);
    this.#place(tile, at);
    this.#pictures.load(item.name, (url) => {
      image.onload = () => this.#seen(item, image, tile);
      if (url) image.src = url;
      else tile.classList.add("gone");
    });
    // In the order of the pictures, which is that of reading.
    const next = [...this.#list.children].find((other) => Number(other.dataset.at) > at) ?? null;
    this.#list.insertBefore(tile, next);
  }

  #shape({ name, width, height }) {
    const ratio = width / height || 1;
    return Math.max(NARROWEST, Math.min(WIDEST, this.#turned.has(name) ? 1 / ratio : ratio));
  }

  #seen({ name, width, height }, image, tile) {
    tile.classList.add("there");
    const isTurned = (width - height) * (image.naturalWidth - image.naturalHeight) < 0;
    if (!isTurned || this.#turned.has(name)) return;
    this.#turned.add(name);
    // Several come at a time.
    clearTimeout(this.#turning);
    this.#turning = setTimeout(() => this.#arrange(), 80);
  }

  #remove(at) {
    this.#pictures.leave(this.#items[at]?.name);
    this.#tiles.get(at).remove();
    this.#tiles.delete(at);
  }

  #place(tile, at) {
    const row = this.#rows.find((one) => at < one.to);
    const box = row.boxes[at - row.from];
    Object.assign(tile, { ariaSetSize: `${this.#items.length}`, ariaPosInSet: `${at + 1}` });
    Object.assign(tile.style, {
      left: `${box.left}px`,
      top: `${row.top}px`,
      width: `${box.width}px`,
      height: `${row.height - GAP}px`,
    });
  }

  #focused(target) {
    this.#current = Number(target.closest("li").dataset.at);
    this.#tiles.forEach((tile) => (tile.firstChild.tabIndex = -1));
    target.tabIndex = 0;
  }

  #move(event) {
    const steps = { ArrowLeft: -1, ArrowRight: 1 };
    let to = null;
    if (event.key in steps) to = this.#current + steps[event.key];
    else if (event.key === "ArrowUp" || event.key === "ArrowDown") to = this.#beside(event.key === "ArrowUp" ? -1 : 1);
    else if (event.key === "Home") to = 0;
    else if (event.key === "End") to = this.#items.length - 1;
    if (to === null || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    if (to >= 0 && to < this.#items.length) this.focus(to);
  }

  /** The picture above or below the current one. */
  #beside(step) {
    const number = this.#rows.findIndex((row) => this.#current < row.to);
    const [row, other] = [this.#rows[number], this.#rows[number + step]];
    if (!other) return null;
    const box = row.boxes[this.#current - row.from];
    const middle = box.left + box.width / 2;
    const away = other.boxes.map((one) => Math.abs(one.left + one.width / 2 - middle));
    return other.from + away.indexOf(Math.min(...away));
  }
}

/** Rows of pictures with these shapes (width to height), as high as fills the width but no higher than looks well. */
function rowsOf(shapes, width) {
  const most = width < 700 ? 150 : 230;
  const rows = [];
  let top = 0;
  let from = 0;
  let row = [];
  const close = (to, height) => {
    let left = 0;
    const boxes = row.map((shape) => {
      const box = { left, width: shape * height };
      left += box.width + GAP;
      return box;
    });
    rows.push({ from, to, top, height: height + CAPTION + GAP, boxes });
    top += height + CAPTION + GAP;
    from = to;
    row = [];
  };
  shapes.forEach((shape, at) => {
    row.push(shape);
    const height = (width - GAP * (row.length - 1)) / row.reduce((sum, one) => sum + one, 0);
    if (height <= most) close(at + 1, height);
  });
  if (row.length) close(shapes.length, most);
  return rows;
}

/** Small pictures: a few are fetched at once, those that left the window are not, and the latest stay in memory. */
class Pictures {
  #kept = new Map();
  #waiting = new Map();
  #running = new Map();

  known(name) {
    return this.#kept.get(name) ?? null;
  }

  forget(name) {
    URL.revokeObjectURL(this.#kept.get(name) ?? "");
    this.#kept.delete(name);
  }

  leave(name) {
    this.#waiting.delete(name);
    this.#running.get(name)?.abort();
  }

  load(name, done) {
    const url = this.#kept.get(name);
    if (url) {
      this.#kept.delete(name);
      this.#kept.set(name, url);
      done(url);
      return;
    }
    this.#waiting.set(name, done);
    this.#next();
  }

  #next() {
    while (this.#running.size < AT_ONCE && this.#waiting.size) {
      const [name, done] = this.#waiting.entries().next().value;
      this.#waiting.delete(name);
      this.#fetch(name, done);
    }
  }

  async #fetch(name, done) {
    const abort = new AbortController();
    this.#running.set(name, abort);
    try {
      const url = await thumbnail(name, SIZE, abort.signal);
      this.#kept.set(name, url);
      done(url);
      for (const oldest of [...this.#kept.keys()].slice(0, -MOST_KEPT)) this.forget(oldest);
    } catch {
      if (!abort.signal.aborted) done(null);
    } finally {
      if (this.#running.get(name) === abort) this.#running.delete(name);
      this.#next();
    }
  }
}
