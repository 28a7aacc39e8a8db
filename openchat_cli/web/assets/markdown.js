// Markdown of a model as elements. Text only ever becomes text nodes: nothing here parses HTML.
//
// A writer takes text as it comes. What a whole line settles is built once; only the paragraph and
// the line that are still open are built anew at each piece, so that the time of a long answer grows
// with its length. However a text is cut into pieces, the same elements result.
const Markdown = (() => {
  const DEEPEST = 6; // quotes and lists inside each other
  const LONG = 4000; // characters of a paragraph or a line that are built at once
  const LIMIT = 200000; // characters after which the rest of a text stays plain
  const CHUNK = 4000; // characters of code or plain text in one element
  const COLUMNS = 100;
  const UNSEEN = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069\ud800-\udfff]/gu;
  const FENCE = /^([ \t]*)(`{3,}(?!`)|~{3,}(?!~))(.*)$/s;
  const ITEM = /^([ \t]*)([-*+]|\d{1,9}[.)])[ \t]+(.*)$/s;
  const RULE = /^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$/;
  const HEADING = /^ {0,3}(#{1,6})[ \t]+(.*)$/s;

  // Control characters and bidi overrides are spelt out, so that nothing hides or reorders text.
  const visible = (text) => text.replace(UNSEEN,
    (one) => `[U+${one.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}]`);

  const make = (name, text, kind) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (kind) made.className = kind;
    return made;
  };

  // --- inside a paragraph ---

  // Code spans are taken out first, NUL in their places (`visible` leaves none in a text), then bold,
  // emphasis, links and escapes are read, and the spans put back wherever they stand.
  const inline = (parent, text) => {
    const spans = [], parts = [];
    let at = 0;
    while (at < text.length) {
      const tick = text.indexOf("`", at);
      if (tick < 0) break;
      let width = 1, slashes = 0;
      while (text[tick - 1 - slashes] === "\\") slashes += 1;
      if (slashes % 2) { parts.push(text.slice(at, tick + 1)); at = tick + 1; continue; }
      while (text[tick + width] === "`") width += 1;
      const run = "`".repeat(width);
      let end = text.indexOf(run, tick + width);
      while (end >= 0 && text[end + width] === "`") {
        let next = end;
        while (text[next] === "`") next += 1;
        end = text.indexOf(run, next);
      }
      if (end < 0) { parts.push(text.slice(at, tick + width)); at = tick + width; continue; }
      parts.push(text.slice(at, tick), "\0");
      spans.push(text.slice(tick + width, end).trim() || run);
      at = end + width;
    }
    parts.push(text.slice(at));
    marks(parent, parts.join(""), spans.values());
  };

  const MARK = new RegExp([
    /!\[([^\][\n]{0,300})\]\([^()\s\0]{0,2000}\)/, // 1 an image: named, never loaded
    /\*\*((?:[^*\n]|\*(?!\*)){1,2000}?)\*\*(?!\*)/, // 2
    /(?<![\p{L}\p{N}_])__([^_\n]{1,2000})__(?![\p{L}\p{N}_])/, // 3
    /\*([^*\s](?:[^*\n]{0,500}[^*\s])?)\*/, // 4
    /(?<![\p{L}\p{N}_])_([^_\s](?:[^_\n]{0,500}[^_\s])?)_(?![\p{L}\p{N}_])/, // 5
    /~~([^~\n]{1,2000})~~/, // 6
    /\[([^\][\n]{1,300})\]\(((?:https?:\/\/|mailto:)(?:[^()\s\0]|\([^()\s\0]{0,200}\)){1,2000})(?: "[^"\n]{0,300}")?\)/, // 7 8
    /<((?:https?:\/\/|mailto:)[^<>\s\0]{1,2000})>/, // 9
    /(?<![\p{L}\p{N}_])(https?:\/\/[^\s<>"'`\0*|\\\][]{0,2000}[^\s<>"'`\0*|\\.,;:!?()\][}])/, // 10
    /\\([!-/:-@[-`{-~])/, // 11
    /\0/,
  ].map((one) => one.source).join("|"), "giu");

  const marks = (parent, text, spans) => {
    const into = (name, inner) => {
      const made = make(name);
      parent.append(made);
      marks(made, inner, spans);
    };
    let at = 0;
    for (const found of text.matchAll(MARK)) {
      parent.append(text.slice(at, found.index));
      at = found.index + found[0].length;
      const strong = found[2] ?? found[3], soft = found[4] ?? found[5], bare = found[9] ?? found[10];
      if (found[1] !== undefined) image(parent, found[1], spans);
      else if (strong !== undefined) into("strong", strong);
      else if (soft !== undefined) into("em", soft);
      else if (found[6] !== undefined) into("s", found[6]);
      else if (found[7] !== undefined) marks(link(parent, found[8]), found[7], spans);
      else if (bare !== undefined) link(parent, bare).textContent = bare;
      else if (found[11] !== undefined) parent.append(found[11]);
      else parent.append(make("code", spans.next().value));
    }
    parent.append(text.slice(at));
  };

  const image = (parent, name, spans) => {
    const named = name.replaceAll("\0", () => spans.next().value);
    parent.append(make("span", `[image: ${named || "no description"}]`, "image"));
  };

  const link = (parent, address) => {
    let goal = null;
    try { goal = new URL(address); } catch { /* no address: it stays text */ }
    const safe = goal && ["http:", "https:", "mailto:"].includes(goal.protocol);
    const made = make(safe ? "a" : "span");
    if (safe) {
      made.href = goal.href;
      made.rel = "noopener noreferrer nofollow";
      made.target = "_blank";
      made.title = goal.href;
    }
    parent.append(made);
    return made;
  };

  const cells = (line) => line.trim().replace(/^\||(?<!\\)\|$/g, "").split(/(?<!\\)\|/, COLUMNS)
    .map((one) => one.trim().replaceAll("\\|", "|"));
  const isRule = (line) => line.length < LONG && line.includes("-") && line.includes("|") && /^[ \t:|-]+$/.test(line);

  // --- lines ---

  // `drafts` holds how to take back what an unfinished line made, and is null while lines are whole.
  class Writer {
    constructor(parent, options = {}, depth = 0, shared = { drafts: null, taken: 0 }) {
      Object.assign(this, { parent, options, depth, shared });
      this.rest = ""; // a line whose end has not come
      this.midline = false; // whether the beginning of that line was built already
      this.state = { lists: [], text: "", box: null, fence: null, table: null, quote: null, plain: null };
    }

    // Text as it comes; what it ends with may go on in the next piece.
    write(text) {
      this.takeBack();
      let more = this.rest + text;
      const last = more.charCodeAt(more.length - 1);
      this.half = last >= 0xd800 && last < 0xdc00 ? more.slice(-1) : "";
      if (this.half) more = more.slice(0, -1);
      const lines = more.split("\n");
      this.rest = lines.pop();
      lines.forEach((line) => { this.whole(line); });
      while (this.rest.length > LONG) this.rest = this.part(this.rest);
      if (this.rest || this.state.text || this.state.quote) this.draft();
      this.rest += this.half;
    }

    end() {
      this.takeBack();
      if (this.rest) this.whole(this.rest);
      this.rest = "";
      this.flush();
    }

    whole(line) {
      let left = line;
      while (left.length > LONG) left = this.part(left);
      this.line(visible(left).replace(/\r$/, ""));
      this.midline = false;
      this.shared.taken += left.length + 1;
    }

    // The beginning of a line too long to wait for.
    part(line) {
      const space = line.lastIndexOf(" ", LONG);
      let at = space > LONG / 2 ? space + 1 : LONG;
      const last = line.charCodeAt(at - 1);
      if (last >= 0xd800 && last < 0xdc00) at -= 1;
      this.line(visible(line.slice(0, at)), true);
      this.midline = true;
      this.shared.taken += at;
      return line.slice(at);
    }

    draft() {
      const kept = this.save(), midline = this.midline;
      this.shared.drafts = [];
      if (this.rest) this.line(visible(this.rest));
      this.flush();
      this.undo = () => { this.restore(kept); this.midline = midline; };
    }

    takeBack() {
      if (!this.shared.drafts) return;
      const drafts = this.shared.drafts;
      this.shared.drafts = null;
      while (drafts.length) drafts.pop()();
      this.undo();
    }

    save() {
      const { lists, quote } = this.state;
      return { ...this.state, lists: lists.map((one) => ({ ...one })), fence: this.state.fence && { ...this.state.fence },
        plain: this.state.plain && { ...this.state.plain }, inner: quote && quote.save() };
    }

    restore({ inner, ...state }) {
      this.state = state;
      if (inner) state.quote.restore(inner);
    }

    add(parent, made) {
      parent.append(made);
      if (this.shared.drafts) this.shared.drafts.push(() => { made.remove(); });
      return made;
    }

    here() {
      const { lists } = this.state;
      return lists.length ? lists[lists.length - 1].item : this.parent;
    }

    // The open paragraph as elements; `stay` where its line goes on.
    paragraph(stay = false) {
      const { state } = this;
      if (state.text) {
        if (!state.box) state.box = this.add(this.here(), make("p"));
        const piece = document.createDocumentFragment();
        inline(piece, state.text);
        [...piece.childNodes].forEach((one) => { this.add(state.box, one); });
      }
      state.text = "";
      if (!stay) state.box = null;
    }

    flush() {
      const { state } = this;
      if (state.quote) state.quote.flush();
      this.paragraph();
      Object.assign(state, { quote: null, table: null });
    }

    line(line, goesOn = false) {
      const { state } = this;
      if (state.plain) { this.plainText(line, goesOn); return; }
      if (state.fence) { this.code(line, goesOn); return; }
      if (this.midline && state.quote) { state.quote.goOn(line, goesOn); return; }
      if (this.midline) { this.more(line, goesOn, ""); return; }
      if (!this.depth && this.shared.taken > LIMIT) {
        this.flush();
        state.plain = { box: null, length: 0 };
        this.plainText(line, goesOn);
        return;
      }
      if (state.quote && !line.startsWith(">")) this.flush();
      const fence = FENCE.exec(line);
      if (fence && !(fence[2][0] === "`" && fence[3].includes("`"))) this.openFence(fence);
      else if (!line.trim()) this.flush();
      else if (state.table && line.includes("|")) this.row(line, "td");
      else this.block(line, goesOn);
    }

    goOn(line, goesOn) {
      this.midline = true;
      this.line(line, goesOn);
      this.midline = false;
    }

    block(line, goesOn) {
      const { state } = this;
      state.table = null;
      const item = this.depth < DEEPEST && ITEM.exec(line);
      const isRuler = !state.text && line.length < 200 && RULE.test(line);
      if (item && !isRuler) { this.item(item); return; }
      const open = state.text || state.box;
      if (state.lists.length && !/^[ \t]/.test(line) && !open) state.lists.length = 0;
      const heading = HEADING.exec(line);
      if (heading) {
        this.paragraph();
        const made = make("p", undefined, `h h${heading[1].length}`);
        inline(made, heading[2].trimEnd().replace(/ #{1,6}$/, ""));
        this.add(this.here(), made);
      } else if (isRuler) {
        this.add(this.here(), make("hr"));
      } else if (line.startsWith(">") && this.depth < DEEPEST) {
        this.quoted(line.replace(/^> ?/, ""), goesOn);
      } else if (isRule(line) && state.text.slice(state.text.lastIndexOf("\n") + 1).includes("|")) {
        this.openTable(line);
      } else this.more(line, goesOn, state.text || state.box ? "\n" : "");
    }

    // Some more of the open paragraph.
    more(line, goesOn, between) {
      const { state } = this;
      state.text += between + (this.midline ? line : line.trimStart());
      if (!goesOn) state.text = state.text.trimEnd();
      if (state.text.length > LONG) this.paragraph(true);
    }

    item(found) {
      const { lists } = this.state;
      this.paragraph();
      const indent = found[1].length, kind = /\d/.test(found[2]) ? "ol" : "ul";
      while (lists.length && lists[lists.length - 1].indent > indent) lists.pop();
      let list = lists[lists.length - 1];
      const deeper = list && list.indent < indent && lists.length < DEEPEST;
      if (list && !deeper && list.box.localName !== kind) { lists.pop(); list = null; }
      if (!list || deeper) {
        list = { indent, box: this.add(this.here(), make(kind)) };
        if (kind === "ol") list.box.start = parseInt(found[2], 10);
        lists.push(list);
      }
      list.item = this.add(list.box, make("li"));
      const task = /^\[([ xX])\] /.exec(found[3]);
      this.state.text = task ? `${task[1] === " " ? "☐" : "☑"} ${found[3].slice(4)}` : found[3];
    }

    quoted(line, goesOn) {
      const { state } = this;
      if (!state.quote) {
        this.paragraph();
        const box = this.add(this.here(), make("blockquote"));
        state.quote = new Writer(box, this.options, this.depth + 1, this.shared);
      }
      state.quote.line(line, goesOn);
    }

    openTable(rule) {
      const { state } = this;
      const head = state.text.slice(state.text.lastIndexOf("\n") + 1);
      state.text = state.text.slice(0, Math.max(0, state.text.length - head.length - 1));
      this.paragraph();
      const scroll = make("div", undefined, "scroll");
      scroll.tabIndex = 0;
      const right = cells(rule).map((one) => /^-+:$/.test(one));
      state.table = { box: this.add(this.add(this.here(), scroll), make("table")), right };
      this.row(head, "th");
    }

    row(line, kind) {
      const { box, right } = this.state.table;
      const row = make("tr");
      cells(line).forEach((one, at) => {
        const made = make(kind, undefined, right[at] ? "n" : "");
        inline(made, one);
        row.append(made);
      });
      this.add(box, row);
    }

    // --- code and plain text ---

    openFence(found) {
      const { state } = this;
      this.flush();
      if (found[1].length < 2) state.lists.length = 0;
      const block = make("pre");
      block.tabIndex = 0;
      const language = found[3].trim().split(/\s/, 1)[0];
      if (language) block.dataset.language = language.slice(0, 40);
      const code = make("code");
      block.append(code);
      this.add(this.here(), this.options.frame ? this.options.frame(block, code) : block);
      const close = new RegExp(`^[ \\t]*${found[2][0]}{${found[2].length},}[ \\t]*$`);
      state.fence = { code, close, indent: found[1], box: null, length: 0, begun: false };
    }

    code(line, goesOn) {
      const { fence } = this.state;
      if (!this.midline && fence.close.test(line)) { this.state.fence = null; return; }
      let text = line;
      if (!this.midline) {
        text = line.startsWith(fence.indent) ? line.slice(fence.indent.length) : line.trimStart();
        // At the end of the element before, where it makes no empty line.
        if (fence.begun) this.add(fence.box, document.createTextNode("\n"));
      }
      fence.begun = true;
      this.text(fence, fence.code, text, "span");
    }

    plainText(line, goesOn) {
      const { plain } = this.state;
      this.text(plain, this.parent, goesOn ? line : `${line}\n`, "div");
    }

    // Elements of some thousand characters: one that grew for ever would be laid out anew each time.
    text(into, parent, text, name) {
      if (!into.box || into.length > CHUNK) {
        into.box = this.add(parent, make(name, undefined, name === "div" ? "plain" : "lines"));
        into.length = 0;
      }
      into.length += text.length;
      this.add(into.box, document.createTextNode(text));
    }
  }

  const render = (parent, text, options) => {
    const writer = new Writer(parent, options);
    writer.write(text);
    writer.end();
  };

  return { Writer, render, visible };
})();
