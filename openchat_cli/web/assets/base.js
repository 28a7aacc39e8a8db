"use strict";
// The theme follows the system until the reader chooses; the choice is kept where storage is allowed.
(() => {
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const store = (value) => { try { localStorage.setItem("theme", value); } catch { /* from disk */ } };
  try { const kept = localStorage.getItem("theme"); if (kept) root.dataset.theme = kept; } catch { /* from disk */ }
  if (!button) return;
  button.hidden = false;
  button.addEventListener("click", () => {
    const dark = root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    store(root.dataset.theme);
  });
})();
