// Shows the progress of an upload; see docs/upload.md.
//
// A form with data-longtask-upload is sent by the script, which then opens the waiting page. The form shows why it was
// refused. Without the script, or if the form is not an upload, the browser sends it as usual.
"use strict";

(() => {
  const LIMIT_BYTES = 32 * 1024 * 1024; // of a request to App Engine
  const PART_BYTES = 200; // roughly what a field adds to its name and value
  const MILESTONES = [75, 50, 25]; // in per cent; these are announced

  // For forms without the attributes data-longtask-uploading and so on.
  const ENGLISH = {
    uploading: "Uploading: {}",
    uploaded: "Uploaded. The work is about to start.",
    cancel: "Cancel the upload",
    cancelled: "The upload was cancelled. Nothing has started.",
    "too-large": "This upload is larger than {}, the most that we accept. Nothing was sent.",
    failed: "The server did not accept the upload. Check your connection, or reload the page, and try again.",
  };

  const panels = new WeakMap(); // by form

  // A form's own methods may be hidden behind a field of the same name.
  const { append, closest, getAttribute, matches, removeAttribute, setAttribute } = Element.prototype;
  const attribute = (form, name) => getAttribute.call(form, `data-longtask-${name}`);

  function format(value, lang, options) {
    try {
      return new Intl.NumberFormat(lang, options).format(value);
    } catch {
      return new Intl.NumberFormat("en", options).format(value); // for instance lang="de_DE"
    }
  }

  function amount(bytes, lang) {
    const [size, unit] = bytes < 1024 * 1024 ? [bytes / 1024, "kB"] : [bytes / 1024 / 1024, "MB"];
    return `${format(size, lang, { maximumFractionDigits: size < 10 ? 1 : 0 })} ${unit}`;
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
      this.limit = Number(attribute(form, "limit")) || LIMIT_BYTES;
      this.lang = attribute(form, "lang") || closest.call(form, "[lang]")?.lang || "en";
      this.box = document.createElement("div");
      this.box.lang = this.lang;
      this.box.dir = "auto";
      this.box.className = "lt-upload";
      this.text = document.createElement("p");
      this.bar = document.createElement("progress");
      this.bar.max = 100;
      this.cancel = document.createElement("button");
      this.cancel.type = "button";
      this.cancel.textContent = this.word("cancel");
      this.live = document.createElement("p"); // for screen readers; set here since the page may not have our stylesheet
      this.live.setAttribute("role", "status");
      const unseen = { position: "absolute", width: "1px", height: "1px", overflow: "hidden", clipPath: "inset(50%)" };
      Object.assign(this.live.style, unseen, { whiteSpace: "nowrap" });
      this.box.append(this.text, this.live);
      this.request = null; // while the form is being sent
    }

    word(name, value = "") {
      return (attribute(this.form, name) ?? ENGLISH[name]).replace("{}", () => value);
    }

    tooLarge() {
      return this.word("too-large", amount(this.limit, this.lang));
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
      setAttribute.call(this.form, "aria-busy", "true");
      this.text.after(this.bar, this.cancel);
      this.cancel.onclick = () => request.abort();
      this.progress(0);
      this.live.textContent = this.text.textContent;
    }

    progress(share) {
      const text = this.word("uploading", format(share, this.lang, { style: "percent" }));
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
      this.say(this.word("uploaded"));
    }

    end(text) {
      this.request = null;
      removeAttribute.call(this.form, "aria-busy");
      this.bar.remove();
      this.cancel.remove();
      this.say(text);
    }
  }

  function panelOf(form) {
    if (!panels.has(form)) panels.set(form, new Panel(form));
    const panel = panels.get(form);
    if (!panel.box.isConnected) append.call(form, panel.box);
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
    return status === 413 ? panel.tooLarge() : panel.word("failed");
  }

  function send(form, submitter, url) {
    const panel = panelOf(form);
    if (panel.request) return;
    const data = new FormData(form);
    if (submitter?.name) data.append(submitter.name, submitter.value);
    if (bytesOf(data) > panel.limit) {
      panel.say(panel.tooLarge());
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
    request.onerror = () => panel.end(panel.word("failed"));
    request.onabort = () => {
      const focused = document.activeElement === panel.cancel;
      panel.end(panel.word("cancelled"));
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
    if (event.defaultPrevented || !matches.call(form, "[data-longtask-upload]")) return;
    const given = (name) => submitter?.getAttribute(`form${name}`) ?? getAttribute.call(form, name) ?? "";
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
