// Images in the page: a canvas each, side by side under their heads, and all of them as one PNG.
"use strict";

const PNG_SIDE = 112, PNG_GAP = 4, PNG_HEAD = 26; // pixels of an image at least, between, and above

class Stage {
  // `select(index)` is called when an image is chosen; without it, images are only shown.
  constructor(root, select = null) {
    Object.assign(this, { root, select, cells: [], plan: null, shape: null, chosen: -1 });
    if (select) root.addEventListener("keydown", (event) => this.move(event));
  }

  // Makes room for a plan's images; those that are there stay until others are painted over them.
  lay(plan, shape) {
    const [, height, width] = shape, old = this.plan;
    const same = old && old.columns === plan.columns && old.images.length === plan.images.length &&
      this.shape.join() === shape.join() && old.heads.join("\n") === plan.heads.join("\n");
    Object.assign(this, { plan, shape });
    if (!same) {
      this.chosen = -1;
      this.cells = plan.images.map((_, i) => {
        const canvas = element("canvas", { width, height });
        if (!this.select) return element("div", { className: "cell" }, canvas);
        const cell = element("button", { type: "button", className: "cell", role: "option" }, canvas);
        cell.tabIndex = -1;
        cell.addEventListener("click", () => this.select(i));
        return cell;
      });
      const heads = plan.heads.map((text) =>
        element("div", { className: "head", textContent: text, title: text, "aria-hidden": "true" }));
      this.root.replaceChildren(...heads, ...this.cells);
      this.root.style.setProperty("--columns", plan.columns);
      const most = plan.images.length === 1 ? 420 : plan.columns * Math.max(width, this.select ? 150 : 100);
      this.root.style.setProperty("--most", `${most}px`);
      this.root.classList.toggle("wide", plan.columns > 24);
      this.root.classList.toggle("crisp", Math.max(width, height) < 64);
    }
    if (!this.select) return;
    this.cells.forEach((cell, i) => cell.setAttribute("aria-label", plan.images[i].label));
  }

  // Pixels (size, height, width, channel) of the images from `first` on.
  paint(first, size, pixels) {
    const [channels, height, width] = this.shape, count = height * width;
    for (let n = 0; n < size; n++) {
      const image = new ImageData(width, height);
      for (let i = 0; i < count; i++) {
        const from = (n * count + i) * channels;
        for (let c = 0; c < 3; c++) image.data[4 * i + c] = pixels[from + (channels === 3 ? c : 0)];
        image.data[4 * i + 3] = 255;
      }
      const canvas = this.canvas(first + n); // small, and written by hand: no work for a GPU
      canvas.getContext("2d", { willReadFrequently: true }).putImageData(image, 0, 0);
    }
  }

  canvas(index) {
    return this.cells[index].firstChild;
  }

  choose(index) {
    this.chosen = index;
    this.cells.forEach((cell, i) => {
      cell.setAttribute("aria-selected", String(i === index));
      cell.tabIndex = i === index ? 0 : -1;
    });
  }

  move(event) {
    const { columns } = this.plan;
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
    const to = event.key === "Home" ? 0 : event.key === "End" ? this.cells.length - 1
      : this.chosen + step;
    if (!(to >= 0 && to < this.cells.length)) return;
    event.preventDefault();
    this.select(to);
    this.cells[to].focus();
  }

  // All images as one canvas: heads above, small images enlarged by a whole factor.
  picture() {
    const { plan, shape: [, height, width] } = this;
    const scale = Math.max(1, Math.round(PNG_SIDE / Math.max(width, height)));
    const [cellWidth, cellHeight] = [width * scale + PNG_GAP, height * scale + PNG_GAP];
    const top = plan.heads.length ? PNG_HEAD : 0, rows = Math.ceil(plan.images.length / plan.columns);
    const canvas = element("canvas", {
      width: plan.columns * cellWidth + PNG_GAP, height: top + rows * cellHeight + PNG_GAP,
    });
    const context = canvas.getContext("2d");
    context.fillStyle = "#fff";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.imageSmoothingEnabled = false;
    context.fillStyle = "#222";
    context.textAlign = "center";
    context.font = "14px system-ui, sans-serif";
    plan.heads.forEach((text, i) => {
      context.fillText(text, PNG_GAP + (i + 0.5) * cellWidth, 18, width * scale);
    });
    this.cells.forEach((_, i) => {
      const [column, row] = [i % plan.columns, Math.floor(i / plan.columns)];
      context.drawImage(this.canvas(i), PNG_GAP + column * cellWidth, top + PNG_GAP + row * cellHeight,
        width * scale, height * scale);
    });
    return canvas;
  }
}
