// What the page shows: its own data, or a visualizer.json that somebody opens.
const MapData = (() => {
  const END = "<|end_of_turn|>";
  const ROLES = { Human: "user", User: "user", Assistant: "assistant", System: "system", Tool: "tool" };
  const STEPS = [500, 1000, 2000, 4000, 8000, 16000, 32000];

  const bytes = (base64) => {
    const text = atob(base64), found = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i += 1) found[i] = text.charCodeAt(i);
    return found;
  };
  const numbers = (base64, kind) => new kind(bytes(base64).buffer);

  const short = (n) => (n < 1000 ? String(n) : `${n / 1000}k`);
  const byLength = (lengths) => {
    const codes = Uint16Array.from(lengths, (n) => {
      const place = STEPS.findIndex((step) => n <= step);
      return place < 0 ? STEPS.length : place;
    });
    const names = STEPS.map((step, i) => (i ? `${short(STEPS[i - 1])} to ${short(step)}` : `up to ${short(step)}`));
    return { label: "Length", names: [...names, `over ${short(STEPS[STEPS.length - 1])}`], codes, ordered: true };
  };

  const coded = (label, values) => {
    const counts = new Map();
    values.forEach((value) => counts.set(value, (counts.get(value) || 0) + 1));
    const names = [...counts.keys()].sort((a, b) => counts.get(b) - counts.get(a) || (String(a) < String(b) ? -1 : 1));
    const place = new Map(names.map((name, i) => [name, i]));
    return { label, names, codes: Uint16Array.from(values, (value) => Math.min(65535, place.get(value))) };
  };

  // --- the page's own data: texts are unpacked when they are wanted ---

  const own = (data) => {
    const parts = new Map();
    const part = (number) => {
      if (!parts.has(number)) parts.set(number, unpack(number));
      return parts.get(number);
    };
    // The last parts may still be on their way when the points are already there.
    const whole = new Promise((done) => {
      if (document.readyState !== "loading") done();
      else document.addEventListener("DOMContentLoaded", done);
    });
    const unpack = async (number) => {
      await whole;
      const packed = document.getElementById(`part-${number}`).textContent;
      const stream = new Blob([bytes(packed)]).stream().pipeThrough(new DecompressionStream("gzip"));
      return JSON.parse(await new Response(stream).text());
    };
    const quantised = numbers(data.points, Int16Array), lengths = numbers(data.length, Uint32Array);
    return {
      name: data.name, about: data.about, count: data.count, ids: data.ids, lengths,
      xyz: Float32Array.from(quantised, (v) => v / 32767),
      titles: data.titles,
      fields: {
        cluster: { label: "Cluster", names: data.clusters.map((one) => one.name), codes: numbers(data.cluster, Uint16Array) },
        model: { label: "Model", names: data.models, codes: numbers(data.model, Uint16Array) },
        language: { label: "Language", names: data.languages, codes: numbers(data.language, Uint16Array) },
        length: byLength(lengths),
      },
      turns: async (i) => (await part(Math.floor(i / data.inPart)))[i % data.inPart],
      // Texts in small letters, one conversation after the other, a part at a time.
      async *texts() {
        for (let number = 0, at = 0; at < data.count; number += 1, at += data.inPart) {
          yield (await part(number)).map((turns) => turns.map((one) => one[1]).join("\n"));
        }
      },
    };
  };

  // --- a file ---

  const fail = (reason) => { throw new Error(reason); };

  const opened = (file, text) => {
    let value;
    try { value = JSON.parse(text); } catch (error) { fail(`${file}: not JSON (${error.message})`); }
    if (Array.isArray(value)) value = columns(value);
    if (value === null || typeof value !== "object") fail(`${file}: not a visualizer.json`);
    for (const name of ["text", "embedding", "color"]) {
      if (!Array.isArray(value[name])) fail(`${file}: not a visualizer.json (no list '${name}')`);
    }
    const count = value.embedding.length;
    for (const name of ["text", "color"]) {
      if (value[name].length !== count) fail(`${file}: ${value[name].length} entries of '${name}', ${count} of 'embedding'`);
    }
    if (!count) fail(`${file}: holds no points`);
    const list = (name) => (Array.isArray(value[name]) && value[name].length === count ? value[name] : null);
    const texts = value.text.map(String);
    const lengths = list("length") || texts.map((one) => one.length);
    const cluster = clusters(value, list("cluster") || value.color);
    const labels = (values) => values.map((one) => (typeof one === "string" ? one : null));
    const parsed = (i) => turnsOf(texts[i]);
    return {
      name: file.replace(/(\.visualizer)?\.json$/i, ""), about: `opened from ${file}`, count, lengths,
      ids: list("id") && list("id").map(String),
      xyz: centred(file, value.embedding),
      titles: texts.map((_, i) => titleOf(parsed(i))),
      fields: {
        cluster,
        ...(list("model") ? { model: coded("Model", labels(list("model"))) } : {}),
        ...(list("language") ? { language: coded("Language", labels(list("language"))) } : {}),
        length: byLength(lengths.map(Number)),
      },
      turns: async (i) => parsed(i),
      async *texts() { for (let at = 0; at < count; at += 500) yield texts.slice(at, at + 500); },
    };
  };

  const columns = (rows) => ({
    text: rows.map((row) => row && row.text), embedding: rows.map((row) => row && row.embedding),
    color: rows.map((row) => row && row.color), ...(rows.every((row) => row && "id" in row) ? { id: rows.map((row) => row.id) } : {}),
  });

  const clusters = (value, labels) => {
    const named = new Map((Array.isArray(value.clusters) ? value.clusters : []).filter((one) => one && typeof one === "object").map((one) => [String(one.id), one.name]));
    const made = coded("Cluster", labels.map(String));
    return { ...made, names: made.names.map((id) => String(named.get(id) || `Cluster ${id}`)) };
  };

  // Into the cube from -1 to 1, the middle in its middle; what is no number goes to the middle.
  const centred = (file, rows) => {
    const xyz = new Float32Array(3 * rows.length);
    const low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
    rows.forEach((row, i) => {
      if (!Array.isArray(row) || row.length < 2) fail(`${file}: embedding ${i} is not a list of three numbers`);
      for (let k = 0; k < 3; k += 1) {
        const v = Number(row[k] ?? 0);
        xyz[3 * i + k] = v;
        if (Number.isFinite(v)) { low[k] = Math.min(low[k], v); high[k] = Math.max(high[k], v); }
      }
    });
    const width = Math.max(...[0, 1, 2].map((k) => (high[k] - low[k]) / 2).filter(Number.isFinite), 0) || 1;
    for (let i = 0; i < xyz.length; i += 1) {
      const v = (xyz[i] - (low[i % 3] + high[i % 3]) / 2) / width;
      xyz[i] = Number.isFinite(v) ? v : 0;
    }
    return xyz;
  };

  const turnsOf = (text) => text.replace(/^<s>/, "").split(END).filter((one) => one.trim()).map((one) => {
    const found = /^(Human|User|Assistant|System|Tool): ?/.exec(one);
    return found ? [ROLES[found[1]], one.slice(found[0].length)] : ["", one];
  });

  const titleOf = (turns) => {
    const first = turns.find((one) => one[0] === "user") || turns[0] || ["", "(empty)"];
    return first[1].slice(0, 400).split(/\s+/).join(" ").trim().slice(0, 120);
  };

  return { own, opened };
})();
