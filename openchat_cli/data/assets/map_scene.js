// The points in space, drawn by hand into one image: no library, no WebGL, the same everywhere.
const MapScene = (() => {
  const NEAR = 3.2; // distance of the eye from the middle, in half widths of the map
  const DEPTHS = 24; // steps of depth for painter's order and for fading
  const CLICK = 5; // pixels a press may move and still be a click

  // OKLCH to sRGB (Björn Ottosson's OKLab matrices): equal steps look equal.
  const oklch = (lightness, chroma, hue) => {
    const a = chroma * Math.cos((hue * Math.PI) / 180), b = chroma * Math.sin((hue * Math.PI) / 180);
    const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
    const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
    const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
    return [
      4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
      -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
      -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
    ].map((v) => {
      const c = Math.min(1, Math.max(0, v));
      return Math.round(255 * (c <= 0.0031308 ? 12.92 * c : 1.055 * c ** (1 / 2.4) - 0.055));
    });
  };

  const categorical = (index, dark) => {
    const hue = 255 + index * 137.508; // the golden angle: any number of hues stay apart
    const level = [0, 0.07, -0.07][Math.floor(index / 7) % 3];
    return oklch((dark ? 0.74 : 0.6) + level, index % 2 ? 0.135 : 0.16, hue);
  };
  const sequential = (share, dark) =>
    dark ? oklch(0.5 + 0.42 * share, 0.13, 300 - 200 * share)
      : oklch(0.78 - 0.45 * share, 0.13, 100 + 190 * share);
  const grey = (dark) => (dark ? [140, 147, 156] : [128, 135, 144]);

  const mix = (from, to, share) => from.map((v, i) => Math.round(v + (to[i] - v) * share));
  const pack = ([r, g, b]) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;

  // Which pixels a disc covers and how much of each, around its middle.
  const discs = new Map();
  const disc = (radius, stride) => {
    const key = radius * 100003 + stride;
    if (discs.has(key)) return discs.get(key);
    const reach = Math.ceil(radius + 1.5), offsets = [], covers = [], halo = [], haloCovers = [];
    for (let y = -reach; y <= reach; y += 1) {
      for (let x = -reach; x <= reach; x += 1) {
        const distance = Math.hypot(x, y);
        const cover = Math.min(1, Math.max(0, radius - distance + 0.5));
        const ring = Math.min(1, Math.max(0, radius + 1 - distance + 0.5)) * 0.55;
        if (cover > 0.02) { offsets.push(y * stride + x); covers.push(Math.round(cover * 256)); }
        if (radius >= 1.8 && ring > 0.02 && cover < 0.98) { halo.push(y * stride + x); haloCovers.push(Math.round(ring * 256)); }
      }
    }
    const made = {
      reach, offsets: Int32Array.from(offsets), covers: Int32Array.from(covers),
      halo: Int32Array.from(halo), haloCovers: Int32Array.from(haloCovers),
    };
    discs.set(key, made);
    return made;
  };

  const blend = (image, offsets, covers, at, color) => {
    const r = color & 255, g = (color >> 8) & 255, b = (color >> 16) & 255;
    for (let k = 0; k < offsets.length; k += 1) {
      const cover = covers[k], place = at + offsets[k];
      if (cover >= 256) { image[place] = color; continue; }
      const old = image[place], rest = 256 - cover;
      image[place] = ((255 << 24)
        | ((((old >> 16) & 255) * rest + b * cover) >> 8 << 16)
        | ((((old >> 8) & 255) * rest + g * cover) >> 8 << 8)
        | (((old & 255) * rest + r * cover) >> 8)) >>> 0;
    }
  };

  class Scene {
    constructor(canvas, over) {
      this.canvas = canvas;
      this.over = over;
      this.pen = canvas.getContext("2d", { alpha: false });
      this.overPen = over.getContext("2d");
      this.times = [];
      this.mode = "rotate";
      this.hovered = -1;
      this.opened = -1;
      this.labels = [];
      this.trail = null;
      this.handlers = { hover() {}, open() {}, select() {} };
      this.turn = [1, 0, 0, 0, 1, 0, 0, 0, 1];
      this.zoom = this.home = 1;
      this.shift = [0, 0];
      this.setPoints(new Float32Array(0));
      this.listen();
    }

    // The first view: a little from the side, the longest side of the points along the longer side
    // of the screen, and everything in sight.
    reset() {
      const upright = this.height > 1.2 * this.width;
      this.turn = upright ? [0, -1, 0, 1, 0, 0, 0, 0, 1] : [1, 0, 0, 0, 1, 0, 0, 0, 1];
      this.rotate(0.5, 0.35);
      this.frame();
    }

    frame() {
      this.zoom = 1;
      this.shift = [0, 0];
      this.view();
      this.place();
      this.framed = true;
      if (this.count < 2) return;
      // Of many points a few stragglers may lie outside.
      const skip = Math.floor(this.count / 500), low = [], high = [];
      for (const k of [0, 1]) {
        const found = Float32Array.from({ length: this.count }, (_, i) => this.screen[2 * i + k]).sort();
        low.push(found[skip]);
        high.push(found[this.count - 1 - skip]);
      }
      const room = [0.86 * this.width, 0.76 * this.height];
      const zoom = Math.min(...room.map((one, k) => one / Math.max(1, high[k] - low[k])));
      this.zoom = Math.min(6, Math.max(0.3, zoom));
      this.shift = [0, 1].map((k) => (this.middle[k] - (low[k] + high[k]) / 2) * this.zoom);
      this.shift[1] += 0.03 * this.height; // the tools lie over the upper edge
      this.home = this.zoom;
      this.redraw();
    }

    setPoints(xyz) {
      const count = xyz.length / 3;
      this.xyz = xyz;
      this.count = count;
      this.screen = new Float32Array(2 * count);
      this.depth = new Uint8Array(count);
      this.order = new Uint32Array(count);
      this.shown = new Uint8Array(count).fill(1);
      this.codes = new Uint16Array(count);
      this.colors = [[128, 128, 128]];
      this.hovered = this.opened = -1;
      this.resize();
      this.reset();
    }

    setColors(codes, colors) {
      this.codes = codes;
      this.colors = colors;
      this.shade();
    }

    // Every colour at every depth: what is far fades into the background.
    shade() {
      const background = this.background;
      this.table = new Uint32Array(this.colors.length * DEPTHS);
      this.colors.forEach((color, code) => {
        for (let step = 0; step < DEPTHS; step += 1) {
          const fade = 0.62 * (1 - step / (DEPTHS - 1)) ** 1.3;
          this.table[code * DEPTHS + step] = pack(mix(color, background, fade));
        }
      });
      this.ghost = pack(mix(background, [128, 128, 128], 0.28));
      this.paper = pack(background);
    }

    resize() {
      const box = this.canvas.getBoundingClientRect();
      const ratio = this.count > 20000 ? 1 : Math.min(2, window.devicePixelRatio || 1);
      const width = Math.max(1, Math.round(box.width * ratio));
      const height = Math.max(1, Math.round(box.height * ratio));
      if (this.width) this.shift = [(this.shift[0] * width) / this.width, (this.shift[1] * height) / this.height];
      this.ratio = ratio;
      for (const one of [this.canvas, this.over]) { one.width = width; one.height = height; }
      this.width = width;
      this.height = height;
      this.image = this.pen.createImageData(width, height);
      this.pixels = new Uint32Array(this.image.data.buffer);
      discs.clear();
      this.paintBackground();
      if (this.framed) this.frame(); // a view that nobody has chosen fits itself to the new size
    }

    paintBackground() {
      const found = getComputedStyle(this.canvas).backgroundColor.match(/[\d.]+/g) || [255, 255, 255];
      this.background = found.slice(0, 3).map(Number);
      this.dark = this.background[0] + this.background[1] + this.background[2] < 380;
      const edge = mix(this.background, this.dark ? [0, 0, 0] : [205, 212, 224], this.dark ? 0.45 : 0.4);
      const glow = this.pen.createRadialGradient(
        this.width / 2, this.height / 2, 0, this.width / 2, this.height / 2, Math.hypot(this.width, this.height) / 1.7);
      glow.addColorStop(0, `rgb(${this.background})`);
      glow.addColorStop(0.35, `rgb(${this.background})`);
      glow.addColorStop(1, `rgb(${edge})`);
      this.pen.fillStyle = glow;
      this.pen.fillRect(0, 0, this.width, this.height);
      this.empty = new Uint32Array(this.pen.getImageData(0, 0, this.width, this.height).data.buffer);
      this.shade();
      this.redraw();
    }

    rotate(across, up) {
      const [c, s, d, t] = [Math.cos(across), Math.sin(across), Math.cos(up), Math.sin(up)];
      const by = [c, 0, s, t * s, d, -t * c, -d * s, t, d * c];
      const old = this.turn, made = new Array(9);
      for (let row = 0; row < 3; row += 1) {
        for (let column = 0; column < 3; column += 1) {
          made[3 * row + column] = by[3 * row] * old[column] + by[3 * row + 1] * old[3 + column] + by[3 * row + 2] * old[6 + column];
        }
      }
      this.turn = made;
      this.straighten();
      this.redraw();
    }

    // After thousands of small turns the matrix must still be a rotation.
    straighten() {
      const m = this.turn, norm = (v) => { const n = Math.hypot(...v); return v.map((x) => x / n); };
      const x = norm(m.slice(0, 3));
      const dot = x[0] * m[3] + x[1] * m[4] + x[2] * m[5];
      const y = norm([m[3] - dot * x[0], m[4] - dot * x[1], m[5] - dot * x[2]]);
      this.turn = [...x, ...y, x[1] * y[2] - x[2] * y[1], x[2] * y[0] - x[0] * y[2], x[0] * y[1] - x[1] * y[0]];
    }

    zoomBy(factor, at) {
      const zoom = Math.min(60, Math.max(0.3, this.zoom * factor)), real = zoom / this.zoom;
      const [x, y] = at || [this.width / 2, this.height / 2];
      this.shift[0] = (x - this.width / 2) * (1 - real) + this.shift[0] * real;
      this.shift[1] = (y - this.height / 2) * (1 - real) + this.shift[1] * real;
      this.zoom = zoom;
      this.framed = false;
      this.redraw();
    }

    panBy(x, y) {
      this.framed = false;
      this.shift[0] += x * this.ratio;
      this.shift[1] += y * this.ratio;
      this.redraw();
    }

    redraw() {
      if (this.waiting) return;
      this.waiting = true;
      requestAnimationFrame(() => { this.waiting = false; this.draw(); });
    }

    project(x, y, z) {
      const m = this.turn, unit = this.unit;
      const deep = m[6] * x + m[7] * y + m[8] * z, scale = (unit * NEAR) / (NEAR - deep);
      return [this.middle[0] + (m[0] * x + m[1] * y + m[2] * z) * scale, this.middle[1] - (m[3] * x + m[4] * y + m[5] * z) * scale];
    }

    draw() {
      const began = performance.now();
      this.view();
      this.place();
      this.pixels.set(this.empty);
      this.splat();
      this.pen.putImageData(this.image, 0, 0);
      this.times.push(performance.now() - began);
      if (this.times.length > 2000) this.times.splice(0, 1000);
      this.annotate();
    }

    view() {
      this.unit = 0.4 * Math.min(this.width, this.height) * this.zoom;
      this.middle = [this.width / 2 + this.shift[0], this.height / 2 + this.shift[1]];
    }

    // Where each point is on the screen, and the order from far to near by steps of depth.
    place() {
      const { xyz, screen, depth, count, turn: m, unit, order } = this;
      const [left, top] = this.middle, starts = new Uint32Array(DEPTHS + 1);
      for (let i = 0, k = 0; i < count; i += 1, k += 3) {
        const x = xyz[k], y = xyz[k + 1], z = xyz[k + 2];
        const deep = m[6] * x + m[7] * y + m[8] * z, scale = (unit * NEAR) / (NEAR - deep);
        screen[2 * i] = left + (m[0] * x + m[1] * y + m[2] * z) * scale;
        screen[2 * i + 1] = top - (m[3] * x + m[4] * y + m[5] * z) * scale;
        let step = ((deep + 1.3) / 2.6) * DEPTHS | 0;
        if (step < 0) step = 0; else if (step >= DEPTHS) step = DEPTHS - 1;
        depth[i] = step;
        starts[step + 1] += 1;
      }
      for (let step = 0; step < DEPTHS; step += 1) starts[step + 1] += starts[step];
      for (let i = 0; i < count; i += 1) { order[starts[depth[i]]] = i; starts[depth[i]] += 1; }
    }

    splat() {
      const { order, shown, screen, depth, codes, table, pixels, width, height, paper } = this;
      const area = (this.width * this.height) / (this.ratio * this.ratio);
      const base = this.ratio * Math.min(4.2, Math.max(1.15, 0.13 * Math.sqrt(area / (this.count || 1))));
      this.radius = base * Math.min(2.2, Math.sqrt(Math.max(0.7, this.zoom / this.home)));
      const shapes = [];
      for (let step = 0; step < DEPTHS; step += 1) {
        const wanted = this.radius * (0.72 + 0.6 * (step / (DEPTHS - 1)));
        shapes.push(disc(Math.round(wanted * 4) / 4, width));
      }
      for (let k = 0; k < order.length; k += 1) {
        const i = order[k];
        if (shown[i]) continue;
        const x = Math.round(screen[2 * i]), y = Math.round(screen[2 * i + 1]);
        if (x >= 0 && y >= 0 && x < width && y < height) pixels[y * width + x] = this.ghost;
      }
      for (let k = 0; k < order.length; k += 1) {
        const i = order[k];
        if (!shown[i]) continue;
        const shape = shapes[depth[i]], reach = shape.reach;
        const x = Math.round(screen[2 * i]), y = Math.round(screen[2 * i + 1]);
        if (x < reach || y < reach || x >= width - reach || y >= height - reach) continue;
        const at = y * width + x;
        if (shape.halo.length) blend(pixels, shape.halo, shape.haloCovers, at, paper);
        blend(pixels, shape.offsets, shape.covers, at, table[codes[i] * DEPTHS + depth[i]]);
      }
    }

    // What lies over the points: names, rings, the line that selects.
    annotate() {
      const pen = this.overPen, ratio = this.ratio;
      pen.clearRect(0, 0, this.width, this.height);
      this.write(pen);
      for (const [index, size] of [[this.opened, 5], [this.hovered, 3]]) {
        if (index < 0 || index >= this.count) continue;
        pen.beginPath();
        pen.arc(this.screen[2 * index], this.screen[2 * index + 1], this.radius * 1.2 + size * ratio, 0, 7);
        pen.lineWidth = 2 * ratio;
        pen.strokeStyle = this.dark ? "#fff" : "#111";
        pen.stroke();
      }
      if (!this.trail) return;
      pen.beginPath();
      this.trail.forEach(([x, y]) => pen.lineTo(x, y));
      pen.closePath();
      pen.fillStyle = this.dark ? "rgba(255,255,255,.08)" : "rgba(0,40,120,.07)";
      pen.strokeStyle = this.dark ? "#9cc7ff" : "#1d5fae";
      pen.lineWidth = 1.5 * ratio;
      pen.setLineDash([5 * ratio, 4 * ratio]);
      pen.fill();
      pen.stroke();
      pen.setLineDash([]);
    }

    write(pen) {
      const ratio = this.ratio, taken = [];
      pen.font = `600 ${12.5 * ratio}px system-ui, sans-serif`;
      pen.textAlign = "center";
      pen.textBaseline = "middle";
      pen.lineJoin = "round";
      for (const label of this.labels) {
        const [real, y] = this.project(...label.at), half = pen.measureText(label.text).width / 2 + 4 * ratio;
        if (real < 0 || real > this.width) continue;
        const x = Math.max(half, Math.min(this.width - half, real)); // whole also at the edges
        const box = [x - half, y - 10 * ratio, x + half, y + 10 * ratio];
        if (taken.some((o) => box[0] < o[2] && box[2] > o[0] && box[1] < o[3] && box[3] > o[1])) continue;
        taken.push(box);
        pen.lineWidth = 4 * ratio;
        pen.strokeStyle = `rgba(${this.background},.88)`;
        pen.strokeText(label.text, x, y);
        pen.fillStyle = this.dark ? "#f0f3f6" : "#14181d";
        pen.fillText(label.text, x, y);
      }
    }

    // The shown point nearest to a place, -1 where none is near.
    pick(x, y) {
      const reach = (this.radius + 6 * this.ratio) ** 2;
      let best = -1, least = reach;
      for (let i = 0; i < this.count; i += 1) {
        if (!this.shown[i]) continue;
        const dx = this.screen[2 * i] - x, dy = this.screen[2 * i + 1] - y;
        const far = dx * dx + dy * dy - this.depth[i] * 0.05; // of two equally near, the one in front
        if (far < least) { least = far; best = i; }
      }
      return best;
    }

    // The shown points inside a polygon on the screen.
    inside(path) {
      const found = [];
      for (let i = 0; i < this.count; i += 1) {
        if (!this.shown[i]) continue;
        const x = this.screen[2 * i], y = this.screen[2 * i + 1];
        let within = false;
        for (let a = 0, b = path.length - 1; a < path.length; b = a, a += 1) {
          const [ax, ay] = path[a], [bx, by] = path[b];
          if ((ay > y) !== (by > y) && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) within = !within;
        }
        if (within) found.push(i);
      }
      return found;
    }

    // Where a point is in the window, for whoever wants to point at it.
    position(index) {
      const box = this.canvas.getBoundingClientRect();
      return [box.left + this.screen[2 * index] / this.ratio, box.top + this.screen[2 * index + 1] / this.ratio];
    }

    listen() {
      const down = new Map(), canvas = this.canvas;
      let moved = 0, gap = 0;
      const at = (event) => {
        const box = canvas.getBoundingClientRect();
        return [(event.clientX - box.left) * this.ratio, (event.clientY - box.top) * this.ratio];
      };
      canvas.addEventListener("pointerdown", (event) => {
        canvas.setPointerCapture(event.pointerId);
        down.set(event.pointerId, [event.clientX, event.clientY]);
        moved = down.size > 1 ? Infinity : 0;
        gap = 0;
        if (this.mode !== "rotate" && down.size === 1 && event.button === 0) this.trail = [at(event)];
        if (down.size > 1) this.trail = null;
      });
      canvas.addEventListener("pointermove", (event) => {
        const last = down.get(event.pointerId);
        if (!last) {
          this.hover(event.pointerType === "touch" ? -1 : this.pick(...at(event)), event);
          return;
        }
        const dx = event.clientX - last[0], dy = event.clientY - last[1];
        moved += Math.abs(dx) + Math.abs(dy);
        down.set(event.pointerId, [event.clientX, event.clientY]);
        this.hover(-1, event);
        if (down.size > 1) {
          const [a, b] = [...down.values()], now = Math.hypot(a[0] - b[0], a[1] - b[1]);
          const box = canvas.getBoundingClientRect();
          if (gap) this.zoomBy(now / gap, [((a[0] + b[0]) / 2 - box.left) * this.ratio, ((a[1] + b[1]) / 2 - box.top) * this.ratio]);
          gap = now;
          this.panBy(dx / 2, dy / 2);
        } else if (this.trail) {
          const start = this.trail[0], [x, y] = at(event);
          this.trail = this.mode === "box" ? [start, [x, start[1]], [x, y], [start[0], y]] : [...this.trail, [x, y]];
          this.annotate();
        } else if (event.shiftKey || event.buttons & 6) this.panBy(dx, dy);
        else if (moved > CLICK) this.rotate(dx * 0.008, dy * 0.008);
      });
      const up = (event) => {
        if (!down.delete(event.pointerId)) return;
        const trail = this.trail;
        this.trail = null;
        if (moved <= CLICK) {
          if (event.type === "pointerup") this.handlers.open(this.pick(...at(event)));
        } else if (trail && trail.length > 2 && event.type === "pointerup") {
          this.handlers.select(this.inside(trail), event.shiftKey);
        }
        this.annotate();
      };
      canvas.addEventListener("pointerup", up);
      canvas.addEventListener("pointercancel", up);
      canvas.addEventListener("pointerleave", (event) => this.hover(-1, event));
      canvas.addEventListener("contextmenu", (event) => event.preventDefault());
      canvas.addEventListener("wheel", (event) => {
        event.preventDefault();
        const lines = event.deltaMode ? event.deltaY * 30 : event.deltaY;
        this.zoomBy(Math.exp(-Math.max(-200, Math.min(200, lines)) * 0.0016), at(event));
      }, { passive: false });
      canvas.addEventListener("keydown", (event) => this.key(event));
    }

    key(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (step && event.shiftKey) this.panBy(40 * step[0], 40 * step[1]);
      else if (step) this.rotate(0.12 * step[0], 0.12 * step[1]);
      else if (event.key === "+" || event.key === "=") this.zoomBy(1.2);
      else if (event.key === "-" || event.key === "_") this.zoomBy(1 / 1.2);
      else if (event.key === "0") this.reset();
      else return;
      event.preventDefault();
    }

    hover(index, event) {
      if (index === this.hovered && index < 0) return;
      const changed = index !== this.hovered;
      this.hovered = index;
      this.handlers.hover(index, event);
      if (changed) this.annotate();
    }
  }

  return { Scene, categorical, sequential, grey };
})();
