"use strict";
// Renews the page in place every few seconds, and says so plainly when it cannot: a list that has
// stopped must never look like a list in which nothing happens.

const EVERY_MS = 5000;
const PATIENCE_MS = 4 * EVERY_MS;
let renewedAt = Date.now();

function selecting() {
  const selection = document.getSelection();
  return selection !== null && !selection.isCollapsed;
}

function take(page) {
  const fresh = page.getElementById("main");
  const main = document.getElementById("main");
  if (fresh === null || main === null) {
    throw new Error("not our page");
  }
  const focused = document.activeElement === null ? "" : document.activeElement.id;
  main.replaceWith(document.adoptNode(fresh));
  document.title = page.title;
  document.getElementById("renewed").replaceWith(document.adoptNode(page.getElementById("renewed")));
  const again = focused === "" ? null : document.getElementById(focused);
  if (again !== null) {
    again.focus({ preventScroll: true });
  }
}

async function renew() {
  if (document.hidden || selecting()) {
    return; // nobody looks, or somebody copies an accession number
  }
  const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(EVERY_MS) });
  if (!answer.ok) {
    throw new Error(String(answer.status));
  }
  take(new DOMParser().parseFromString(await answer.text(), "text/html"));
  renewedAt = Date.now();
}

function warn() {
  const stale = Date.now() - renewedAt > PATIENCE_MS;
  document.getElementById("stale").hidden = !stale;
  if (stale) {
    document.getElementById("stale-since").textContent = new Date(renewedAt).toLocaleTimeString();
  }
}

async function turn() {
  try {
    await renew();
  } catch {
    // The banner of warn() says it.
  }
  warn();
  setTimeout(turn, EVERY_MS);
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) {
    renew().catch(() => {}).finally(warn);
  }
});
setTimeout(turn, EVERY_MS);
