// Keeps waiting pages up to date without reloading them; see docs/own-page.md.
//
// An element with data-longtask="URL" shows the task at that URL. The script polls the task's status document, as often
// as the document says. It fills in the elements with data-lt. When the state changes, it replaces the article with the
// article of the page at URL.
"use strict";

(() => {
  const MILESTONES = [75, 50, 25];
  const SLOWEST_SECONDS = 60;
  const TIMEOUT_SECONDS = 30;

  const fill = (pattern, words) => pattern.replace("{}", words);
  const reached = (percent) => MILESTONES.find((milestone) => percent >= milestone) ?? 0;
  const round = (value) => Math.floor(value + 0.5);
  const backOff = (times) => Math.min(2 ** times, SLOWEST_SECONDS);

  // The same words as on the server: Language.duration and Language.estimate.
  function units(value, unit, lang) {
    const options = { style: "unit", unit, unitDisplay: "long", useGrouping: false };
    return new Intl.NumberFormat(lang, options).format(round(value));
  }
  function duration(seconds, lang) {
    if (round(seconds) < 60) return units(seconds, "second", lang);
    if (round(seconds / 60) < 120) return units(seconds / 60, "minute", lang);
    return units(seconds / 3600, "hour", lang);
  }
  function estimate(seconds, lang) {
    if (seconds < 60) return duration(Math.max(5, 5 * round(seconds / 5)), lang);
    if (round(seconds / 60) < 60) return duration(seconds, lang);
    return round(seconds / 1800) === 3 ? duration(5400, lang) : units(seconds / 3600, "hour", lang);
  }

  function watch(root) {
    // With this parameter, the page does not redirect to the result.
    const url = root.dataset.longtask + "&_longtaskrefresh=on";
    let article = root.querySelector("article");
    const own = article !== null; // the task's own page: it opens the result, and its title shows the task
    const live = root.querySelector(".lt-live") ?? root.appendChild(document.createElement("p"));
    live.className = "lt-live";
    live.setAttribute("role", "status");
    const part = (name) => article.querySelector(`[data-lt="${name}"]`);

    let timer;
    let looking = false;
    let over = false;
    let failures = 0; // in a row
    let forwarded = 0; // how many polls found a result that was not shown yet
    let milestone = shownMilestone();
    let usual = null;

    function shownMilestone() {
      return reached(article?.querySelector("progress")?.value ?? 0);
    }

    function lookIn(seconds) {
      clearTimeout(timer);
      timer = setTimeout(look, seconds * 1000);
    }

    function ask(type) {
      const signal = AbortSignal.timeout(TIMEOUT_SECONDS * 1000);
      return fetch(url, { headers: { Accept: type }, cache: "no-store", signal });
    }

    async function look() {
      clearTimeout(timer);
      if (looking || over || document.hidden) return;
      looking = true;
      try {
        const response = await ask("application/json");
        if (response.redirected || response.status === 401) return location.assign(root.dataset.longtask); // to log in
        if (response.status === 429 || response.status >= 500) throw new Error(response.statusText);
        if (response.ok) {
          await show(await response.json());
        } else {
          over = true;
          await swap();
        }
        failures = 0;
      } catch {
        over = false;
        failures += 1;
        lookIn(backOff(failures));
      } finally {
        looking = false;
        const notice = article && part("offline");
        if (notice) notice.hidden = failures === 0;
      }
    }

    async function show(task) {
      const { status, attempt } = article?.dataset ?? {};
      if (task.status !== status || String(task.attempt) !== attempt) await swap();
      if (own && task.status === "done") {
        if (forwarded === 0) location.assign(part("result")?.href ?? task.links.result);
        forwarded += 1;
        lookIn(backOff(forwarded)); // a download does not leave this page, which then becomes `finished`
      } else if (task.done) {
        over = true;
      } else {
        update(task);
        lookIn(task.poll_after_seconds);
      }
    }

    async function swap() {
      const response = await ask("text/html");
      if (response.status >= 500) throw new Error(response.statusText);
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      const next = page.querySelector(".longtask > article");
      if (!next) return location.assign(root.dataset.longtask); // not one of our pages
      const current = article ?? root.firstElementChild;
      const focused = current.contains(document.activeElement);
      next.lang = page.documentElement.lang;
      next.dir = page.documentElement.dir;
      current.replaceWith(next);
      article = next;
      part("manual")?.remove();
      if (focused) article.querySelector("h1").focus();
      milestone = shownMilestone();
      usual = null;
      entitle(null);
      say(article.dataset.announce ?? article.querySelector("h1").textContent);
    }

    function update({ progress, elapsed_seconds: elapsed }) {
      const words = article.dataset;
      const lang = article.closest("[lang]")?.lang;
      const { percent, eta_seconds: left } = progress;
      const known = percent !== null;
      const share = known ? fill(words.percent, percent) : "";
      if (!known && left !== null) usual ??= elapsed + left;
      put("message", progress.message);
      put("percent", share);
      put("elapsed", elapsed < 1 ? "" : fill(words.elapsed, duration(elapsed, lang)));
      if (left === null) put("left", "");
      else put("left", known ? fill(words.left, estimate(left, lang)) : fill(words.usual, estimate(usual, lang)));
      const bar = article.querySelector("progress");
      if (bar && known) bar.value = percent;
      else bar?.removeAttribute("value");
      entitle(share);
      if (reached(percent) > milestone) {
        milestone = reached(percent);
        say(fill(words.milestone, milestone));
      }
    }

    function put(name, text) {
      const element = part(name);
      if (element && element.textContent !== text) element.textContent = text;
    }

    function entitle(share) {
      const heading = article.dataset.title ?? article.querySelector("h1").textContent;
      if (own) document.title = share ? `${share} – ${heading}` : heading;
    }

    function say(text) {
      if (text) live.textContent = text;
    }

    if (article) part("manual")?.remove(); // only needed without the script
    document.addEventListener("visibilitychange", look);
    addEventListener("online", look);
    addEventListener("pageshow", (event) => event.persisted && look()); // after going back from the result
    if (!article || article.dataset.status === "done") look();
    else if (article.dataset.poll) lookIn(article.dataset.poll);
    else over = true;
  }

  document.querySelectorAll("[data-longtask]").forEach(watch);
})();
