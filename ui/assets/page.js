// Keeps the URL and the page in step, and remembers light or dark. Nothing else lives here.
(() => {
  const PARTS = ["tab", "run", "with", "from", "set"]; // all that a link names or leaves out
  let asked = "";
  let moved = {}; // what was last moved in the waiting line
  const place = () => new URLSearchParams(location.search);

  // Changes part of the URL as a new entry of the history, for example { tab, run }.
  function change(parts) {
    const next = place();
    for (const [name, value] of Object.entries(parts)) {
      if (value) next.set(name, value);
      else next.delete(name);
    }
    if (next.toString() === place().toString()) return false;
    history.pushState(null, "", "?" + next);
    return true;
  }

  // The hidden button reads the URL and puts the page where it says.
  const follow = () => document.querySelector("#follow-url")?.click();

  function ask(question, run) {
    return window.confirm(question) ? run : "";
  }

  window.medvae = {
    query: () => (asked = location.search),
    // Who moved on while the server was still answering stays where they went.
    settle: () => {
      if (location.search !== asked) follow();
      document.documentElement.dataset.settled = ""; // what is typed earlier may be lost
    },
    origin: () => place().get("from") ?? "",
    show: (parts) => { change(parts); },
    go: (parts) => { if (change(parts)) follow(); },
    confirmCancel: (run) => ask("Cancel this run? What it has learnt so far is thrown away.", run),
    confirmDelete: (run) => ask("Delete this run with its files? This cannot be undone.", run),
    confirmStopImport: (job) => ask("Stop this import? It can be started again.", job),
    move: () => JSON.stringify(moved),
    rename: (typed, filled) => { if (typed !== filled) document.querySelector("#rename-run")?.click(); },
    fetchOffered: () => document.querySelector("#offered-file")?.click(),
    restoreTheme: () => {
      const chosen = localStorage.getItem("medvae-theme");
      if (chosen) document.body.classList.toggle("dark", chosen === "dark");
    },
  };

  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-theme-switch]")) {
      const dark = document.body.classList.toggle("dark");
      localStorage.setItem("medvae-theme", dark ? "dark" : "light");
      return;
    }
    const mover = event.target.closest("[data-move]:not([aria-disabled])");
    if (mover) {
      moved = { job: mover.dataset.job, to: mover.dataset.move };
      document.querySelector("#move-in-line")?.click();
      return;
    }
    const tab = event.target.closest("#tabs [role=tab][data-tab-id]");
    if (tab) change({ tab: tab.dataset.tabId });
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const link = event.target.closest("a[data-place]");
    const row = event.target.closest("tr[data-href]");
    const target = link ? link.getAttribute("href") : row?.dataset.href;
    if (!target) return;
    event.preventDefault();
    const wanted = new URLSearchParams(target);
    if (change(Object.fromEntries(PARTS.map((name) => [name, wanted.get(name)])))) follow();
  });

  window.addEventListener("popstate", follow);
})();
