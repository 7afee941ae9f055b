// Refreshes an operators' page in place: fetches the same address and replaces the elements with data-live that have
// changed. What the operator has selected, opened or focused stays, and the first visible row keeps its place. A hidden
// tab rests. Without this script the page stays as it is, and its link "Refresh" loads it.
"use strict";
(() => {
  const SECONDS = 10;
  const PATIENCE = 3; // failures in a row before the page says so
  let failures = 0;

  const show = (name, shown) => document.querySelectorAll(`[${name}]`).forEach((one) => { one.hidden = !shown; });
  const boxes = (root) => [...root.querySelectorAll('input[type="checkbox"]')];
  const rowOf = (root, id) => root.querySelector(`[data-id="${CSS.escape(id)}"]`);

  // Whether the operator is copying text: replacing it would end the selection.
  const isMarking = (live) => {
    const marked = window.getSelection();
    return marked !== null && !marked.isCollapsed && live.contains(marked.anchorNode);
  };

  // Returns a function that finds the focused element again; null if the focus is elsewhere.
  const focusIn = (live) => {
    const one = document.activeElement;
    if (!one || !live.contains(one)) return null;
    const alike = (root) => [...root.querySelectorAll(one.tagName)];
    const index = alike(live).indexOf(one);
    const named = ["href", "value"].find((name) => one.hasAttribute(name));
    if (!named) return (fresh) => alike(fresh)[index];
    return (fresh) => alike(fresh).find((each) => each.getAttribute(named) === one.getAttribute(named));
  };

  // A selected row that is not on the page any more stays, so that the selection is complete.
  const keepSelection = (live, fresh) => {
    for (const box of boxes(live).filter((each) => each.checked)) {
      const twin = boxes(fresh).find((each) => each.name === box.name && each.value === box.value);
      if (twin) {
        twin.checked = true;
        continue;
      }
      const row = box.closest("[data-id]");
      let list = fresh.querySelector(".lt-rows");
      if (!row) continue;
      if (!list) {
        list = live.querySelector(".lt-rows").cloneNode(false);
        fresh.replaceChildren(list);
      }
      const kept = list.appendChild(document.importNode(row, true));
      kept.classList.add("lt-gone");
      boxes(kept).forEach((each) => { each.checked = true; });
    }
  };

  const keepOpened = (live, fresh) => {
    const before = [...live.querySelectorAll("details")];
    const after = [...fresh.querySelectorAll("details")];
    if (before.length === after.length) after.forEach((one, index) => { one.open = before[index].open; });
  };

  const replace = (live, fresh) => {
    fresh = document.importNode(fresh, true);
    keepSelection(live, fresh);
    keepOpened(live, fresh);
    if (fresh.outerHTML === live.outerHTML) return;
    const focused = focusIn(live);
    const anchor = [...live.querySelectorAll("[data-id]")].find((row) => row.getBoundingClientRect().bottom > 0);
    const top = anchor ? anchor.getBoundingClientRect().top : 0;
    live.replaceWith(fresh);
    const same = anchor && window.scrollY > 0 ? rowOf(fresh, anchor.dataset.id) : null;
    if (same) window.scrollBy({ top: same.getBoundingClientRect().top - top, behavior: "instant" });
    const next = focused && focused(fresh);
    if (next) next.focus({ preventScroll: true });
  };

  const refresh = async () => {
    const headers = { Accept: "text/html", "X-Requested-With": "XMLHttpRequest" };
    const answer = await fetch(location.href, { headers, cache: "no-store", redirect: "error" });
    if (!answer.ok) throw new Error(`${answer.status}`);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const found = [...document.querySelectorAll("[data-live]")].map((live) => [
      live,
      page.querySelector(`[data-live="${CSS.escape(live.dataset.live)}"]`),
    ]);
    if (!found.length || found.some(([, fresh]) => !fresh)) throw new Error("another page");
    for (const [live, fresh] of found) if (!isMarking(live)) replace(live, fresh);
  };

  const tick = async () => {
    if (document.hidden) return;
    try {
      await refresh();
      failures = 0;
    } catch {
      failures += 1;
    }
    show("data-offline", failures >= PATIENCE);
    window.clearTimeout(timer);
    timer = window.setTimeout(tick, 1000 * SECONDS);
  };

  show("data-refreshes", true);
  let timer = window.setTimeout(tick, 1000 * SECONDS);
  document.addEventListener("visibilitychange", () => {
    window.clearTimeout(timer);
    if (!document.hidden) tick();
  });
})();
