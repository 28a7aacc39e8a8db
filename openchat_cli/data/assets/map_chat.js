// A conversation as chat. Text only ever becomes text nodes: nothing here parses HTML.
const MapChat = (() => {
  const LONGEST = 40000; // characters of a message that are read as Markdown; longer ones stay plain
  const NAMES = { user: "Human", assistant: "Assistant", system: "System", tool: "Tool" };
  const { visible } = Markdown;

  const add = (parent, name, text, kind) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (kind) made.className = kind;
    parent.append(made);
    return made;
  };

  const turn = (role, text) => {
    const box = document.createElement("article");
    box.className = `turn ${role === "user" ? "human" : "other"}`;
    add(box, "h3", NAMES[role] || visible(String(role)));
    const body = add(box, "div", undefined, "said");
    body.dir = "auto";
    if (role === "assistant" && text.length <= LONGEST) Markdown.render(body, text);
    else add(body, "div", visible(text), "plain");
    return box;
  };

  return { turn, visible };
})();
