"use strict";
// A click on a bar, or on a link to a step, shows what is known of the step below the timeline.
const panel = document.getElementById("selected");
const select = (id) => {
  const entry = document.getElementById(id);
  if (!entry || entry.tagName !== "DETAILS") return false;
  for (const bar of document.querySelectorAll(".bar[aria-current]")) bar.removeAttribute("aria-current");
  for (const bar of document.querySelectorAll(`.bar[href="#${id}"]`)) bar.setAttribute("aria-current", "true");
  const title = document.createElement("h3");
  title.textContent = entry.querySelector(".name").textContent;
  panel.replaceChildren(title, entry.querySelector("dl").cloneNode(true));
  panel.hidden = false;
  return true;
};
document.addEventListener("click", (event) => {
  const link = event.target.closest('a[href^="#step-"]');
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  if (select(link.getAttribute("href").slice(1))) {
    event.preventDefault();
    panel.scrollIntoView({ block: "nearest" });
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  panel.hidden = true;
  for (const bar of document.querySelectorAll(".bar[aria-current]")) bar.removeAttribute("aria-current");
});
select(location.hash.slice(1));
