// Copies a result that is text. The button is hidden where the browser has no clipboard for us.
"use strict";

addEventListener("DOMContentLoaded", () => {
  const text = document.querySelector(".lt-text");
  const button = document.querySelector("[data-copied]");
  if (!text || !button || !navigator.clipboard?.writeText) return;
  const status = button.parentElement.querySelector('[role="status"]');
  button.hidden = false;
  button.addEventListener("click", async () => {
    status.textContent = ""; // so that a screen reader says it again
    try {
      await navigator.clipboard.writeText(text.textContent);
      status.textContent = button.dataset.copied;
    } catch {
      getSelection().selectAllChildren(text); // the browser refuses: the visitor can copy the selection
    }
  });
});
