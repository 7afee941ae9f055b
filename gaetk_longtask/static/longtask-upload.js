// Shows the progress of an upload; see docs/upload.md.
//
// A form with data-longtask-upload is sent by the script, which then opens the waiting page. The form shows why it was
// refused. Without the script, or if the form is not an upload, the browser sends it as usual.
"use strict";

(() => {
  const LIMIT_BYTES = 32 * 1024 * 1024; // of a request to App Engine
  const PART_BYTES = 200; // roughly what a field adds to its name and value
  const MILESTONES = [75, 50, 25]; // in per cent; these are announced

  // For forms without data-longtask-uploading and so on.
  const ENGLISH = {
    longtaskUploading: "Uploading: {}",
    longtaskUploaded: "Uploaded. The work is about to start.",
    longtaskCancel: "Cancel the upload",
    longtaskCancelled: "The upload was cancelled. Nothing has started.",
    longtaskTooLarge: "This upload is larger than {}, the most that we accept. Nothing was sent.",
    longtaskFailed: "The server did not accept the upload. Check your connection, or reload the page, and try again.",
  };

  const panels = new WeakMap(); // by form

  function format(value, lang, options) {
    try {
      return new Intl.NumberFormat(lang, options).format(value);
    } catch {
      return new Intl.NumberFormat("en", options).format(value); // for instance lang="de_DE"
    }
  }

  function megabytes(bytes, lang) {
    const digits = { maximumFractionDigits: bytes < 10 * 1024 * 1024 ? 1 : 0 };
    return `${format(bytes / 1024 / 1024, lang, digits)} MB`;
  }

  function bytesOf(data) {
    let bytes = 0;
    for (const [name, value] of data) {
      bytes += PART_BYTES + new Blob([name]).size + (value.size ?? new Blob([value]).size);
    }
    return bytes;
  }

  // The part of the form that shows the upload.
  class Panel {
    constructor(form) {
      this.form = form;
      this.lang = form.dataset.longtaskLang || form.closest("[lang]")?.lang || "en";
      this.box = document.createElement("div");
      this.box.lang = this.lang;
      this.box.dir = "auto";
      this.box.className = "lt-upload";
      this.text = document.createElement("p");
      this.bar = document.createElement("progress");
      this.bar.max = 100;
      this.cancel = document.createElement("button");
      this.cancel.type = "button";
      this.cancel.textContent = this.word("longtaskCancel");
      this.live = document.createElement("p"); // for screen readers; set here since the page may not have our stylesheet
      this.live.setAttribute("role", "status");
      const unseen = { position: "absolute", width: "1px", height: "1px", overflow: "hidden", clipPath: "inset(50%)" };
      Object.assign(this.live.style, unseen, { whiteSpace: "nowrap" });
      this.box.append(this.text, this.live);
      this.request = null; // while the form is being sent
    }

    word(name, value = "") {
      return (this.form.dataset[name] ?? ENGLISH[name]).replace("{}", () => value);
    }

    show(text) {
      this.text.textContent = text;
    }

    say(text) {
      this.show(text);
      this.live.textContent = text;
    }

    begin(request) {
      this.request = request;
      this.milestone = 0;
      this.form.setAttribute("aria-busy", "true");
      this.text.after(this.bar, this.cancel);
      this.cancel.onclick = () => request.abort();
      this.progress(0);
      this.live.textContent = this.text.textContent;
    }

    progress(share) {
      const text = this.word("longtaskUploading", format(share, this.lang, { style: "percent" }));
      this.bar.value = 100 * share;
      this.bar.setAttribute("aria-label", text);
      const milestone = MILESTONES.find((each) => 100 * share >= each) ?? 0;
      if (milestone > this.milestone) this.say(text);
      else this.show(text);
      this.milestone = milestone;
    }

    sent() {
      this.progress(1);
      this.cancel.remove(); // the work may have started
      this.say(this.word("longtaskUploaded"));
    }

    end(text) {
      this.request = null;
      this.form.removeAttribute("aria-busy");
      this.bar.remove();
      this.cancel.remove();
      this.say(text);
    }
  }

  function panelOf(form) {
    if (!panels.has(form)) panels.set(form, new Panel(form));
    const panel = panels.get(form);
    if (!panel.box.isConnected) form.append(panel.box);
    return panel;
  }

  // Returns why the server did not start anything.
  function reason(request, panel) {
    const { status, responseText: text } = request;
    const type = request.getResponseHeader("Content-Type") ?? "";
    let said;
    if (type.includes("json")) {
      try {
        const problem = JSON.parse(text);
        said = problem.detail ?? problem.title;
      } catch {
        // half an answer
      }
    } else if (type.includes("html") && status >= 400 && status < 500) {
      const page = new DOMParser().parseFromString(text, "text/html");
      said = (page.querySelector("main p") ?? page.querySelector("p"))?.textContent.trim();
    }
    if (typeof said === "string" && said) return said;
    return status === 413 ? panel.word("longtaskTooLarge", megabytes(limitOf(panel.form), panel.lang)) : panel.word("longtaskFailed");
  }

  function limitOf(form) {
    return Number(form.dataset.longtaskLimit) || LIMIT_BYTES;
  }

  function send(form, submitter, url) {
    const panel = panelOf(form);
    if (panel.request) return;
    const data = new FormData(form);
    if (submitter?.name) data.append(submitter.name, submitter.value);
    const limit = limitOf(form);
    if (bytesOf(data) > limit) {
      panel.say(panel.word("longtaskTooLarge", megabytes(limit, panel.lang)));
      return;
    }

    const request = new XMLHttpRequest();
    request.upload.onprogress = (event) => event.lengthComputable && panel.progress(event.loaded / event.total);
    request.upload.onload = () => panel.sent();
    request.onload = () => {
      const page = request.status === 202 ? request.getResponseHeader("Location") : null;
      const redirected = request.responseURL !== url.href; // for instance to the login
      if (page !== null) location.assign(new URL(page, request.responseURL));
      else if (redirected && request.status < 400) location.assign(request.responseURL);
      else panel.end(reason(request, panel));
    };
    request.onerror = () => panel.end(panel.word("longtaskFailed"));
    request.onabort = () => {
      const focused = document.activeElement === panel.cancel;
      panel.end(panel.word("longtaskCancelled"));
      if (focused) submitter?.focus();
    };
    request.open("POST", url.href);
    request.setRequestHeader("Accept", "application/json");
    // With this header, Identity-Aware Proxy answers 401 instead of redirecting to another site.
    request.setRequestHeader("X-Requested-With", "XMLHttpRequest");
    panel.begin(request);
    request.send(data);
  }

  document.addEventListener("submit", (event) => {
    const { target: form, submitter } = event;
    if (event.defaultPrevented || !form.matches("[data-longtask-upload]")) return;
    const given = (name) => submitter?.getAttribute(`form${name}`) ?? form.getAttribute(name) ?? "";
    const url = new URL(given("action") || location.href, document.baseURI);
    url.hash = "";
    const uploads = given("method").toLowerCase() === "post" && given("enctype").toLowerCase() === "multipart/form-data";
    if (!uploads || given("target") || url.origin !== location.origin) return;
    event.preventDefault();
    send(form, submitter, url);
  });

  addEventListener("pageshow", (event) => {
    if (!event.persisted) return;
    for (const form of document.querySelectorAll("[data-longtask-upload]")) panels.get(form)?.end(""); // back from the task
  });
})();
