// Tells a person who asked for it, outside the page, what went wrong and what works again. What there
// is to tell is in the region "tally" (tiles/tally.py). Each thing is told once, by the one of the open
// pages that holds a lock: what one page stores, another may read a moment later only. Asked for by a
// switch <input type="checkbox" data-notify>, with words beside it where there is something to say:
// <p data-notify-said data-on="…" data-off="…" data-denied="…" data-impossible="…">.

const WANTED = 'daemon.notify'; // "on" where a person asked for it
const TOLD = 'daemon.told'; // the names of what was told, the latest last
const MOST = 300;
const AT_ONCE = 3;

let leading = false;
let release = null; // ends that we lead, or wait for it
const told = new Set();

const region = () => document.querySelector('[data-region="tally"]');
const possible = () => 'Notification' in window && window.isSecureContext;

// Return "on", "off", "denied" (by the browser, for us) or "impossible".
export function state() {
  if (!possible()) return 'impossible';
  if (Notification.permission === 'denied') return 'denied';
  return read(WANTED) === 'on' && Notification.permission === 'granted' ? 'on' : 'off';
}

// Begin or end telling; asks the browser's leave, so call it from a click alone. Returns the state.
export async function turn(on) {
  if (on && possible() && Notification.permission === 'default') await Notification.requestPermission();
  write(WANTED, on && possible() && Notification.permission === 'granted' ? 'on' : null);
  take(); // what is there already has been seen
  begin();
  return state();
}

function read(key) {
  try { return localStorage.getItem(key); } catch { return null; }
}

function write(key, value) {
  try {
    if (value === null) localStorage.removeItem(key);
    else localStorage.setItem(key, value);
  } catch { /* no storage: nothing can be asked for */ }
}

// ── What is new ─────────────────────────────────────────────────────────────────────────────────
// Return the elements of what nobody has told yet, and take them as told.
function take() {
  const fresh = [...(region()?.children ?? [])].filter((each) => !told.has(each.id));
  for (const each of fresh) told.add(each.id);
  return fresh;
}

function look() {
  if (state() !== 'on') return;
  const fresh = take();
  if (!leading || !fresh.length) return; // who leads tells it
  write(TOLD, JSON.stringify([...told].slice(-MOST)));
  if (fresh.length > AT_ONCE) {
    const title = region()?.dataset.many.replace('{n}', fresh.length) ?? '';
    tell(title, fresh.map((each) => each.title).join('\n'), fresh[0].id, '/daemon/');
  } else for (const each of fresh) tell(each.title, each.dataset.text, each.id, each.href);
}

// Wait until no other page leads, then do; end it when it is not wanted (any more).
function begin() {
  if (state() !== 'on') {
    release?.();
    return;
  }
  if (release) return;
  const over = new AbortController();
  const ended = new Promise((done) => {
    release = () => {
      over.abort();
      done();
      leading = false;
      release = null;
    };
  });
  const lead = () => {
    leading = true;
    try { for (const each of JSON.parse(read(TOLD) ?? '[]')) told.add(each); } catch { /* begin anew */ }
    look();
    return ended;
  };
  if (navigator.locks) navigator.locks.request(TOLD, { signal: over.signal }, lead).catch(() => {});
  else lead();
}

function tell(title, body, tag, address) {
  try {
    const note = new Notification(title, { body: body.slice(0, 300), tag, lang: document.documentElement.lang });
    note.onclick = () => {
      window.open(address); // not here: something may be half written in this page
      note.close();
    };
  } catch { /* a browser that tells from service workers only */ }
}

// ── The switch ──────────────────────────────────────────────────────────────────────────────────
function show() {
  const now = state();
  for (const field of document.querySelectorAll('[data-notify]')) {
    field.checked = now === 'on';
    field.disabled = now === 'denied' || now === 'impossible';
  }
  for (const place of document.querySelectorAll('[data-notify-said]')) {
    const text = place.dataset[now] ?? '';
    if (place.textContent !== text) place.textContent = text;
    place.hidden = !text;
  }
}

document.addEventListener('change', async (event) => {
  if (!event.target.matches?.('[data-notify]')) return;
  await turn(event.target.checked);
  show();
});
addEventListener('storage', (event) => {
  if (event.key !== WANTED) return;
  take();
  begin();
  show();
});
document.addEventListener('daemon:shown', (event) => { if (event.target === region()) look(); });
// A page kept for the back button leads nobody.
addEventListener('pagehide', () => release?.());
addEventListener('pageshow', (event) => { if (event.persisted) begin(); });
show();
// What stands in a page that somebody opens is seen; in one that opens behind others it is not.
if (document.visibilityState === 'visible') take();
begin();
