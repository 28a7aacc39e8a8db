// The page: conversations, what is being answered, settings, keys of the keyboard.
(() => {
  const { make, button } = ChatView;
  const get = (name) => document.getElementById(name);
  const data = JSON.parse(get("data").textContent);
  const [log, ask, panel] = ["log", "ask", "panel"].map(get);
  const narrow = matchMedia("(max-width: 48rem)");
  const runs = new Map(); // conversation's id -> the answer that comes
  let chat = ChatStore.create(), model = null, follows = true;

  // --- telling ---

  let noticed = "";
  const notice = (text, kind, label, act) => {
    noticed = kind;
    get("notice").replaceChildren(make("span", "", text), ...(label ? [button(label, "", () => { calm(kind); act(); })] : []),
      button("✕", "Close the notice", () => { calm(kind); }));
    get("notice").hidden = false;
  };
  const calm = (kind) => { if (noticed === kind) get("notice").hidden = true; };

  const save = (one) => {
    if (ChatStore.save(one)) return;
    notice("The browser has no room to keep this conversation: it is lost when the page closes. Export it, or delete others.",
      "room", "Export", () => { exported([one]); });
  };

  // --- the server ---

  const connect = async () => {
    try {
      listed(await ChatApi.models());
      calm("server");
      calm("key");
    } catch (error) { trouble(error); }
  };

  const listed = (models) => {
    const names = models.map((one) => String(one.id)), pick = get("models");
    if (!names.includes(model)) model = names[0] || null;
    get("model").textContent = names.length < 2 ? Markdown.visible(model || "") : "";
    pick.replaceChildren(...names.map((one) => new Option(one, one, false, one === model)));
    pick.hidden = names.length < 2;
  };

  const trouble = (error) => {
    if (error.status === 401) {
      settle(true);
      get("key-field").hidden = false;
      get("key").focus();
      notice(ChatApi.key.get() ? "The server does not know this API key." : "This server asks for an API key.", "key");
    } else if (error.status === 503 || error.code === "offline" || error.code === "broken") watch();
    else notice(error.message, "server", "Retry", connect);
  };

  const awaited = ({ status, stage, done, total }) => {
    if (status !== "loading") return "The server does not answer; the page goes on trying.";
    const share = total > 0 ? ` ${Math.floor((100 * done) / total)} %` : "";
    return `The model is loading …${stage ? ` (${Markdown.visible(String(stage))}${share})` : ""}`;
  };

  // Until the server is there again.
  let watching = false;
  const watch = async () => {
    if (watching) return;
    watching = true;
    for (let wait = 500; ; wait = Math.min(wait * 1.5, 5000)) {
      const health = await ChatApi.health();
      if (health.status === "ok") break;
      notice(awaited(health), "server", "Try now", connect);
      await new Promise((done) => { setTimeout(done, wait); });
    }
    watching = false;
    await connect();
  };

  // --- answering ---

  const request = (at) => {
    const said = ChatStore.path(chat, at).map((one) => chat.nodes[one]).filter((node) => node.content);
    const messages = said.map(({ role, content }) => ({ role, content }));
    if (chat.system.trim()) messages.unshift({ role: "system", content: chat.system });
    return { ...chosen(), model, messages };
  };

  // Answer the message `parent`: a new branch beside earlier answers.
  const answer = async (parent) => {
    const one = chat;
    let asked;
    try { asked = request(parent); } catch (error) { wrongSetting(error); return; }
    const at = ChatStore.add(one, { parent, role: "assistant", content: "", finish: null });
    await run(one, at, asked);
  };

  const run = async (one, at, asked) => {
    const node = one.nodes[at], control = new AbortController();
    const now = { at, control, pending: "", shown: null, began: performance.now(), first: 0, last: 0, pieces: 0, frame: 0, cost: 0, saved: Date.now() };
    runs.set(one.id, now);
    save(one);
    follows = true;
    if (one === chat) show();
    listing();
    get("said").textContent = "Answering";
    try {
      if (!asked.model) { await connect(); asked.model = model; }
      if (!model) throw new ChatApi.Failure("The server does not answer.", { code: "offline" });
      const found = await ChatApi.answer(asked, control.signal, (text) => { piece(one, node, now, text); });
      Object.assign(node, { finish: found.finish || "stop", model: found.model, stats: counted(now, found.usage) });
    } catch (error) {
      ended(node, now, error);
    }
    write(one, now);
    runs.delete(one.id);
    one.updated = Date.now();
    if (ChatStore.all.has(one.id)) save(one);
    if (now.shown) {
      now.shown.finish();
      down();
      get("said").textContent = node.error ? "" : `Answer: ${node.content.slice(0, 600)}`;
    }
    buttons();
    listing();
  };

  const ended = (node, now, error) => {
    node.finish = "stopped";
    if (now.pieces) node.stats = counted(now, null);
    if (error.name === "AbortError") return;
    node.error = error instanceof ChatApi.Failure ? error.message : `The page failed: ${error.message}`;
    if ([401, 503].includes(error.status) || ["offline", "broken"].includes(error.code)) trouble(error);
  };

  const piece = (one, node, now, text) => {
    now.last = performance.now();
    now.first ||= now.last;
    now.pieces += 1;
    now.pending += text;
    node.content += text;
    if (Date.now() - now.saved > 3000 && ChatStore.all.has(one.id)) { now.saved = Date.now(); save(one); }
    if (!now.frame) now.frame = later(now, () => { now.frame = 0; write(one, now); });
  };

  // At the next frame, or later where building the last one took long.
  const later = (now, act) => {
    if (document.hidden || now.cost > 12) return setTimeout(act, Math.max(100, 3 * now.cost));
    return requestAnimationFrame(act);
  };

  const write = (one, now) => {
    const text = now.pending, began = performance.now();
    now.pending = "";
    if (!now.shown || one !== chat || !text) return;
    now.shown.write(text);
    now.shown.tell(`≈ ${now.pieces.toLocaleString()} tokens${now.pieces > 4 ? ` · ${rate(now, now.pieces).toFixed(1)} tokens/s` : ""}`);
    down();
    now.cost = performance.now() - began;
  };

  const rate = (now, tokens) => {
    const seconds = (now.last - now.first) / 1000;
    return seconds > 0 ? (tokens - 1) / seconds : 0;
  };

  const counted = (now, usage) => {
    const tokens = usage ? usage.completion_tokens : now.pieces;
    return { prompt: usage ? usage.prompt_tokens : null, tokens, rate: tokens > 4 ? rate(now, tokens) : 0 };
  };

  const stop = () => {
    const now = runs.get(chat.id);
    if (now) now.control.abort();
    return Boolean(now);
  };

  // --- what can be done with messages ---

  const say = (parent, text) => {
    ChatStore.add(chat, { parent, role: "user", content: text });
    answer(chat.leaf);
  };

  const act = {
    edit(at, text) { if (!runs.has(chat.id)) say(chat.nodes[at].parent, text); },
    regenerate(at) { if (!runs.has(chat.id)) answer(chat.nodes[at].parent); },
    retry(at) {
      const node = chat.nodes[at];
      if (runs.has(chat.id)) return;
      if (node.content) { answer(node.parent); return; }
      try {
        const asked = request(node.parent);
        Object.assign(node, { finish: null, error: null, stats: null });
        run(chat, at, asked);
      } catch (error) { wrongSetting(error); }
    },
    branch(at) {
      if (runs.has(chat.id)) return;
      ChatStore.show(chat, at);
      save(chat);
      show(at);
    },
  };

  // --- showing ---

  const show = (at = null) => {
    const now = runs.get(chat.id);
    for (const one of runs.values()) one.shown = null;
    if (now) now.pending = "";
    log.replaceChildren(...ChatStore.path(chat).map((one) => {
      const made = ChatView.turn(chat, one, act, now && now.at === one);
      if (now && now.at === one) now.shown = made;
      return made.box;
    }));
    if (!chat.nodes.length) log.append(make("p", "welcome", "Ask the model something."));
    const title = Markdown.visible(ChatStore.title(chat));
    get("title").textContent = title;
    document.title = `${title} – openchat`;
    get("system").value = chat.system;
    if (at === null) { follows = true; down(); }
    else log.querySelector(`[data-node="${at}"]`).scrollIntoView({ block: "nearest" });
    buttons();
  };

  const buttons = () => {
    const running = runs.has(chat.id);
    get("send").hidden = running;
    get("stop").hidden = !running;
    get("export").disabled = !chat.nodes.length;
    get("export-all").disabled = !ChatStore.all.size;
    log.setAttribute("aria-busy", String(running));
  };

  const down = () => { if (follows) log.scrollTop = log.scrollHeight; else get("latest").hidden = false; };
  log.addEventListener("scroll", () => {
    follows = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    get("latest").hidden = follows;
  });
  new ResizeObserver(() => { down(); }).observe(log); // a phone's keyboard comes and goes
  get("latest").addEventListener("click", () => { follows = true; down(); });

  const listing = () => {
    if (get("chats").querySelector("input")) return; // a title is being typed
    get("chats").replaceChildren(...ChatStore.list().map((one) => ChatView.entry(one, chats, one.id === chat.id)));
    buttons();
  };

  // --- conversations ---

  const chats = {
    open(one) {
      chat = one;
      show();
      listing();
      menu(false);
      if (!narrow.matches) ask.focus();
    },
    rename(one, title) {
      get("chats").replaceChildren();
      if (title !== null) { one.title = title || null; save(one); }
      listing();
      get("title").textContent = Markdown.visible(ChatStore.title(chat));
      get("chats").querySelector(`[data-chat="${one.id}"] .rename`)?.focus();
    },
    remove(one) {
      const now = runs.get(one.id);
      ChatStore.remove(one);
      if (now) now.control.abort();
      if (one.id === chat.id) chats.open(ChatStore.list()[0] || ChatStore.create(one.system));
      listing();
      notice(`Deleted “${Markdown.visible(ChatStore.title(one))}”.`, "deleted", "Undo", () => { save(one); chats.open(one); });
    },
  };

  const fresh = () => {
    if (chat.nodes.length) chats.open(ChatStore.create(chat.system));
    menu(false);
    ask.focus();
  };

  const exported = (some) => {
    const name = some.length === 1 ? ChatStore.title(some[0]).toLowerCase().replace(/[^a-z0-9]+/g, "-").slice(0, 40) : "all";
    ChatView.download(`chat-${name.replace(/^-+|-+$/g, "") || "one"}.jsonl`, ChatStore.rows(some));
  };

  const imported = async (file) => {
    const { chats: found, left } = ChatStore.fromFile(await file.text());
    found.forEach(save);
    if (found.length) chats.open(found[0]);
    listing();
    const more = left ? `; ${left} held no conversation` : "";
    if (noticed !== "room" || get("notice").hidden) notice(`${found.length} conversations read from ${Markdown.visible(file.name)}${more}.`, "import");
  };

  // --- settings ---

  const settings = [...panel.querySelectorAll("[data-setting]")];

  // What differs from the server's defaults; throws the field that can't be sent.
  const chosen = () => {
    const found = {};
    for (const field of settings) {
      const name = field.dataset.setting;
      if (field.type === "number" && !field.checkValidity()) throw field;
      if (!field.value.trim()) continue;
      found[name] = field.type === "number" ? Number(field.value) : field.value.split("\n").filter(Boolean);
    }
    return found;
  };

  const wrongSetting = (field) => {
    if (!(field instanceof HTMLElement)) throw field;
    const label = panel.querySelector(`label[for="${field.id}"]`).textContent;
    settle(true);
    field.focus();
    notice(`${label}: ${field.validationMessage}`, "setting");
  };

  const kept = () => { try { return JSON.parse(localStorage.getItem("openchat.settings")) || {}; } catch { return {}; } };
  const keep = () => {
    calm("setting");
    const values = Object.fromEntries(settings.map((field) => [field.dataset.setting, field.value]));
    try { localStorage.setItem("openchat.settings", JSON.stringify(values)); } catch { /* for this page only */ }
  };
  const fill = (values) => { settings.forEach((field) => { field.value = String(values[field.dataset.setting] ?? ""); }); };

  const settle = (open) => {
    panel.hidden = !open;
    document.body.classList.toggle("setting", open);
    get("settings").setAttribute("aria-expanded", String(open));
  };
  const menu = (open) => {
    document.body.classList.toggle("listing", open);
    get("menu").setAttribute("aria-expanded", String(open));
  };

  panel.addEventListener("input", (event) => { if (event.target.dataset.setting) keep(); });
  get("system").addEventListener("change", () => { chat.system = get("system").value; if (chat.nodes.length) save(chat); });
  get("key").addEventListener("change", () => { ChatApi.key.set(get("key").value); connect(); });
  get("models").addEventListener("change", () => { model = get("models").value; });
  get("reset").addEventListener("click", () => { fill({}); keep(); });

  // --- the composer and the keyboard ---

  const grow = () => { ask.style.height = "auto"; ask.style.height = `${ask.scrollHeight + 2}px`; };
  const send = () => {
    const text = ask.value;
    if (!text.trim() || runs.has(chat.id)) return;
    get("system").dispatchEvent(new Event("change")); // a change not yet left
    try { chosen(); } catch (field) { wrongSetting(field); return; }
    ask.value = "";
    grow();
    say(chat.leaf, text);
  };

  ask.addEventListener("input", grow);
  ask.addEventListener("keydown", (event) => {
    if (!ChatView.sends(event)) return;
    event.preventDefault();
    send();
  });
  get("composer").addEventListener("submit", (event) => { event.preventDefault(); send(); });
  for (const [name, does] of Object.entries({
    stop, new: fresh, close: () => { settle(false); get("settings").focus(); }, import: () => { get("file").click(); },
    settings: () => { settle(panel.hidden); if (!panel.hidden) get("system").focus(); },
    menu: () => { menu(!document.body.classList.contains("listing")); },
    export: () => { exported([chat]); }, "export-all": () => { exported(ChatStore.list()); },
  })) get(name).addEventListener("click", does);
  get("file").addEventListener("change", async () => { const [file] = get("file").files; if (file) await imported(file); get("file").value = ""; });
  log.addEventListener("pointerdown", () => { menu(false); });

  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && !event.shiftKey && !event.altKey && event.key.toLowerCase() === "k") {
      event.preventDefault();
      fresh();
    } else if (event.key === "Escape" && !event.isComposing && !stop()) {
      if (document.body.classList.contains("listing")) { menu(false); get("menu").focus(); }
      else if (!panel.hidden) { settle(false); get("settings").focus(); }
    }
  });

  // --- beginning, ending, other tabs ---

  addEventListener("storage", (event) => {
    const name = ChatStore.follow(event);
    if (!name) return;
    const other = ChatStore.all.get(name);
    if (other && name === chat.id && !runs.has(name) && !log.querySelector(".edit")) { chat = other; show(); }
    listing();
  });
  addEventListener("pagehide", () => { for (const name of runs.keys()) { const one = ChatStore.all.get(name); if (one) ChatStore.save(one); } });

  ChatStore.load();
  fill(kept());
  get("key").value = ChatApi.key.get();
  get("key-field").hidden = !data.keys && !ChatApi.key.get();
  show();
  listing();
  connect();
  if (!narrow.matches) ask.focus(); // on a phone the keyboard would cover the page
})();
