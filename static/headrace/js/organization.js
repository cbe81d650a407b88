// The organization that this page shows. A session has one choice for all tabs: what a tab sends after a switch in
// another one names the organization that it was meant for, and is refused (409) instead of being done in the other.
const HEADER = "X-Headrace-Organization";
const organization = document.body.dataset.organization;

export const shown = organization ? { [HEADER]: organization } : {};

// Says it once where an answer was refused because the session has left for another organization. Returns whether it was.
export function hasSwitched(status, elsewhere) {
  if (status !== 409 || !elsewhere) return false;
  if (document.getElementById("switched")) return true;
  const message = document.createElement("div");
  message.id = "switched";
  message.className = "message warning";
  message.textContent = `This page shows ${organization}; your session is at ${elsewhere} now: reload it, or switch back.`;
  document.getElementById("messages")?.append(message);
  return true;
}

export function hasAnswerSwitched(answer) {
  return hasSwitched(answer.status, answer.headers.get(HEADER));
}

document.addEventListener("formdata", (event) => {
  const isPost = event.target.getAttribute("method")?.toLowerCase() === "post";
  if (organization && isPost) event.formData.set("org", organization);
});
document.addEventListener("htmx:configRequest", (event) => Object.assign(event.detail.headers, shown));
document.addEventListener("htmx:responseError", ({ detail }) => hasSwitched(detail.xhr.status, detail.xhr.getResponseHeader(HEADER)));
