// What is shown of a conversation. What was said becomes text nodes, or elements by Markdown's writer.
const ChatView = (() => {
  const NAMES = { user: "You", assistant: "Model", system: "System" };
  const FINISHED = { length: "token limit reached", stopped: "stopped", content_filter: "cut off by the server" };

  const make = (name, kind, text) => {
    const made = document.createElement(name);
    if (kind) made.className = kind;
    if (text !== undefined) made.textContent = text;
    return made;
  };

  const button = (text, label, act) => {
    const made = make("button", "", text);
    made.type = "button";
    if (label) made.setAttribute("aria-label", label);
    made.addEventListener("click", act);
    return made;
  };

  // --- copying and saving ---

  const copy = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch { /* not over plain HTTP from another machine */ }
    const held = make("textarea", "hidden");
    held.value = text;
    document.body.append(held);
    held.select();
    const done = document.execCommand("copy");
    held.remove();
    return done;
  };

  const copier = (label, text) => {
    const made = button("Copy", label, async () => {
      const done = await copy(text());
      made.textContent = done ? "Copied" : "Not allowed";
      made.focus();
      setTimeout(() => { made.textContent = "Copy"; }, 1500);
    });
    return made;
  };

  const download = (name, text) => {
    const made = make("a");
    made.href = URL.createObjectURL(new Blob([text], { type: "application/x-ndjson" }));
    made.download = name;
    made.click();
    setTimeout(() => { URL.revokeObjectURL(made.href); }, 60000);
  };

  // --- turns ---

  const frame = (block, code) => {
    const box = make("div", "code"), head = make("div", "head");
    head.append(make("span", "", block.dataset.language || "code"), copier("Copy the code", () => code.textContent));
    box.append(head, block);
    return box;
  };

  const stats = (node) => {
    const parts = [], { stats: found } = node;
    if (node.finish in FINISHED) parts.push(FINISHED[node.finish]);
    if (found && found.prompt !== null) parts.push(`${found.prompt.toLocaleString()} + ${found.tokens.toLocaleString()} tokens`);
    else if (found) parts.push(`≈ ${found.tokens.toLocaleString()} tokens`);
    if (found && found.rate) parts.push(`${found.rate.toFixed(1)} tokens/s`);
    return parts.join(" · ");
  };

  // One message. `act` has edit, regenerate, retry, branch; `running` while its answer comes.
  // Gives {box, writer, tell, finish}.
  const turn = (chat, at, act, running) => {
    const node = chat.nodes[at], box = make("article", `turn ${node.role}`);
    const said = make("div", "said"), foot = make("div", "foot");
    const writer = new Markdown.Writer(said, { frame });
    said.dir = "auto";
    box.dataset.node = at;
    const name = make("h2");
    box.append(name, said, foot);
    if (node.role === "assistant") writer.write(node.content);
    else said.append(make("div", "plain", Markdown.visible(node.content)));
    const named = () => { name.textContent = node.role === "assistant" && node.model ? Markdown.visible(node.model) : NAMES[node.role]; };
    const whole = () => { if (node.role === "assistant") writer.end(); named(); foots(chat, at, act, box, foot); };
    named();
    if (running) box.append(make("p", "wait"));
    else whole();
    return {
      box,
      write(text) { writer.write(text); },
      tell(text) { foot.replaceChildren(make("span", "stats", text)); },
      finish() { box.querySelector(".wait")?.remove(); whole(); },
    };
  };

  const foots = (chat, at, act, box, foot) => {
    const node = chat.nodes[at], several = ChatStore.siblings(chat, at);
    foot.replaceChildren();
    if (several.length > 1) foot.append(...branches(several, at, act));
    if (node.content) foot.append(copier("Copy the message", () => node.content));
    if (node.role === "assistant") foot.append(button("Regenerate", "Answer anew", () => { act.regenerate(at); }));
    else foot.append(button("Edit", "Edit the message", () => { edit(node, box, (text) => { act.edit(at, text); }); }));
    const told = stats(node);
    if (told) foot.append(make("span", "stats", told));
    if (node.error) box.append(failed(node.error, () => { act.retry(at); }));
  };

  const branches = (several, at, act) => {
    const place = several.indexOf(at);
    const step = (text, label, to) => {
      const made = button(text, label, () => { act.branch(several[to]); });
      made.disabled = !(to in several);
      return made;
    };
    return [step("‹", "The version before", place - 1), make("span", "versions", `${place + 1}/${several.length}`),
      step("›", "The next version", place + 1)];
  };

  const failed = (message, retry) => {
    const box = make("div", "failed");
    box.setAttribute("role", "alert");
    box.append(make("span", "", Markdown.visible(message)), button("Retry", "Ask again", retry));
    return box;
  };

  const edit = (node, box, done) => {
    if (box.querySelector(".edit")) return;
    const said = box.querySelector(".said"), foot = box.querySelector(".foot");
    const form = make("form", "edit"), area = make("textarea"), row = make("div", "row");
    const close = () => { form.remove(); said.hidden = false; foot.hidden = false; foot.querySelector("[aria-label='Edit the message']").focus(); };
    const send = make("button", "", "Send");
    area.value = node.content;
    area.setAttribute("aria-label", "Edit the message");
    area.dir = "auto";
    row.append(send, button("Cancel", "Keep the message as it was", close));
    form.append(area, row);
    form.addEventListener("submit", (event) => { event.preventDefault(); if (area.value.trim()) done(area.value); });
    area.addEventListener("keydown", (event) => {
      if (sends(event)) { event.preventDefault(); form.requestSubmit(); }
      if (event.key === "Escape") { event.stopPropagation(); close(); }
    });
    said.hidden = true;
    foot.hidden = true;
    said.after(form);
    area.focus();
  };

  // Enter alone; not the one that ends the composition of a character (229 is Safari's).
  const sends = (event) => event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229;

  // --- the list of conversations ---

  const entry = (chat, act, current) => {
    const row = make("li", current ? "current" : ""), title = Markdown.visible(ChatStore.title(chat));
    const open = button(title, "", () => { act.open(chat); });
    open.className = "open";
    open.dir = "auto";
    open.title = title;
    if (current) open.setAttribute("aria-current", "true");
    const rename = button("✎", `Rename ${title}`, () => { renaming(chat, row, act); });
    const remove = button("✕", `Delete ${title}`, () => { act.remove(chat); });
    rename.className = "more rename";
    remove.className = "more delete";
    row.dataset.chat = chat.id;
    row.append(open, rename, remove);
    return row;
  };

  const renaming = (chat, row, act) => {
    const field = make("input");
    let ended = false;
    const end = (keep) => {
      if (ended) return;
      ended = true;
      act.rename(chat, keep ? field.value.trim().slice(0, 200) : null);
    };
    field.value = ChatStore.title(chat);
    field.setAttribute("aria-label", "Title");
    field.addEventListener("keydown", (event) => {
      // Or the same Enter would press the button that has the focus next.
      if (sends(event)) { event.preventDefault(); end(true); }
      if (event.key === "Escape") { event.stopPropagation(); end(false); }
    });
    field.addEventListener("blur", () => { end(true); });
    row.replaceChildren(field);
    field.focus();
    field.select();
  };

  return { make, button, turn, entry, sends, download };
})();
