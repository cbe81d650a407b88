// <hr-tabs>: a list of buttons (role=tab, aria-controls) and their panels. A panel with `data-src` is read when it is
// opened the first time. The arrows move between tabs; the chosen one is remembered by `data-remember`.
class Tabs extends HTMLElement {
  connectedCallback() {
    this.list = this.querySelector('[role="tablist"]');
    if (!this.list || this.list.dataset.ready) return;
    this.list.dataset.ready = "yes";
    this.list.addEventListener("click", (event) => {
      const tab = event.target.closest('[role="tab"]');
      if (tab) this.choose(tab);
    });
    this.list.addEventListener("keydown", (event) => this.move(event));
    let kept = null;
    try {
      kept = this.dataset.remember && sessionStorage.getItem(`headrace-tab-${this.dataset.remember}`);
    } catch {
      kept = null;
    }
    const tabs = this.tabs();
    const chosen = tabs.find((tab) => tab.textContent.trim() === kept) ?? tabs.find((tab) => tab.getAttribute("aria-selected") === "true") ?? tabs[0];
    if (chosen) this.choose(chosen, false);
  }

  tabs() {
    return [...this.list.querySelectorAll('[role="tab"]')];
  }

  choose(tab, isByHand = true) {
    for (const each of this.tabs()) {
      const isChosen = each === tab;
      each.setAttribute("aria-selected", isChosen);
      each.tabIndex = isChosen ? 0 : -1;
      const panel = this.querySelector(`#${CSS.escape(each.getAttribute("aria-controls"))}`);
      if (!panel) continue;
      panel.hidden = !isChosen;
      if (isChosen && panel.dataset.src && !panel.dataset.loaded) this.read(panel);
    }
    if (!isByHand || !this.dataset.remember) return;
    try {
      sessionStorage.setItem(`headrace-tab-${this.dataset.remember}`, tab.textContent.trim());
    } catch {
      // It is chosen on this page only.
    }
  }

  async read(panel) {
    panel.dataset.loaded = "yes";
    const answer = await fetch(panel.dataset.src, { credentials: "same-origin" }).catch(() => null);
    if (answer?.redirected) location.reload();
    if (answer?.ok) {
      panel.innerHTML = await answer.text();
      window.htmx?.process(panel);
      if ("fresh" in panel.dataset) delete panel.dataset.loaded; // what it shows goes on: it is read each time
      return;
    }
    delete panel.dataset.loaded;
    panel.textContent = `This could not be read (${answer?.status ?? "no answer"}). Choose the tab again to try again.`;
  }

  move(event) {
    const tabs = this.tabs();
    const at = tabs.indexOf(document.activeElement);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    const next = tabs[(to + tabs.length) % tabs.length];
    next.focus();
    this.choose(next);
  }
}

customElements.define("hr-tabs", Tabs);
