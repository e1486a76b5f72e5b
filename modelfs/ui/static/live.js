// Fetches the page again every two seconds while it is looked at, and puts the new parts in the place of the old ones.
// Without this file the pages are the same, and are reloaded by hand.
"use strict";
(() => {
  const here = new URL(location.href);
  if (here.searchParams.has("token")) {
    here.searchParams.delete("token"); // it is in the cookie now, and need not stay in the history
    history.replaceState(null, "", here);
  }
  const switchboard = document.getElementById("live");
  const parts = () => document.querySelectorAll("[data-live]");
  if (!switchboard || !parts().length) return;
  const box = switchboard.querySelector("input");
  const state = switchboard.querySelector("output");
  switchboard.hidden = false;
  box.checked = sessionStorage.getItem("live") !== "off";
  box.addEventListener("change", () => sessionStorage.setItem("live", box.checked ? "on" : "off"));

  // What was open stays open, and the focus stays where it was.
  const replace = (part, other) => {
    const open = Array.from(part.querySelectorAll("details"), (one) => one.open);
    const places = () => Array.from(part.querySelectorAll("a, summary, [tabindex]"));
    const focus = places().indexOf(document.activeElement);
    part.replaceChildren(...other.childNodes);
    part.querySelectorAll("details").forEach((one, i) => (one.open = Boolean(open[i])));
    if (focus >= 0) places()[focus]?.focus({ preventScroll: true });
  };

  const refresh = async () => {
    if (box.checked && !document.hidden) {
      try {
        const answer = await fetch(location.href, { signal: AbortSignal.timeout(15000) });
        const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
        for (const part of parts()) {
          const other = fresh.getElementById(part.id);
          if (other) replace(part, other);
        }
        state.textContent = answer.ok ? "" : `no answer (${answer.status}); load the page again`;
      } catch {
        state.textContent = "modelfs ui does not answer";
      }
    }
    setTimeout(refresh, 2000);
  };
  setTimeout(refresh, 2000);
})();
