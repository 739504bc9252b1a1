// What a mouse learns from a title, a finger and the keyboard learn from a bubble.
(() => {
  const ACTS = "button, a, input, select, label, summary, .readout";
  let bubble;

  function show(target) {
    if (!bubble) {
      bubble = document.body.appendChild(document.createElement("div"));
      bubble.id = "bubble";
      bubble.role = "tooltip";
    }
    bubble.textContent = target.title;
    bubble.hidden = false;
    const { left, bottom, top } = target.getBoundingClientRect();
    const below = bottom + 8 + bubble.offsetHeight < innerHeight;
    bubble.style.left = `${Math.max(8, Math.min(left, innerWidth - bubble.offsetWidth - 8))}px`;
    bubble.style.top = `${below ? bottom + 8 : Math.max(8, top - bubble.offsetHeight - 8)}px`;
    // A dialog lies above the page; what explains it must lie above the dialog.
    (target.closest("dialog") ?? document.body).append(bubble);
  }

  const hide = () => { if (bubble) bubble.hidden = true; };
  const explained = (element) => (element.closest(ACTS) ? null : element.closest("[title]:not([title=''])"));

  document.addEventListener("pointerup", (event) => {
    const target = event.pointerType === "mouse" ? null : explained(event.target);
    if (target) show(target);
    else hide();
  });
  document.addEventListener("focusin", (event) => {
    if (event.target.matches(":focus-visible") && explained(event.target) === event.target) show(event.target);
    else hide();
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  document.addEventListener("scroll", hide, true);
})();
