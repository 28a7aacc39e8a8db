// Conversations, kept in this browser only. Each is a tree: asking or answering anew adds a branch
// beside the old one, and `leaf` says which branch is on show.
//
//   {id, title, created, updated, system, leaf, nodes: [{parent, role, content, …}]}
//
// A node is named by its place in `nodes`; -1 is the beginning. Of an answer it also has `finish`
// (null while it comes), `error`, `stats` and `model`.
const ChatStore = (() => {
  const PREFIX = "openchat.chat.";
  const ROLES = { human: "user", user: "user", gpt: "assistant", chatgpt: "assistant", assistant: "assistant", system: "system", developer: "system" };
  const all = new Map();
  let broken = false; // whether the browser refused to keep something

  const id = () => [...crypto.getRandomValues(new Uint8Array(8))].map((one) => one.toString(16).padStart(2, "0")).join("");

  // --- trees ---

  const create = (system = "") => {
    const now = Date.now();
    return { id: id(), title: null, created: now, updated: now, system, leaf: -1, nodes: [] };
  };

  const add = (chat, node) => {
    chat.nodes.push(node);
    chat.leaf = chat.nodes.length - 1;
    chat.updated = Date.now();
    return chat.leaf;
  };

  // The nodes from the first to `last`, the first one first.
  const path = (chat, last = chat.leaf) => {
    const found = [];
    for (let at = last; at >= 0; at = chat.nodes[at].parent) found.push(at);
    return found.reverse();
  };

  const siblings = (chat, at) => {
    const { parent } = chat.nodes[at];
    return chat.nodes.flatMap((node, place) => (node.parent === parent ? [place] : []));
  };

  // Show the branch of a node, down to what was said last in it.
  const show = (chat, at) => {
    for (let next = at; next >= 0;) {
      chat.leaf = next;
      next = chat.nodes.findLastIndex((node) => node.parent === chat.leaf);
    }
  };

  const title = (chat) => {
    if (chat.title) return chat.title;
    const first = chat.nodes.find((node) => node.role === "user");
    const words = first ? [...first.content.slice(0, 300).replace(/\s+/g, " ").trim()] : [];
    if (!words.length) return "New chat";
    return words.length > 60 ? `${words.slice(0, 59).join("")}…` : words.join("");
  };

  // --- the browser's storage ---

  const isChat = (value) => value && typeof value.id === "string" && Array.isArray(value.nodes)
    && Number.isInteger(value.leaf) && value.leaf >= -1 && value.leaf < value.nodes.length
    && value.nodes.every((node, at) => node && typeof node.content === "string" && node.role in ROLES
      && Number.isInteger(node.parent) && node.parent >= -1 && node.parent < at);

  const parse = (text) => {
    try {
      const value = JSON.parse(text);
      return isChat(value) ? value : null;
    } catch { return null; }
  };

  const load = () => {
    try {
      for (let n = 0; n < localStorage.length; n += 1) {
        const name = localStorage.key(n);
        const chat = name.startsWith(PREFIX) ? parse(localStorage.getItem(name)) : null;
        if (chat) all.set(chat.id, chat);
      }
    } catch { broken = true; }
  };

  // Gives false where the browser has no room, or keeps nothing at all: the conversation then lives
  // as long as the page.
  const save = (chat) => {
    all.set(chat.id, chat);
    try {
      localStorage.setItem(PREFIX + chat.id, JSON.stringify(chat));
      return true;
    } catch { broken = true; return false; }
  };

  const remove = (chat) => {
    all.delete(chat.id);
    try { localStorage.removeItem(PREFIX + chat.id); } catch { /* nothing is kept */ }
  };

  const list = () => [...all.values()].sort((a, b) => b.updated - a.updated || (a.id < b.id ? -1 : 1));

  // What another tab did; gives the conversation's id.
  const follow = (event) => {
    if (!event.key || !event.key.startsWith(PREFIX)) return null;
    const name = event.key.slice(PREFIX.length), chat = event.newValue === null ? null : parse(event.newValue);
    if (chat) all.set(name, chat);
    else if (event.newValue === null) all.delete(name);
    return name;
  };

  // --- rows of JSONL, as `openchat data clean` takes them ---

  // The branch on show; null where nothing was said.
  const row = (chat) => {
    const shown = path(chat).map((at) => chat.nodes[at]).filter((node) => node.content);
    if (!shown.length) return null;
    const messages = shown.map(({ role, content }) => ({ role, content }));
    if (chat.system.trim()) messages.unshift({ role: "system", content: chat.system });
    const model = shown.findLast((node) => node.model);
    return { kind: "conversation", version: 1, id: `chat-${chat.id}`, source: "chat page", model: model ? model.model : null,
      language: null, condition: null, weight: 1, messages };
  };

  const rows = (chats) => chats.map(row).filter(Boolean).map((one) => `${JSON.stringify(one)}\n`).join("");

  const fromRow = (value) => {
    const turns = Array.isArray(value) ? value : value && (value.messages || value.conversations || value.items);
    if (!Array.isArray(turns)) return null;
    const chat = create();
    for (const turn of turns) {
      const role = turn && ROLES[String(turn.role ?? turn.from).toLowerCase()];
      const content = turn && (turn.content ?? turn.value);
      if (!role || typeof content !== "string") return null;
      if (role === "system" && !chat.nodes.length) chat.system += (chat.system && "\n\n") + content;
      else add(chat, { parent: chat.leaf, role, content, ...(role === "assistant" ? { finish: "stop", model: text(value.model) } : {}) });
    }
    return chat.nodes.length ? chat : null;
  };

  const text = (value) => (typeof value === "string" ? value : null);

  // {chats, left}: the conversations of a file, and how many lines hold none.
  const fromFile = (content) => {
    const lines = content.split("\n").filter((line) => line.trim());
    let values;
    try { values = [JSON.parse(content)].flat(); } catch { values = lines.map(parsed); }
    const chats = values.map(fromRow).filter(Boolean);
    return { chats, left: values.length - chats.length };
  };

  const parsed = (line) => { try { return JSON.parse(line); } catch { return null; } };

  return { all, create, add, path, siblings, show, title, load, save, remove, list, follow, rows, fromFile, keeps: () => !broken };
})();
