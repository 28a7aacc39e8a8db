// The controls around the map: colours, filters, search, selection, the reader, files.
(() => {
  const $ = (id) => document.getElementById(id);
  const PAGE = 100; // results listed at a time
  const scene = new MapScene.Scene($("points"), $("over"));
  let set = null; // what is shown, as MapData gives it
  let field = "cluster";
  let hidden = {}; // field -> codes that are switched off
  let matches = null; // what the search found; null without one
  let chosen = null; // what box or lasso chose; null without one
  let listed = [];
  let listLength = PAGE;
  let names = true; // of the clusters, over the points
  let colors = [];
  let turning = false;
  const small = new Intl.NumberFormat("en");

  const add = (parent, name, text, kind) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (kind) made.className = kind;
    parent.append(made);
    return made;
  };
  const css = (color) => `rgb(${color.join(",")})`;
  const label = (name) => (name === null || name === undefined || name === "" ? "(none)" : MapChat.visible(String(name)));
  const title = (i) => MapChat.visible(set.titles[i]) || "(no text)";
  const say = (text) => { $("alert").textContent = text; $("alert").hidden = !text; };

  // --- colours and the legend ---

  const paint = () => {
    const found = set.fields[field], last = Math.max(1, found.names.length - 1);
    colors = found.names.map((name, i) => {
      if (found.ordered) return MapScene.sequential(i / last, scene.dark);
      return name === null || name === "" ? MapScene.grey(scene.dark) : MapScene.categorical(i, scene.dark);
    });
    scene.setColors(found.codes, colors);
    legend();
    nameClusters();
    list();
    scene.redraw();
  };

  const legend = () => {
    const found = set.fields[field], off = hidden[field] || new Set();
    const totals = new Uint32Array(found.names.length), shown = new Uint32Array(found.names.length);
    for (let i = 0; i < set.count; i += 1) { totals[found.codes[i]] += 1; shown[found.codes[i]] += scene.shown[i]; }
    $("legend").replaceChildren();
    found.names.forEach((name, code) => {
      if (!totals[code]) return;
      const row = add($("legend"), "li");
      const toggle = add(row, "button", undefined, "toggle");
      toggle.type = "button";
      toggle.dataset.code = code;
      toggle.setAttribute("aria-pressed", String(!off.has(code)));
      add(toggle, "span", undefined, "swatch").style.background = css(colors[code]);
      const text = add(toggle, "span", label(name), "name");
      text.dir = "auto";
      toggle.title = label(name);
      add(toggle, "span", small.format(shown[code]), "many").title = `${small.format(totals[code])} in all`;
      const only = add(row, "button", "only", "only");
      only.type = "button";
      only.dataset.only = code;
      only.setAttribute("aria-label", `Only ${label(name)}`);
    });
    $("all-on").disabled = !Object.values(hidden).some((codes) => codes.size);
  };

  $("legend").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const off = hidden[field] || (hidden[field] = new Set()), all = set.fields[field].names.length;
    if (button.dataset.only !== undefined) {
      const only = Number(button.dataset.only), already = off.size === all - 1 && !off.has(only);
      off.clear();
      for (let code = 0; code < all && !already; code += 1) if (code !== only) off.add(code);
    } else {
      const code = Number(button.dataset.code);
      if (!off.delete(code)) off.add(code);
    }
    filter();
    const again = button.dataset.only !== undefined ? `[data-only="${button.dataset.only}"]` : `[data-code="${button.dataset.code}"]`;
    $("legend").querySelector(again)?.focus();
  });
  $("all-on").addEventListener("click", () => { hidden = {}; filter(); });
  $("colour").addEventListener("change", () => { field = $("colour").value; paint(); });

  // The shown point nearest to the middle of its cluster carries the name.
  const nameClusters = () => {
    const found = set.fields[field], rows = found.names.map((name) => ({ name: label(name), sum: [0, 0, 0], many: 0, least: Infinity }));
    const each = (work) => {
      for (let i = 0; i < set.count; i += 1) if (scene.shown[i]) work(rows[found.codes[i]], 3 * i);
    };
    const { xyz } = scene;
    each((row, at) => { for (let k = 0; k < 3; k += 1) row.sum[k] += xyz[at + k]; row.many += 1; });
    each((row, at) => {
      const far = Math.hypot(...row.sum.map((v, k) => v / row.many - xyz[at + k]));
      if (far < row.least) { row.least = far; row.at = [xyz[at], xyz[at + 1], xyz[at + 2]]; }
    });
    const wanted = names && !found.ordered ? rows.filter((row) => row.many) : [];
    scene.labels = wanted.sort((a, b) => b.many - a.many).slice(0, 40).map(({ name, at }) => ({
      at, text: name.length > 34 ? `${name.slice(0, 33)}…` : name,
    }));
  };

  // --- what is shown, found and chosen ---

  const filter = () => {
    const fields = Object.entries(hidden).filter(([name, codes]) => codes.size && set.fields[name]).map(([name, codes]) => [set.fields[name].codes, codes]);
    for (let i = 0; i < set.count; i += 1) {
      scene.shown[i] = (!matches || matches[i]) && fields.every(([codes, off]) => !off.has(codes[i])) ? 1 : 0;
    }
    // The pointer may rest where the point that it named is hidden now.
    if (scene.hovered >= 0 && !scene.shown[scene.hovered]) scene.hover(-1);
    legend();
    nameClusters();
    list();
    scene.redraw();
  };

  const current = () => {
    const found = [];
    if (chosen) { for (const i of chosen) if (scene.shown[i]) found.push(i); return found; }
    for (let i = 0; i < set.count; i += 1) if (scene.shown[i]) found.push(i);
    return found;
  };

  const list = () => {
    listed = current();
    let shown = 0;
    for (let i = 0; i < set.count; i += 1) shown += scene.shown[i];
    $("status").textContent = chosen
      ? `${small.format(listed.length)} selected of ${small.format(set.count)}`
      : shown === set.count ? `${small.format(set.count)} conversations` : `${small.format(shown)} of ${small.format(set.count)} shown`;
    $("clear").hidden = !chosen;
    $("export").textContent = `Export ${small.format(listed.length)} id${listed.length === 1 ? "" : "s"}`;
    $("export").disabled = !listed.length || !set.ids;
    $("export").title = set.ids ? "A text file, one id a line, for openchat data filter --ids" : "This file holds no ids";
    $("list").replaceChildren();
    listLength = PAGE;
    more(0);
  };

  const more = (from) => {
    const codes = set.fields[field].codes;
    listed.slice(from, listLength).forEach((i) => {
      const button = add(add($("list"), "li"), "button");
      button.type = "button";
      button.dataset.point = i;
      add(button, "span", undefined, "swatch").style.background = css(colors[codes[i]]);
      add(button, "span", title(i), "name").dir = "auto";
    });
    $("more").hidden = listed.length <= listLength;
    mark();
  };
  const mark = () => {
    for (const one of $("list").querySelectorAll("[aria-current]")) one.removeAttribute("aria-current");
    $("list").querySelector(`[data-point="${scene.opened}"]`)?.setAttribute("aria-current", "true");
  };
  $("more").addEventListener("click", () => { const from = listLength; listLength += 4 * PAGE; more(from); });
  $("list").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) open(Number(button.dataset.point));
  });
  const hoverOf = (event) => event.target.closest("[data-point]")?.dataset.point;
  $("list").addEventListener("pointerover", (event) => { scene.hovered = Number(hoverOf(event) ?? -1); scene.annotate(); });
  $("list").addEventListener("pointerleave", () => { scene.hovered = -1; scene.annotate(); });

  scene.handlers.select = (found, adding) => {
    chosen = adding && chosen ? [...new Set([...chosen, ...found])].sort((a, b) => a - b) : found;
    if (!chosen.length) chosen = null;
    list();
  };
  $("clear").addEventListener("click", () => { chosen = null; list(); });

  $("export").addEventListener("click", () => {
    // An id that a plain line would not hold as it is stands there as a JSON string.
    const lines = listed.map((i) => (/^[[{"\s]|[\r\n]|\s$/.test(set.ids[i]) ? JSON.stringify(set.ids[i]) : set.ids[i]));
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([lines.join("\n"), "\n"], { type: "text/plain" }));
    link.download = `${set.name}.ids.txt`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  });

  // --- search ---

  let wanted = "", searching = 0, waiting = 0;
  let kept = []; // the texts in small letters, part by part, as far as they were needed
  let source = null;
  async function* lowered(from) {
    const mine = kept;
    source ??= from.texts();
    for (let number = 0; ; number += 1) {
      if (number >= mine.length) {
        const next = await source.next();
        if (mine !== kept || next.done) return;
        mine.push(next.value.map((one) => one.toLowerCase()));
      }
      yield mine[number];
    }
  }
  const search = async () => {
    const mine = searching += 1, query = $("search").value.trim().toLowerCase();
    if (query === wanted) return;
    wanted = query;
    if (!query) { matches = null; $("found").textContent = ""; filter(); return; }
    const found = new Uint8Array(set.count), from = set;
    let at = 0;
    let painted = performance.now();
    for await (const texts of lowered(from)) {
      if (mine !== searching || from !== set) return;
      for (const text of texts) {
        found[at] = text.includes(query) || (from.ids && from.ids[at].toLowerCase() === query) ? 1 : 0;
        at += 1;
      }
      if (performance.now() - painted > 200) {
        $("found").textContent = `searching, ${Math.round((100 * at) / from.count)} %`;
        await new Promise((done) => setTimeout(done));
        painted = performance.now();
      }
    }
    if (mine !== searching || from !== set) return;
    matches = found;
    const count = found.reduce((sum, one) => sum + one, 0);
    $("found").textContent = `${small.format(count)} found`;
    filter();
  };
  $("search").addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(search, 120); });

  // --- the tooltip and the reader ---

  scene.handlers.hover = (index, event) => {
    const tip = $("tip");
    tip.hidden = index < 0;
    $("points").classList.toggle("pointing", index >= 0);
    if (index < 0) return;
    tip.replaceChildren();
    add(tip, "strong", title(index)).dir = "auto";
    add(tip, "span", facts(index).join(" · "));
    const box = $("points").getBoundingClientRect();
    const x = event.clientX - box.left, y = event.clientY - box.top;
    tip.style.left = `${Math.max(4, Math.min(x + 14, box.width - tip.offsetWidth - 6))}px`;
    tip.style.top = `${y + 18 + tip.offsetHeight > box.height ? y - tip.offsetHeight - 12 : y + 18}px`;
  };
  const facts = (i) => {
    const found = Object.entries(set.fields).filter(([name, one]) => name !== "length" && one.names[one.codes[i]] !== null);
    return [...found.map(([, one]) => label(one.names[one.codes[i]])), `${small.format(set.lengths[i])} characters`];
  };

  const open = async (index) => {
    if (index < 0) return;
    scene.opened = index;
    scene.annotate();
    mark();
    const from = set;
    $("reader").dataset.point = index;
    let turns;
    try { turns = await set.turns(index); } catch (error) { say(`This conversation can't be read: ${error.message}`); return; }
    if (scene.opened !== index || from !== set) return;
    const was = $("reader").hidden;
    $("reader").hidden = false;
    document.body.classList.add("reading");
    $("reader-title").textContent = title(index);
    $("facts").replaceChildren();
    facts(index).forEach((one) => add($("facts"), "li", one).dir = "auto");
    if (set.ids) add($("facts"), "li", label(set.ids[index]), "id");
    $("turns").replaceChildren(...turns.map(([role, text]) => MapChat.turn(role, String(text))));
    $("reader").scrollTop = 0;
    const place = listed.indexOf(index);
    $("previous").disabled = place <= 0;
    $("next").disabled = place < 0 || place >= listed.length - 1;
    if (was) fit();
  };
  const close = () => {
    if ($("reader").hidden) return;
    $("reader").hidden = true;
    document.body.classList.remove("reading");
    const from = scene.opened;
    scene.opened = -1;
    mark();
    fit();
    ($("list").querySelector(`[data-point="${from}"]`) || $("points")).focus({ preventScroll: true });
  };
  const step = (by) => {
    const place = listed.indexOf(scene.opened), next = listed[place < 0 ? 0 : place + by];
    if (next !== undefined) open(next);
  };
  scene.handlers.open = (index) => open(index);
  $("close").addEventListener("click", close);
  $("previous").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));

  // --- tools and keys ---

  const mode = (name) => {
    scene.mode = name;
    for (const one of ["rotate", "box", "lasso"]) $(one).setAttribute("aria-pressed", String(one === name));
    $("points").classList.toggle("choosing", name !== "rotate");
  };
  for (const name of ["rotate", "box", "lasso"]) $(name).addEventListener("click", () => mode(name));
  $("home").addEventListener("click", () => scene.reset());
  $("nearer").addEventListener("click", () => scene.zoomBy(1.3));
  $("farther").addEventListener("click", () => scene.zoomBy(1 / 1.3));
  $("names").addEventListener("click", () => {
    names = !names;
    $("names").setAttribute("aria-pressed", String(names));
    nameClusters();
    scene.annotate();
  });
  const spin = () => { if (turning) { scene.rotate(0.006, 0); requestAnimationFrame(spin); } };
  $("spin").addEventListener("click", () => {
    turning = !turning;
    $("spin").setAttribute("aria-pressed", String(turning));
    spin();
  });
  $("panel").addEventListener("click", () => {
    const shown = document.body.classList.toggle("panel-open");
    $("panel").setAttribute("aria-expanded", String(shown));
  });

  document.addEventListener("keydown", (event) => {
    const typing = /^(input|select|textarea)$/i.test(event.target.localName);
    if (event.key === "Escape") {
      if (document.body.classList.contains("panel-open")) $("panel").click();
      else if (!$("reader").hidden) close();
      else if (chosen) { chosen = null; list(); }
      return;
    }
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/") { event.preventDefault(); $("search").focus(); }
    else if (event.key === "j") step(1);
    else if (event.key === "k") step(-1);
  });

  // --- files ---

  const load = async (file) => {
    if (!file) return;
    say("");
    try {
      show(MapData.opened(file.name, await file.text()));
    } catch (error) {
      say(error.message);
    }
  };
  $("open").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", () => { load($("file").files[0]); $("file").value = ""; });
  let over = 0;
  const dropping = (by) => { over = Math.max(0, over + by); $("drop").hidden = !over; };
  addEventListener("dragenter", (event) => { event.preventDefault(); dropping(1); });
  addEventListener("dragleave", () => dropping(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    over = 0;
    dropping(0);
    load(event.dataTransfer.files[0]);
  });

  // --- beginning ---

  const fit = () => { scene.resize(); };
  const show = (data) => {
    set = data;
    hidden = {};
    matches = chosen = null;
    wanted = "";
    kept = [];
    source = null;
    searching += 1;
    $("search").value = "";
    $("found").textContent = "";
    close();
    $("tip").hidden = true;
    $("title").textContent = MapChat.visible(data.name);
    $("about").textContent = data.about;
    document.title = `${MapChat.visible(data.name)} - map`;
    $("colour").replaceChildren(...Object.entries(data.fields).map(([name, one]) => new Option(one.label, name)));
    field = $("colour").value;
    scene.setPoints(data.xyz);
    paint();
  };

  new ResizeObserver(fit).observe($("stage"));
  const themed = () => { scene.paintBackground(); if (set) paint(); };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", themed);
  new MutationObserver(themed).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });

  show(MapData.own(JSON.parse($("data").textContent)));
  scene.draw();
  document.documentElement.dataset.readyMs = String(Math.round(performance.now()));
  // For tests and benchmarks: where things are and how long drawing took.
  window.openchatMap = {
    count: () => set.count,
    shown: () => scene.shown.reduce((sum, one) => sum + one, 0),
    position: (index) => scene.position(index),
    pick: (index) => scene.pick(scene.screen[2 * index], scene.screen[2 * index + 1]),
    draw: () => { scene.draw(); return scene.times[scene.times.length - 1]; },
    drawMs: () => [...scene.times],
    turn: () => [...scene.turn],
    zoom: () => scene.zoom,
    shift: () => [...scene.shift],
  };
})();
