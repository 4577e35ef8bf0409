// Runs the script of the dashboard in a browser of a few lines, whose time passes as it is told, and prints for how long
// it waited before each look, and what it says. Arguments: the script, and steps: wait, hide, show, lose, find.
const [script, ...steps] = process.argv.slice(2);
const waited = [];
const lost = { hidden: true, textContent: "" };
let timer = null;
let isLost = false;
let changed = () => {};

globalThis.document = {
  hidden: false,
  title: "",
  getElementById: (id) => (id === "lost" ? lost : null),
  querySelectorAll: () => [],
  getSelection: () => null,
  addEventListener: (_, listener) => { changed = listener; },
};
globalThis.location = { href: "http://imagechain.example.com/" };
globalThis.DOMParser = class {
  parseFromString() { return { title: "", getElementById: () => null }; }
};
globalThis.fetch = async () => {
  if (isLost) throw new TypeError("Failed to fetch");
  return { ok: true, headers: new Headers({ ETag: "1" }), text: async () => "" };
};
globalThis.setTimeout = (run, delay) => { timer = { run, delay }; return 1; };
globalThis.clearTimeout = () => { timer = null; };

await import(script);
for (const step of steps) {
  if (step === "wait") {
    const due = timer;
    timer = null;
    waited.push(due?.delay ?? null);
    await due?.run();
  } else if (step === "hide" || step === "show") {
    document.hidden = step === "hide";
    changed();
  } else {
    isLost = step === "lose";
  }
}
process.stdout.write(JSON.stringify({ waited, lost: lost.hidden ? "" : lost.textContent }));
