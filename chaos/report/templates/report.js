// A fault is one thing wherever it is shown: point at it in one place and it is marked in all.
(() => {
  const mark = (event, on) => {
    const shown = event.target.closest("[data-fault]");
    if (!shown) return;
    for (const same of document.querySelectorAll(`[data-fault="${shown.dataset.fault}"]`)) {
      same.classList.toggle("pointed", on);
    }
  };
  for (const [name, on] of [["mouseover", true], ["mouseout", false], ["focusin", true], ["focusout", false]]) {
    document.addEventListener(name, (event) => mark(event, on));
  }
})();
