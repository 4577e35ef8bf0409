// Keeps a page current while somebody looks at it: asks again, which costs a 304 as long as nothing has changed,
// and puts the parts that are marked in the place of those that are shown. Times are told as people count them.

const EVERY_MS = 5_000;
const EVERY_MS_MAX = 60_000;
const lost = document.getElementById("lost");
let seen = null;
let timer = 0;
let wait = EVERY_MS;

const relative = new Intl.RelativeTimeFormat("en", { numeric: "always", style: "short" });
const UNITS = [["day", 86_400], ["hour", 3_600], ["minute", 60], ["second", 1]];

function tellTimes() {
  for (const time of document.querySelectorAll("time")) {
    const at = new Date(time.dateTime);
    const seconds = Math.round((at - Date.now()) / 1000);
    const [unit, size] = UNITS.find(([, size]) => Math.abs(seconds) >= size) ?? UNITS[3];
    const text = relative.format(Math.trunc(seconds / size), unit);
    if (time.textContent !== text) time.textContent = text;
    time.title = at.toLocaleString();
  }
}

function isSelecting() {
  const selection = document.getSelection();
  return selection !== null && !selection.isCollapsed;
}

function replace(page) {
  for (const old of document.querySelectorAll("[data-live]")) {
    const now = page.getElementById(old.id);
    if (now === null) continue;
    const focused = old.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    const picture = old.querySelector(".picture");
    const scrolled = picture === null ? null : [picture.scrollLeft, picture.scrollTop];
    const open = [...old.querySelectorAll("details[open]")].map((one) => one.id);
    old.replaceWith(now);
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    if (scrolled !== null) now.querySelector(".picture")?.scrollTo(...scrolled);
    if (focused !== null) now.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  }
  document.title = page.title;
}

async function look() {
  const answer = await fetch(location.href, { cache: "no-cache" });
  const version = answer.headers.get("ETag");
  if (answer.ok && (version === seen || isSelecting())) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (!answer.ok) throw new Error(page.getElementById("problem")?.textContent ?? `HTTP ${answer.status}`);
  if (document.getElementById("problem") !== null) location.reload();
  else replace(page);
  seen = version;
}

async function turn() {
  try {
    await look();
    wait = EVERY_MS;
    lost.hidden = true;
  } catch (error) {
    wait = Math.min(wait * 2, EVERY_MS_MAX);
    const why = error instanceof TypeError ? "the service cannot be reached." : error.message;
    lost.textContent = `This page is not current: ${why}`;
    lost.hidden = false;
  }
  tellTimes();
  plan(wait);
}

function plan(delay) {
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(turn, delay);
}

document.addEventListener("visibilitychange", () => plan(0));
tellTimes();
plan(EVERY_MS);
