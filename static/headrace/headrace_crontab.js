// In the admin's form of a periodic task: say in words what the chosen crontab means.
const readableCrontabs = JSON.parse(document.getElementById("readable-crontabs").textContent);
const crontabHelp = document.querySelector(".field-crontab .help");
const crontabHelpText = crontabHelp?.textContent ?? "";
document.querySelector(".field-crontab_translation")?.setAttribute("hidden", "");
document.getElementById("id_crontab")?.addEventListener("change", (event) => {
  if (crontabHelp) crontabHelp.textContent = `${crontabHelpText} Translation: ${readableCrontabs[event.target.value] ?? ""}`;
});
