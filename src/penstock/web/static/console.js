// What makes the console quicker than its pages alone: keys, and rows that come by themselves. Every page works without it.
"use strict";
const body = document.body;
const keys = JSON.parse(body.dataset.keys || "{}");
const seconds = Number(body.dataset.liveSeconds) || 0;
const find = (selector) => document.querySelector(selector);
const go = (where) => { const link = find(`[data-go="${where}"]`); if (link) link.click(); };

// --- rows: one of them is chosen ------------------------------------------------------------------------------------
const rows = () => [...document.querySelectorAll("[data-row]")];
function choose(step) {
  const all = rows();
  if (!all.length) return;
  const now = all.findIndex((row) => row.classList.contains("on"));
  const next = all[now < 0 ? (step > 0 ? 0 : all.length - 1) : Math.min(all.length - 1, Math.max(0, now + step))];
  if (now >= 0) all[now].classList.remove("on");
  next.classList.add("on");
  const link = next.querySelector("a");
  if (link) link.focus({ preventScroll: true });
  next.scrollIntoView({ block: "nearest" });
}

// --- what is new: it waits above the list until somebody wants it, so that nothing moves under the eyes ---------------
const fresh = find("#fresh");
const waiting = { rows: [], more: false };
function say() {
  const button = fresh.querySelector("button");
  const count = waiting.rows.length;
  button.hidden = !count;
  button.textContent = waiting.more ? `more than ${count} new: load them` : `${count} new`;
}
async function look() {
  if (waiting.more) return;  // they come as a page: nothing is collected any more
  const url = new URL(fresh.dataset.new, location.href);
  url.searchParams.set("after", fresh.dataset.newest);
  const reply = await fetch(url, { credentials: "same-origin" });
  if (reply.status === 401) return location.reload();
  if (!reply.ok) return;
  const found = new DOMParser().parseFromString(await reply.text(), "text/html").querySelector("tbody");
  if (!found) return;
  const has = new Set([...rows(), ...waiting.rows].map((row) => row.dataset.id));
  fresh.dataset.newest = found.dataset.newest;
  waiting.more = "more" in found.dataset || waiting.rows.length > 1000;
  waiting.rows = [...[...found.rows].filter((row) => !has.has(row.dataset.id)), ...waiting.rows];
  say();
}
function show() {
  if (!fresh || !waiting.rows.length) return;
  if (waiting.more) return location.reload();
  for (const row of waiting.rows) row.classList.add("new");
  find("#rows").prepend(...waiting.rows);
  find("table.rows").classList.remove("none");
  const empty = find("p.empty");
  if (empty) empty.remove();
  waiting.rows = [];
  say();
  scrollTo({ top: 0 });
}

// --- pages that are made anew as a whole ------------------------------------------------------------------------------
const live = find("[data-live]");
async function again() {
  const reply = await fetch(location.href, { credentials: "same-origin" });
  if (reply.redirected || (!live && reply.ok)) return location.reload();
  const page = new DOMParser().parseFromString(await reply.text(), "text/html");
  const made = page.querySelector("[data-live]");
  if (!made || !live) return;
  if (live.contains(document.activeElement) || live.matches(":has(tr.on)") || String(getSelection())) return;
  live.replaceChildren(...made.childNodes);
}
async function turn() {
  if (!document.hidden) {
    try {
      if (fresh) await look();
      else if ("again" in body.dataset) await again();
    } catch (error) {
      // The gateway is away: the next turn asks again.
    }
  }
  setTimeout(turn, seconds * 1000);
}
if (seconds && (fresh || "again" in body.dataset)) setTimeout(turn, seconds * 1000);

// --- keys --------------------------------------------------------------------------------------------------------------
const sheet = find("#keys");
const acts = {
  next: () => choose(1),
  previous: () => choose(-1),
  open: () => { const link = find("[data-row].on a"); if (link) link.click(); },
  search: () => { const field = find("[data-search]"); if (field) { field.focus(); field.select(); } else go("events"); },
  show,
  older: () => go("older"),
  newest: () => go("newest"),
  up: () => go("up"),
  overview: () => go("overview"),
  events: () => go("events"),
  letters: () => go("letters"),
  help: () => { if (sheet.open) sheet.close(); else sheet.showModal(); },
  leave: () => { if (document.activeElement) document.activeElement.blur(); for (const row of rows()) row.classList.remove("on"); },
};
const types = (at) => at.isContentEditable || /^(INPUT|SELECT|TEXTAREA)$/.test(at.tagName);
const takesEnter = (at) => /^(A|BUTTON|SUMMARY)$/.test(at.tagName);
document.addEventListener("keydown", (event) => {
  const act = Object.hasOwn(keys, event.key) ? keys[event.key] : "";
  if (!act || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (act === "leave" ? sheet.open : types(event.target)) return;
  if (act === "open" && takesEnter(event.target)) return;
  if (sheet.open && act !== "help") return;
  event.preventDefault();
  acts[act]();
});
for (const button of document.querySelectorAll("[data-act]")) {
  button.addEventListener("click", () => acts[button.dataset.act]());
  if (button.dataset.act === "help") button.hidden = false;
}
