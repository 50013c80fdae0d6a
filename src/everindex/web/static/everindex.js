// Keyboard shortcuts: "/" goes to the search field, "j" and "k" move through the results. Everything works without them.
"use strict";

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
  if (event.key === "/") {
    const field = document.getElementById("q");
    event.preventDefault();
    if (field) {
      field.focus();
      field.select();
    } else {
      location.assign("/");
    }
  } else if (event.key === "j" || event.key === "k") {
    const links = [...document.querySelectorAll(".hits .hit-head a")];
    const here = links.indexOf(document.activeElement);
    const next = links[here + (event.key === "j" ? 1 : -1)] ?? links[here];
    next?.focus();
  }
});
