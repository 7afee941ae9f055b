// Keeps waiting pages up to date without reloading them; see docs/own-page.md.
//
// An element with data-longtask="URL" shows the task at that URL. The script polls the task's status document, as often
// as the document says. It fills in the elements with data-lt. When the state changes, it replaces the article with the
// article of the page at URL. It only stops when the task's own answers say that nothing more will happen.
"use strict";

(() => {
  const MILESTONES = [75, 50, 25];
  const SLOWEST_SECONDS = 60;
  const TIMEOUT_SECONDS = 30;
  const HIDDEN_SECONDS = 1800; // how long a hidden tab polls if the visitor has not asked to be called
  const LONG_SECONDS = 10; // work that takes longer offers to call the visitor
  const TOKEN_SECONDS = 5; // how long a visitor who has pressed a button waits for a fresh token
  const ENDED = ["finished", "failed", "cancelled", "expired", "unknown"];

  // For markup without data-elapsed and so on, if it is English. In other languages, only the values are shown.
  const ENGLISH = { elapsed: "{} so far", left: "about {} left", usual: "usually takes about {}", phase: "Now: {}", parts: "Parts done: {done} of {total}" };

  // Why there is no news.
  class NoNews extends Error {}
  const LATER = "later"; // no answer, or the server asks to come back later
  const OPEN = "open"; // the browser itself has to open the page, for instance for the login
  const STRANGE = "strange"; // the answer is not about this task

  const fill = (pattern = "{}", value) => pattern.replace("{}", () => value);
  const reached = (percent) => MILESTONES.find((milestone) => percent >= milestone) ?? 0;
  const round = (value) => Math.floor(value + 0.5);
  const withoutShare = (title) => title.replace(/^(?=[^–]*\d)[\d\s%\u200e\u200f\u061c]*%[\d\s\u200e\u200f\u061c]* – /, "");

  function local(Kind, lang, options) {
    try {
      return new Intl[Kind](lang, options);
    } catch {
      return new Intl[Kind]("en", options); // for instance lang="de_DE"
    }
  }
  function format(value, lang, options) {
    return local("NumberFormat", lang, { useGrouping: false, ...options, numberingSystem: "latn" }).format(value);
  }

  // The same words as on the server: Language.duration and Language.estimate. Language.units gives the texts: each plural
  // form behind a number that has it, as in "1:{} hour|0:{} hours". Without them, the browser has its own.
  function units(value, unit, words, lang) {
    const count = round(value);
    const forms = words[`${unit}s`]?.split("|").map((form) => [parseInt(form), form.slice(form.indexOf(":") + 1)]);
    if (!forms) return format(count, lang, { style: "unit", unit, unitDisplay: "long" });
    const rules = local("PluralRules", lang);
    const form = forms.find(([number]) => rules.select(number) === rules.select(count)) ?? forms[forms.length - 1];
    return fill(form[1], count);
  }
  function duration(seconds, words, lang) {
    if (round(seconds) < 60) return units(seconds, "second", words, lang);
    if (round(seconds / 60) < 120) return units(seconds / 60, "minute", words, lang);
    return units(seconds / 3600, "hour", words, lang);
  }
  function inParts(pattern = "{done}/{total}", parts, lang) {
    const shown = (name) => () => format(parts[name], lang, { useGrouping: "auto" });
    return pattern.replace("{done}", shown("done")).replace("{total}", shown("total"));
  }
  function estimate(seconds, words, lang) {
    if (seconds < 60) return duration(Math.max(5, 5 * round(seconds / 5)), words, lang);
    if (round(seconds / 60) < 60) return duration(seconds, words, lang);
    return round(seconds / 1800) === 3 ? duration(5400, words, lang) : units(seconds / 3600, "hour", words, lang);
  }

  // Opens the page, but at most once a minute: the server may refuse polls only.
  function open(page) {
    try {
      if (Date.now() - sessionStorage.longtaskOpened < SLOWEST_SECONDS * 1000) return false;
      sessionStorage.longtaskOpened = Date.now();
    } catch {
      return false; // without storage there are no cookies either, so there is nothing to sign in with
    }
    location.assign(page);
    return true;
  }

  // The title of a hidden tab says what has ended, until the visitor comes back.
  const marks = [];
  let plainTitle = document.title; // without the marks
  let hiddenAt = Date.now();
  function entitleTab(text) {
    plainTitle = text;
    document.title = marks.join(", ") || text;
  }
  function mark(text) {
    if (!document.hidden) return;
    if (!marks.length) plainTitle = document.title;
    marks.push(text);
    entitleTab(plainTitle);
  }
  function turn() {
    hiddenAt = Date.now();
    if (!document.hidden && marks.splice(0).length) document.title = plainTitle;
  }

  // Returns whether the page can show notifications, or could after the visitor has allowed it.
  function canNotify() {
    try {
      if (!isSecureContext || top.location.origin !== location.origin) return false;
      if (!("data" in Notification.prototype)) return true;
      // Data that can't be cloned: so nothing is shown. Where only service workers may notify, the error is another one.
      new Notification("", { data: Symbol() });
    } catch (error) {
      return error.name === "DataCloneError";
    }
    return false;
  }
  function allowed() {
    return Notification.permission === "granted";
  }
  function notify(text, options) {
    try {
      const shown = new Notification(text, options);
      shown.onclick = () => {
        window.focus();
        shown.close();
      };
    } catch (error) {
      console.error(error);
    }
  }

  function watch(root) {
    const given = new URL(root.dataset.longtask, location);
    const id = given.searchParams.get("_longtaskid");
    if (!id) throw new Error(`data-longtask is not the URL of a task: ${root.dataset.longtask}`);
    const page = location.origin + given.pathname + given.search; // the URL may have the host that is used in mails
    const own = root.querySelector("article, [data-lt]") !== null; // opens the result, and the title shows the task
    const card = () => root.querySelector("article") ?? root;
    const part = (name) => root.querySelector(`[data-lt="${name}"]`);

    const live = root.querySelector(".lt-live") ?? root.appendChild(document.createElement("p"));
    live.className = "lt-live";
    live.setAttribute("role", "status");

    const { status, attempt, poll } = card().dataset;
    let shown = { status, attempt }; // undefined if the markup does not say
    let title = withoutShare(document.title);
    let milestone = shownMilestone();
    let phase = shownPhase();
    let usual = null;
    let manual = null; // the link for browsers without the script
    const gap = document.createComment(""); // stands in its place

    let timer;
    let looking = false;
    let sending = false;
    let over = ENDED.includes(status);
    let failures = 0; // in a row
    let forwarded = 0; // how many polls found a result that was not shown yet
    let name = card().dataset.name ?? title;
    const callable = canNotify();
    let called = recall(); // whether the visitor has asked to be called
    let told = false; // whether the visitor knows that the task has ended

    function shownMilestone() {
      return reached(100 * (root.querySelector("progress")?.position ?? 0));
    }

    // Returns the number of the phase, 0 before the first one, or null if the page has no list.
    function shownPhase() {
      const list = part("phases");
      return list && 1 + [...list.children].findIndex((item) => item.hasAttribute("aria-current"));
    }

    function lookIn(seconds) {
      clearTimeout(timer);
      const wait = document.hidden ? SLOWEST_SECONDS : Math.min(Math.max(Number(seconds) || 2, 1), SLOWEST_SECONDS);
      timer = setTimeout(look, 1000 * wait);
    }

    // Returns the text of the answer. With _longtaskrefresh, the page does not redirect to the result.
    async function ask(type, seconds = TIMEOUT_SECONDS) {
      const stop = window.AbortController && new AbortController();
      const request = fetch(`${page}&_longtaskrefresh=on`, {
        // With this header, Identity-Aware Proxy answers 401 instead of redirecting to another site.
        headers: { Accept: type, "X-Requested-With": "XMLHttpRequest" },
        cache: "no-store",
        redirect: "manual",
        signal: stop?.signal,
      });
      const read = request.then(async (response) => [response, await response.text()]);
      let timeout;
      const late = new Promise((_, reject) => (timeout = setTimeout(reject, 1000 * seconds)));
      const [response, text] = await Promise.race([read, late])
        .catch(() => {
          stop?.abort();
          throw new NoNews(LATER);
        })
        .finally(() => clearTimeout(timeout));
      if (response.type === "opaqueredirect" || response.status === 401) throw new NoNews(OPEN);
      if (response.status === 429 || response.status >= 500) throw new NoNews(LATER);
      return text;
    }

    async function askPage(seconds) {
      return new DOMParser().parseFromString(await ask("text/html", seconds), "text/html");
    }

    async function look() {
      if (looking || over || rests()) return;
      clearTimeout(timer);
      looking = true;
      try {
        await show(parse(await ask("application/json")));
        failures = 0;
        warn(null);
      } catch (error) {
        failures += 1;
        lookIn(2 ** failures);
        const reason = error instanceof NoNews ? error.message : "fault";
        if (reason === "fault") console.error(error);
        if (reason === OPEN && !document.hidden) open(page);
        warn(reason);
      } finally {
        looking = false;
      }
    }

    function parse(text) {
      try {
        const task = JSON.parse(text);
        return task.id === id && task.progress ? task : null;
      } catch {
        return null;
      }
    }

    async function show(task) {
      if (!task) {
        await swap(null);
        over = ENDED.includes(shown.status);
        if (!over) throw new NoNews(STRANGE);
        tell(shown.status === "finished");
        return;
      }
      const opens = own && task.status === "done";
      if (task.status !== shown.status || String(task.attempt) !== shown.attempt) {
        await swap(task).catch((error) => {
          if (!opens) throw error;
        });
      }
      if (opens) {
        tell(true);
        if (forwarded === 0 && document.hidden) return; // the result is opened when the visitor comes back
        if (forwarded === 0) location.assign(part("result")?.href ?? task.links.result);
        forwarded += 1;
        lookIn(2 ** forwarded); // a download does not leave this page, which then becomes `finished`
      } else if (task.done && task.status === shown.status) {
        over = true;
        tell(task.links.result !== null);
      } else {
        update(task);
        lookIn(task.poll_after_seconds);
      }
    }

    // Shows the page as it is now. The task is null if the poll was answered by something else.
    async function swap(task) {
      const next = await askPage();
      const roots = [...next.querySelectorAll("[data-longtask]")].filter((each) => each.dataset.longtask.includes(id));
      const from = roots[0] ?? next.querySelector(".longtask:not([data-longtask])");
      const fresh = from?.querySelector(roots[0] ? "article" : "article[data-status]");
      if (!fresh && !roots[0]?.querySelector("[data-lt]")) {
        throw new NoNews(own && task && failures > 1 ? OPEN : STRANGE); // perhaps the author's page of this state
      }
      for (const name of ["lang", "dir"]) {
        const said = from.closest(`[${name}]`)?.[name];
        if (said) (fresh ?? root)[name] = live[name] = said;
      }
      if (!own) (fresh ?? from).querySelector('[data-lt="leave"]')?.remove();
      keepFocus(() => {
        if (fresh && card() !== root) {
          card().replaceWith(fresh);
        } else {
          if (!fresh) Object.assign(root.dataset, from.dataset);
          from.querySelector(".lt-live")?.remove();
          [...root.childNodes].forEach((each) => each === live || each.remove());
          root.prepend(...(fresh ? [fresh] : from.childNodes));
        }
      });
      const before = shown;
      const { status, attempt, announce } = card().dataset;
      shown = { status: status ?? task?.status, attempt: attempt ?? String(task?.attempt) };
      title = withoutShare(next.title);
      name = card().dataset.name ?? name;
      milestone = shownMilestone();
      phase = shownPhase();
      usual = null;
      takeManual();
      entitle("");
      if (before.status && (before.status !== shown.status || before.attempt !== shown.attempt)) {
        say(announce ?? root.querySelector("h1")?.textContent);
      }
    }

    function update({ progress, elapsed_seconds: elapsed, facts = {}, parts }) {
      const lang = card().closest("[lang]")?.lang || "en";
      const words = { ...(/^en\b/i.test(lang) ? ENGLISH : {}), ...root.dataset, ...card().dataset };
      const inPercent = (pattern, value) =>
        pattern ? fill(pattern, value) : format(value / 100, lang, { style: "percent" });
      const { percent, eta_seconds: left } = progress;
      const known = percent !== null;
      const share = known ? inPercent(words.percent, percent) : "";
      if (!known && left !== null) usual ??= elapsed + left;
      put("message", progress.message);
      put("percent", share);
      put("parts", parts ? inParts(words.parts, parts, lang) : "");
      put("elapsed", elapsed < 1 ? "" : fill(words.elapsed, duration(elapsed, words, lang)));
      if (left === null) put("left", "");
      else if (known) put("left", fill(words.left, estimate(left, words, lang)));
      else put("left", fill(words.usual, estimate(usual, words, lang)));
      const bar = root.querySelector("progress");
      if (bar && known) bar.value = (percent * bar.max) / 100;
      else bar?.removeAttribute("value");
      entitle(share);
      offer(elapsed + (left ?? 0));
      if (reached(percent) > milestone) {
        milestone = reached(percent);
        say(inPercent(words.milestone, milestone));
      }
      if (progress.phase) begin(progress.phase, words.phase);
      for (const { dataset } of root.querySelectorAll('[data-lt^="fact-"]')) {
        const value = facts[dataset.lt.slice(5)] ?? "–";
        put(dataset.lt, typeof value === "number" ? format(value, lang, { useGrouping: "auto" }) : value);
      }
    }

    function begin({ name, number, count }, words) {
      const list = part("phases");
      if (list?.children.length === count) {
        [...list.children].forEach((item, index) => {
          const state = ["next", "now", "done"][1 + Math.sign(number - 1 - index)];
          item.dataset.state = state;
          if (state === "now") item.setAttribute("aria-current", "step");
          else item.removeAttribute("aria-current");
          const word = item.querySelector(".lt-hidden");
          if (word) word.textContent = list.dataset[state];
        });
      }
      if (phase !== null && phase !== number) say(fill(words, name));
      phase = number;
    }

    function put(name, text) {
      const element = part(name);
      if (element && element.textContent !== text) element.textContent = text;
    }

    function entitle(share) {
      const heading = card().dataset.title ?? title;
      if (own) entitleTab(share ? `${share} – ${heading}` : heading);
    }

    function say(text) {
      if (text) live.textContent = text;
    }

    function keepFocus(change) {
      const focused = root.contains(document.activeElement);
      change();
      if (focused && !root.contains(document.activeElement)) root.querySelector("h1")?.focus();
    }

    function takeManual() {
      manual = part("manual");
      manual?.classList.remove("lt-late");
      manual?.replaceWith(gap);
    }

    // While there is no news, the page says so, and what works without the script is there again.
    function warn(reason) {
      const notice = part("offline");
      if (notice) notice.hidden = reason !== LATER;
      const [old, now] = reason && navigator.onLine !== false ? [gap, manual] : [manual, gap];
      if (manual && old.isConnected) keepFocus(() => old.replaceWith(now));
    }

    // Fetches a fresh CSRF token before one of the task's forms is sent: it may have expired while the page was open.
    async function submit(event) {
      const form = event.target;
      const action = form.getAttribute("action");
      const tokens = form.querySelectorAll("input[type=hidden][name]");
      if (event.defaultPrevented || !action?.includes(id) || form.method !== "post" || !tokens.length) return;
      event.preventDefault();
      if (sending) return;
      sending = true;
      try {
        const next = await askPage(TOKEN_SECONDS);
        const twin = [...next.forms].find((each) => each.getAttribute("action") === action) ?? next;
        for (const token of tokens) {
          token.value = twin.querySelector(`input[name="${CSS.escape(token.name)}"]`)?.value ?? token.value;
        }
      } catch (error) {
        if (error.message === OPEN && open(page)) return;
      } finally {
        sending = false;
      }
      const forms = [form, ...root.querySelectorAll("form")]; // a poll may have replaced the form by its like
      forms.find((each) => each.isConnected && each.getAttribute("action") === action)?.submit();
    }

    // A hidden tab polls once a minute: for half an hour, or until the end if the visitor has asked to be called.
    function rests() {
      return document.hidden && !called && Date.now() - hiddenAt > 1000 * HIDDEN_SECONDS;
    }
    function turned() {
      if (document.hidden) lookIn();
      else look();
    }

    // A reload keeps the wish, also that of a browser which has discarded the hidden tab.
    function recall() {
      try {
        return sessionStorage.getItem(`longtask ${id}`) !== null;
      } catch {
        return false;
      }
    }
    function remember() {
      try {
        if (called) sessionStorage.setItem(`longtask ${id}`, "called");
        else sessionStorage.removeItem(`longtask ${id}`);
      } catch {
        // without storage, it lasts as long as the page
      }
    }

    function offer(seconds) {
      const button = part("call");
      if (!button || !callable || !(called || !button.hidden || seconds > LONG_SECONDS)) return;
      button.hidden = false;
      showCall();
    }
    // Returns the element that says what will happen.
    function showCall() {
      part("call")?.setAttribute("aria-pressed", called);
      const how = allowed() ? "notified" : "titled";
      const visible = { leave: !called, notified: called && how === "notified", titled: called && how === "titled" };
      for (const [each, seen] of Object.entries(visible)) {
        const element = part(each);
        if (element) element.hidden = !seen;
      }
      return called ? part(how) : null;
    }
    async function press(event) {
      if (!event.target.closest('[data-lt="call"]')) return;
      event.preventDefault();
      called = !called;
      remember();
      if (called) await Promise.resolve(Notification.requestPermission()).catch(console.error);
      say(showCall()?.textContent);
    }

    function tell(succeeded) {
      if (told) return;
      told = true;
      const text = `${succeeded ? "✓" : "✗"} ${name}`;
      mark(text);
      if (called && callable && allowed()) {
        notify(text, { tag: id, lang: card().closest("[lang]")?.lang ?? "", body: card().dataset.announce ?? "" });
      }
      called = false;
      remember();
    }

    takeManual();
    root.addEventListener("submit", submit);
    root.addEventListener("click", press);
    document.addEventListener("visibilitychange", turned);
    addEventListener("online", () => document.hidden || look());
    addEventListener("pageshow", (event) => {
      if (!event.persisted) return;
      told = false;
      over = false; // after going back, for instance from the result, or from another try
      look();
    });
    if (poll) lookIn(poll);
    else look();
  }

  function start() {
    document.addEventListener("visibilitychange", turn);
    for (const root of document.querySelectorAll("[data-longtask]")) {
      try {
        watch(root);
      } catch (error) {
        console.error(error); // what works without the script stays
      }
    }
  }
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
