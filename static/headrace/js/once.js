// <hr-once>: something that is shown by the answer to a form, once. The page's place in the history becomes that of the
// list, so that a reload asks for the list and sends no form again; and nothing is left where a browser keeps pages that
// were left, to show them again.
class Once extends HTMLElement {
  connectedCallback() {
    history.replaceState(null, "", this.dataset.back);
    this.leave = () => this.remove();
    addEventListener("pagehide", this.leave);
  }

  disconnectedCallback() {
    removeEventListener("pagehide", this.leave);
  }
}

customElements.define("hr-once", Once);
