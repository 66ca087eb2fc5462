// Tells a person who asked for it, outside the page, what went wrong and what works again. What there
// is to tell is in the region "tally" (tiles/tally.py); each thing is told once, by one of the open
// pages. Asked for by a switch <input type="checkbox" data-notify>, with words beside it:
// <p data-notify-said data-on="…" data-off="…" data-denied="…" data-impossible="…">.

const WANTED = 'daemon.notify'; // "on" where a person asked for it
const TOLD = 'daemon.told'; // the names of what was told, the latest last
const MOST = 300;
const AT_ONCE = 3;

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
  if (on && state() !== 'denied') await claim(); // what is there already has been seen
  write(WANTED, on && possible() && Notification.permission === 'granted' ? 'on' : null);
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
// Return the elements of what nobody has told yet, and note them as told: whoever notes, tells.
function claim() {
  const there = [...(region()?.children ?? [])];
  const take = () => {
    let told = [];
    try { told = JSON.parse(read(TOLD) ?? '[]'); } catch { /* begin anew */ }
    if (!Array.isArray(told)) told = [];
    const fresh = there.filter((each) => !told.includes(each.id));
    if (fresh.length) write(TOLD, JSON.stringify([...told, ...fresh.map((each) => each.id)].slice(-MOST)));
    return fresh;
  };
  return navigator.locks ? navigator.locks.request(TOLD, take) : Promise.resolve(take());
}

async function look() {
  if (state() !== 'on' || !region()?.children.length) return;
  const fresh = await claim();
  if (fresh.length > AT_ONCE) {
    const title = region()?.dataset.many.replace('{n}', fresh.length) ?? '';
    tell(title, fresh.map((each) => each.title).join('\n'), fresh[0].id, '/daemon/');
  } else for (const each of fresh) tell(each.title, each.dataset.text, each.id, each.href);
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
addEventListener('storage', (event) => { if (event.key === WANTED) show(); });
document.addEventListener('daemon:shown', (event) => { if (event.target === region()) look(); });
show();
// What stands in a page that somebody opens is seen; one that opens behind others is not.
if (state() === 'on') {
  if (document.visibilityState === 'visible') claim();
  else look();
}
