// The Detect tab's instant controls: what needs no new look at an image happens in the browser.
(() => {
  const WORDS = { unusual: "Unusual", usual: "Within the healthy range", undecided: "No verdict" };
  const cards = () => [...document.querySelectorAll("#results .card")];
  const tray = () => document.querySelector("#results .tray");
  // The model's own share, which need not be a step of the slider, until somebody moves that.
  function fpr() {
    const { dataset, value } = document.querySelector("#target-fpr");
    return Number(dataset.target ?? value / 100);
  }

  // Verdicts, threshold and counts for the accepted share of false alarms.
  function judge() {
    const { healthy, thresholds } = tray().dataset;
    const allowed = Math.floor(fpr() * (Number(healthy) + 1) + 1e-9);
    const threshold = thresholds.split(",")[allowed - 1];
    const shown = allowed && threshold ? Number(threshold).toFixed(2).replace("-", "−") : "–";
    document.querySelectorAll("#results .threshold").forEach((each) => { each.textContent = shown; });
    document.querySelectorAll("#results .target").forEach((each) => { each.textContent = `${+(100 * fpr()).toFixed(1)} %`; });
    tray().querySelector("output").textContent = `${+(100 * fpr()).toFixed(1)} %`;
    const counts = { unusual: 0, usual: 0, undecided: 0 };
    const called = { sick: 0, normal: 0 };
    const rows = new Map([...document.querySelectorAll("#score-table tr[data-of]")].map((row) => [row.dataset.of, row]));
    for (const card of cards().filter((each) => each.dataset.p)) {
      const state = shown === "–" ? "undecided" : Number(card.dataset.p) <= fpr() ? "unusual" : "usual";
      counts[state] += 1;
      called[card.dataset.truth] += state === "unusual";
      if (card.classList.contains(state)) continue;
      card.classList.remove(...Object.keys(WORDS));
      card.classList.add(state);
      card.querySelector(".verdict span").textContent = WORDS[state];
      card.setAttribute("aria-label", `${card.dataset.name}: ${WORDS[state]}`);
      const row = rows.get(card.dataset.index);
      if (row) row.querySelector(".row-verdict").textContent = WORDS[state];
    }
    for (const [state, count] of Object.entries(counts)) {
      const shownCount = document.querySelector(`#results .count-${state}`);
      shownCount.textContent = count;
      if (state === "undecided") shownCount.parentElement.hidden = !count;
    }
    document.querySelectorAll("[data-called]").forEach((each) => { each.textContent = called[each.dataset.called]; });
  }

  function arrange() {
    const order = document.querySelector("#card-order").value;
    const by = {
      given: (card) => Number(card.dataset.index ?? 1e9),
      unusual: (card) => -Number(card.dataset.score ?? -1e9),
      name: (card) => card.dataset.name ?? "",
    }[order];
    const compare = (a, b) => (by(a) < by(b) ? -1 : by(a) > by(b) ? 1 : 0);
    const wanted = document.querySelector("#card-filter").value;
    const sorted = cards().sort(compare);
    const now = cards();
    const moved = sorted.some((card, n) => card !== now[n]);
    if (moved) sorted[0].parentElement.append(...sorted);
    for (const card of sorted) card.hidden = wanted !== "all" && !card.classList.contains(wanted);
  }

  const dialog = () => document.querySelector("#viewer dialog");
  let step; // the button of the viewer that has the focus when it opens
  const picked = () => [...document.querySelectorAll("[data-pick]:checked")].map((box) => Number(box.dataset.pick));

  // The wanted image and choices travel to the server as one JSON text.
  Object.assign(window.medvae, {
    look: () => JSON.stringify({ look: Number(window.medvae.wanted ?? 0), fpr: fpr() }),
    choice: () => JSON.stringify({ fpr: fpr(), picked: picked() }),
    openViewer: () => {
      if (!dialog() || dialog().open) return;
      dialog().showModal();
      dialog().querySelector(`[data-step=${step}]`).focus();
    },
    placeNeighbours: () => {
      const found = document.querySelector("#alike [data-of]");
      if (found && found.dataset.of === dialog()?.dataset.index) dialog().querySelector(".alike").replaceChildren(found);
    },
    // On a narrow screen what was asked for lies below the controls.
    showResults: () => {
      const shown = document.querySelector("#results .results");
      if (shown && shown.getBoundingClientRect().top > 0.7 * innerHeight) shown.scrollIntoView({ behavior: "smooth" });
    },
    showCard: () => document.querySelector("#report-card")?.scrollIntoView({ behavior: "smooth", block: "nearest" }),
    save: () => document.querySelector("#ready a")?.click(),
  });

  document.addEventListener("click", (event) => {
    const opener = event.target.closest("[data-look]");
    if (opener) {
      window.medvae.wanted = opener.dataset.look;
      step = opener.dataset.step ?? "Next";
      document.querySelector("#open-viewer")?.click();
    } else if (event.target.closest("[data-close]") || event.target === dialog()) {
      dialog()?.close();
    }
  });

  // Each image comes in a dialog of its own, so the browser no longer knows where the focus was.
  document.addEventListener("close", (event) => {
    if (event.target !== dialog()) return;
    document.querySelector(`#results [data-look="${dialog().dataset.index}"]`)?.focus();
  }, true);

  document.addEventListener("input", (event) => {
    const { id, value } = event.target;
    const stage = dialog()?.querySelector(".stage");
    if (id === "target-fpr") { delete event.target.dataset.target; judge(); arrange(); }
    else if (id === "card-order" || id === "card-filter") arrange();
    else if (id === "view-split") stage.style.setProperty("--split", `${value}%`);
    else if (id === "view-opacity") stage.style.setProperty("--opacity", value / 100);
    else if (id === "view-contours") stage.classList.toggle("plain", !event.target.checked);
    else if (id === "view-map") {
      stage.dataset.map = value;
      for (const key of dialog().querySelectorAll("[data-key]")) key.hidden = key.dataset.key !== value;
    }
  });

  // An image on the clipboard is dropped on the upload, as if it came from a file.
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])].filter((file) => file.type.startsWith("image/"));
    const field = document.querySelector("#upload input[type=file]");
    if (!files.length || !field || !field.offsetParent && !document.querySelector("#upload")?.offsetParent) return;
    const carried = new DataTransfer();
    files.forEach((file) => carried.items.add(file));
    field.files = carried.files;
    field.dispatchEvent(new Event("change", { bubbles: true }));
  });
})();
