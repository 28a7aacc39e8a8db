// The server's protocol: the key, the models, an answer as it comes.
const ChatApi = (() => {
  // `status` 0: no whole answer came. `code` is the server's, or ours: "offline", "broken".
  class Failure extends Error {
    constructor(message, { status = 0, code = null } = {}) {
      super(message);
      this.status = status;
      this.code = code;
    }
  }

  // The key lives as long as the tab, and never lies beside the conversations.
  let held = "";
  const key = {
    get() { try { return sessionStorage.getItem("openchat.key") || held; } catch { return held; } },
    set(value) {
      held = value.trim();
      try {
        if (held) sessionStorage.setItem("openchat.key", held);
        else sessionStorage.removeItem("openchat.key");
      } catch { /* kept in `held` */ }
    },
  };

  const headers = (more = {}) => (key.get() ? { ...more, Authorization: `Bearer ${key.get()}` } : more);

  const ask = async (path, options) => {
    let answer;
    try {
      answer = await fetch(path, { cache: "no-store", redirect: "error", ...options, headers: headers(options.headers) });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      // A key with characters that no header may hold fails here too.
      const bad = /[^\x21-\x7e]/.test(key.get());
      if (bad) throw new Failure("The API key has characters that no key has.", { status: 401, code: "invalid_api_key" });
      throw new Failure("The server does not answer.", { code: "offline" });
    }
    if (!answer.ok) throw await refused(answer);
    return answer;
  };

  const refused = async (answer) => {
    let said = null;
    try { said = (await answer.json()).error; } catch { /* a proxy's page */ }
    const message = said && typeof said.message === "string" ? said.message : `The server answered ${answer.status}.`;
    return new Failure(message, { status: answer.status, code: said ? said.code : null });
  };

  const models = async () => {
    const list = await (await ask("v1/models", {})).json();
    return Array.isArray(list.data) ? list.data : [];
  };

  // Whether the server is there: "ok", "loading", "failed" or "offline".
  const health = async () => {
    try {
      const answer = await fetch("health", { cache: "no-store" });
      if (answer.ok) return { status: "ok" };
      return { status: "loading", ...(await answer.json()) };
    } catch { return { status: "offline" }; }
  };

  // The data of server-sent events, whatever pieces they come in.
  async function* events(body) {
    const reader = body.getReader(), decoder = new TextDecoder();
    let rest = "", data = [];
    try {
      for (;;) {
        const { done, value } = await reader.read();
        rest += done ? decoder.decode() : decoder.decode(value, { stream: true });
        const lines = rest.split("\n");
        rest = lines.pop();
        for (const raw of lines) {
          const line = raw.endsWith("\r") ? raw.slice(0, -1) : raw;
          if (line.startsWith("data:")) data.push(line.slice(line[5] === " " ? 6 : 5));
          else if (line === "" && data.length) { yield data.join("\n"); data = []; }
        }
        if (done) return;
      }
    } finally {
      reader.cancel().catch(() => { /* it has ended already */ });
    }
  }

  // Calls `piece(text)` for each piece of the answer; gives {finish, usage, model}. Throws Failure,
  // or AbortError after `signal`.
  const answer = async (request, signal, piece) => {
    const body = JSON.stringify({ ...request, stream: true, stream_options: { include_usage: true } });
    const options = { method: "POST", body, signal, headers: { "Content-Type": "application/json" } };
    const response = await ask("v1/chat/completions", options);
    const found = { finish: null, usage: null, model: null };
    try {
      for await (const text of events(response.body)) {
        if (text === "[DONE]") return found;
        read(text, found, piece);
      }
    } catch (error) {
      if (error.name === "AbortError" || error instanceof Failure) throw error;
      throw broken();
    }
    if (found.finish) return found; // some servers leave [DONE] out
    throw broken();
  };

  const broken = () => new Failure("The connection broke off before the answer ended.", { code: "broken" });

  const read = (text, found, piece) => {
    let chunk;
    try { chunk = JSON.parse(text); } catch { throw new Failure("The server sent what is not its protocol.", { code: "broken" }); }
    if (chunk.error) throw new Failure(String(chunk.error.message || "The answer failed."), { code: chunk.error.code });
    if (chunk.usage) found.usage = chunk.usage;
    if (chunk.model) found.model = String(chunk.model);
    const choice = chunk.choices && chunk.choices[0];
    if (!choice) return;
    if (choice.delta && choice.delta.content) piece(String(choice.delta.content));
    if (choice.finish_reason) found.finish = String(choice.finish_reason);
  };

  return { Failure, key, models, health, answer };
})();
