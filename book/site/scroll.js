// Lets the keyboard reach equations, tables and code that are wider than the screen: those, and only those, take the
// focus. The theme does it for code alone, and only for what is visible when the page opens.
(() => {
  "use strict";

  const WIDE = "mjx-container[display='true'], .pst-scrollable-table-container, pre, .cell_output > .output";

  function update() {
    for (const box of document.querySelectorAll(WIDE)) {
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  }

  // MathJax changes the page's height when it has set the equations, and so tells the observer.
  new ResizeObserver(update).observe(document.body);
})();
