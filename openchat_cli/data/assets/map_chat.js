// A conversation as chat. Text only ever becomes text nodes: nothing here parses HTML.
const MapChat = (() => {
  const LONGEST = 40000; // characters of a message that are read as Markdown; longer ones stay plain
  const DEEPEST = 6; // quotes and lists inside each other
  const UNSEEN = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069\ud800-\udfff]/gu;
  const FENCE = /^([ \t]*)(`{3,}|~{3,})[ \t]*([^\s`]{0,40})[^`]*$/;
  const ITEM = /^([ \t]*)([-*+]|\d{1,9}[.)])[ \t]+(.*)$/;
  const NAMES = { user: "Human", assistant: "Assistant", system: "System", tool: "Tool" };

  // Control characters and bidi overrides are spelt out, so that nothing hides or reorders text.
  const visible = (text) => text.replace(UNSEEN,
    (one) => `[U+${one.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}]`);

  const add = (parent, name, text, kind) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (kind) made.className = kind;
    parent.append(made);
    return made;
  };

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

  const MARK = /\*\*([^*\n]{1,2000})\*\*|\*([^*\s](?:[^*\n]{0,500}[^*\s])?)\*|\[([^\][\n]{1,300})\]\((https?:[^()\s\0]{1,500})\)|\\([!-/:-@[-`{-~])|\0/g;
  const marks = (parent, text, spans) => {
    let at = 0;
    for (const found of text.matchAll(MARK)) {
      parent.append(text.slice(at, found.index));
      at = found.index + found[0].length;
      if (found[1] !== undefined) marks(add(parent, "strong"), found[1], spans);
      else if (found[2] !== undefined) marks(add(parent, "em"), found[2], spans);
      else if (found[3] !== undefined) marks(link(parent, found[4]), found[3], spans);
      else if (found[5] !== undefined) parent.append(found[5]);
      else add(parent, "code", spans.next().value);
    }
    parent.append(text.slice(at));
  };

  const link = (parent, address) => {
    const made = add(parent, "a");
    made.href = address;
    made.rel = "noopener noreferrer nofollow";
    made.target = "_blank";
    made.title = address;
    return made;
  };

  const cells = (line) => line.trim().replace(/^\||(?<!\\)\|$/g, "").split(/(?<!\\)\|/).map((one) => one.trim().replaceAll("\\|", "|"));
  const isRule = (line) => line !== undefined && line.includes("-") && /^[ \t:|-]+$/.test(line) && line.includes("|");

  // Line by line, so that the time grows with the length and nothing recurses deep.
  const markdown = (parent, text, depth = 0) => {
    const lines = text.split("\n"), lists = [];
    let paragraph = [];
    const here = () => (lists.length ? lists[lists.length - 1].item : parent);
    const flush = () => {
      if (paragraph.length) inline(add(here(), "p"), paragraph.join("\n"));
      paragraph = [];
    };
    for (let n = 0; n < lines.length; n += 1) {
      const line = lines[n], fence = FENCE.exec(line);
      if (fence) {
        flush();
        if (fence[1].length < 2) lists.length = 0;
        const code = [], close = new RegExp(`^[ \\t]*${fence[2][0]}{${fence[2].length},}[ \\t]*$`);
        for (n += 1; n < lines.length && !close.test(lines[n]); n += 1) {
          code.push(lines[n].startsWith(fence[1]) ? lines[n].slice(fence[1].length) : lines[n].trimStart());
        }
        const block = add(here(), "pre");
        if (fence[3]) block.dataset.language = fence[3].slice(0, 40);
        add(block, "code", code.join("\n"));
        continue;
      }
      if (!line.trim()) { flush(); continue; }
      const item = depth < DEEPEST && ITEM.exec(line);
      if (item) {
        flush();
        const indent = item[1].length, kind = /\d/.test(item[2]) ? "ol" : "ul";
        while (lists.length && lists[lists.length - 1].indent > indent) lists.pop();
        let list = lists[lists.length - 1];
        if (!list || (list.indent < indent && lists.length < DEEPEST)) {
          list = { indent, box: add(here(), kind) };
          if (kind === "ol") list.box.start = parseInt(item[2], 10);
          lists.push(list);
        } else if (list.box.localName !== kind) {
          lists.pop();
          list = { indent, box: add(here(), kind) };
          if (kind === "ol") list.box.start = parseInt(item[2], 10);
          lists.push(list);
        }
        list.item = add(list.box, "li");
        paragraph.push(item[3]);
        continue;
      }
      if (lists.length && !/^[ \t]/.test(line) && !paragraph.length) lists.length = 0;
      const heading = /^ {0,3}(#{1,6})[ \t]+(.*)$/.exec(line);
      if (heading) {
        flush();
        inline(add(here(), "p", undefined, `h h${heading[1].length}`), heading[2].trimEnd().replace(/ #{1,6}$/, ""));
      } else if (!paragraph.length && line.length < 200 && /^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$/.test(line)) {
        add(here(), "hr");
      } else if (line.startsWith(">") && depth < DEEPEST) {
        flush();
        const quote = [];
        for (; n < lines.length && lines[n].startsWith(">"); n += 1) quote.push(lines[n].replace(/^> ?/, ""));
        n -= 1;
        markdown(add(here(), "blockquote"), quote.join("\n"), depth + 1);
      } else if (line.includes("|") && isRule(lines[n + 1])) {
        flush();
        const table = add(add(here(), "div", undefined, "scroll"), "table"), head = add(table, "tr");
        cells(line).forEach((one) => inline(add(head, "th"), one));
        for (n += 2; n < lines.length && lines[n].includes("|") && lines[n].trim(); n += 1) {
          const row = add(table, "tr");
          cells(lines[n]).forEach((one) => inline(add(row, "td"), one));
        }
        n -= 1;
      } else paragraph.push(line.trim());
    }
    flush();
  };

  const turn = (role, text) => {
    const box = document.createElement("article"), shown = visible(text);
    box.className = `turn ${role === "user" ? "human" : "other"}`;
    add(box, "h3", NAMES[role] || visible(String(role)));
    const body = add(box, "div", undefined, "said");
    body.dir = "auto";
    if (role === "assistant" && shown.length <= LONGEST) markdown(body, shown);
    else add(body, "div", shown, "plain");
    return box;
  };

  return { turn, visible };
})();
