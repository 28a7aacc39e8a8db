// Filters, keys and printing. The page is whole without this: it only hides, sorts, opens and closes.
(() => {
  const byId = (id) => document.getElementById(id);
  const list = byId("questions");
  const questions = [...list.querySelectorAll(".question")];
  const inputs = ["search", "comparison", "category", "outcome", "sort"].map(byId);
  const texts = new WeakMap();
  const textOf = (question) => {
    if (!texts.has(question)) texts.set(question, question.textContent.toLowerCase());
    return texts.get(question);
  };
  const shown = () => questions.filter((question) => !question.hidden);

  function filter() {
    const [search, comparison, category, outcome] = inputs.map((input) => input.value);
    const needle = search.trim().toLowerCase();
    for (const question of questions) {
      let any = false;
      for (const pair of question.querySelectorAll(".pair")) {
        const fits = (!comparison || pair.dataset.comparison === comparison)
          && (!outcome || pair.dataset.outcome.split(" ").includes(outcome));
        pair.hidden = !fits;
        any ||= fits;
      }
      question.hidden = !any || (category && question.dataset.category !== category)
        || (needle && !textOf(question).includes(needle));
    }
    byId("count").textContent = `${shown().length} of ${questions.length}`;
  }

  function sort() {
    const key = byId("sort").value;
    const sorted = key === "order" ? questions
      : [...questions].sort((a, b) => Number(b.dataset[key]) - Number(a.dataset[key]));
    list.append(...sorted);
  }

  let waiting;
  byId("search").addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(filter, 120); });
  for (const input of inputs.slice(1, 4)) input.addEventListener("change", filter);
  byId("sort").addEventListener("change", sort);
  byId("all").addEventListener("click", (event) => {
    const open = !shown().every((question) => question.open);
    for (const question of shown()) question.open = open;
    event.target.textContent = open ? "Close all" : "Open all";
  });

  // A link to a question opens it, also one that a filter hides.
  function jump() {
    let id = location.hash.slice(1);
    try { id = decodeURIComponent(id); } catch { /* not an id of ours */ }
    const question = questions.find((one) => one.id === id);
    if (!question) return;
    question.hidden = false;
    question.open = true;
    question.scrollIntoView();
  }
  addEventListener("hashchange", jump);

  function step(by) {
    const visible = [...list.querySelectorAll(".question:not([hidden])")];
    const at = visible.findIndex((question) => question.contains(document.activeElement));
    const next = visible[Math.min(Math.max(at + by, 0), visible.length - 1)];
    next?.querySelector("summary").focus();
  }
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.closest?.("input, select");
    if (event.key === "Escape" && typing) event.target.blur();
    if (typing) return;
    if (event.key === "/") { event.preventDefault(); byId("search").focus(); }
    if (event.key === "j") step(1);
    if (event.key === "k") step(-1);
  });

  // On paper every question that the filters show is open, and afterwards as it was.
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = shown().flatMap((one) => [one, ...one.querySelectorAll("details")]).filter((one) => !one.open);
    for (const one of closed) one.open = true;
  });
  addEventListener("afterprint", () => { for (const one of closed) one.open = false; });

  byId("filters").hidden = false;
  filter();
  jump();
})();
