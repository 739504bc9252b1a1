// The focus stays with what it is on when a piece of the page is drawn anew. Gradio keeps the
// elements and gives them other contents, so the next key would go to whatever now stands there.
(() => {
  const NAMES = ["href", "aria-label"];
  let held = null; // the link or button that has the focus
  let name = ""; // what it was when it got it
  let piece; // the id of what it is part of

  const named = (element) => NAMES.map((each) => element.getAttribute(each)).find(Boolean);

  document.addEventListener("focusin", (event) => {
    held = event.target.closest("a, button");
    name = held && named(held);
    piece = held?.parentElement.closest("[id]")?.id;
  });
  document.addEventListener("pointerdown", () => { held = null; }); // who points goes elsewhere

  // Told of a change before the next key comes in.
  new MutationObserver(() => {
    if (!name || !held || held.isConnected && named(held) === name) return;
    if (![held, document.body].includes(document.activeElement)) return;
    const alike = document.getElementById(piece)?.querySelectorAll(held.localName) ?? [];
    [...alike].find((each) => named(each) === name)?.focus({ preventScroll: true });
  }).observe(document, { attributes: true, attributeFilter: NAMES, childList: true, subtree: true });
})();
