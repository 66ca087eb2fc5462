// Keys of one letter (ui: "?" lists them). Never taken from a field, nor while a dialog is open;
// switched off in the settings of this browser. What a key does, a button or link of the page does.
import { pressed } from './ui.js';

const KEY = 'daemon.keys';
const AGAIN = 1500; // ms within which the second key of "g …" must come
const html = document.documentElement;
const help = document.getElementById('keys');

// The letter of each page in German and in English; either works in both.
const PAGES = {
  '/daemon/': ['u', 'o'],
  '/daemon/jobs/': ['j', 'j'],
  '/daemon/runs/': ['l', 'r'],
  '/daemon/queue/': ['w', 'q'],
  '/daemon/calendar/': ['k', 'c'],
  '/daemon/system/': ['s', 's'],
  '/daemon/settings/': ['e', 'e'],
};
const german = html.lang.startsWith('de');

export const keysAreOn = () => {
  try { return localStorage.getItem(KEY) !== 'off'; } catch { return true; }
};

// ── Rows ────────────────────────────────────────────────────────────────────────────────────────
const ROWS = ['job-row-', 'run-row-', 'now-', 'next-', 'line-'].map((start) => `#content [id^="${start}"]`).join(', ');
const linkOf = (row) => row.querySelector('a.name, a[href^="/daemon/jobs/"], a[href^="/daemon/runs/"]');
const rows = () => [...document.querySelectorAll(ROWS)].filter((row) => linkOf(row)?.checkVisibility());
const rowInUse = () => document.activeElement?.closest?.(ROWS) ?? null;

function step(by) {
  const all = rows();
  if (!all.length) return false;
  const here = rowInUse();
  const head = document.querySelector('.topbar')?.getBoundingClientRect().bottom ?? 0;
  let next;
  if (here) next = all[Math.max(0, Math.min(all.length - 1, all.indexOf(here) + by))];
  else next = all.find((row) => row.getBoundingClientRect().top >= head) ?? all[0];
  linkOf(next).focus({ preventScroll: true });
  next.scrollIntoView({ block: 'nearest' });
  return true;
}

// ── Marked jobs ─────────────────────────────────────────────────────────────────────────────────
// Kept here, by id: rows are morphed, come and go.
const marks = new Set();
const bar = document.getElementById('marked');

function showMarks() {
  for (const row of document.querySelectorAll('#content [id^="job-row-"]')) {
    const yes = marks.has(row.id);
    if (yes !== row.classList.contains('is-marked')) row.classList.toggle('is-marked', yes);
  }
  if (bar.hidden === marks.size > 0) bar.hidden = !marks.size;
  const words = bar.firstElementChild;
  const text = marks.size === 1 ? words.dataset.one : words.dataset.many.replace('{n}', marks.size);
  if (marks.size && words.textContent !== text) words.textContent = text;
}

if (bar) {
  bar.querySelector('[data-unmark]').addEventListener('click', unmark);
  new MutationObserver(() => { if (marks.size) showMarks(); })
    .observe(document.getElementById('content'), { subtree: true, childList: true, attributes: true, attributeFilter: ['class'] });
}

// ── What a key does ─────────────────────────────────────────────────────────────────────────────
// Addresses of what can be done with a job or run are those below its own.
const addressOf = (row) => new URL(linkOf(row).href).pathname;
const isJob = (address) => /^\/daemon\/jobs\/\d+\/$/.test(address);
const mayEdit = () => document.querySelector('.topbar a.button.primary') !== null;
const canOperate = () => html.querySelector('[data-may-operate]') !== null;

function subjects() {
  if (marks.size) return [...marks].map((id) => document.getElementById(id)).filter(Boolean);
  const row = rowInUse();
  return row ? [row] : [];
}

// Press what the row itself offers (it shows that it works); else do what its address offers.
function press(row, own, address) {
  const button = [...row.querySelectorAll(own)].find((each) => each.getAttribute('aria-disabled') !== 'true');
  if (button) button.click();
  else if (address && canOperate()) pressed(address);
}

const HEAD = '#content .head .actions';
const inHead = (selector) => document.querySelector(`${HEAD} ${selector}`);

function unmark() {
  marks.clear();
  showMarks();
}

function start() {
  const chosen = subjects();
  for (const row of chosen) {
    const address = addressOf(row);
    if (isJob(address)) press(row, 'button[formaction$="/start/"]', row.querySelector('button[formaction$="/cancel/"]') ? '' : `${address}start/`);
    else press(row, 'button[formaction$="/again/"]', row.matches('[id^="run-row-"]') ? `${address}again/` : '');
  }
  if (!chosen.length) (inHead('button[formaction$="/start/"]') ?? inHead('button[formaction$="/again/"]'))?.click();
  unmark();
}

function pause() {
  const chosen = subjects();
  for (const row of chosen) {
    const address = addressOf(row);
    if (isJob(address)) press(row, 'button[formaction$="/toggle/"]', `${address}toggle/`);
  }
  if (!chosen.length) inHead('button[formaction$="/toggle/"]')?.click();
  unmark();
}

function edit() {
  const row = rowInUse();
  const link = row ? row.querySelector('a[href$="/edit/"]') : inHead('a[href$="/edit/"]');
  if (link) link.click();
  else if (row && isJob(addressOf(row)) && mayEdit()) location.assign(`${addressOf(row)}edit/`);
}

function mark() {
  const row = rowInUse();
  if (!row?.id.startsWith('job-row-') || !canOperate()) return false;
  if (!marks.delete(row.id)) marks.add(row.id);
  showMarks();
  return true;
}

function filter() {
  const places = ['#log', '#content', '.topbar']; // the nearest to what one looks at
  const fields = places.flatMap((place) => [...document.querySelectorAll(`${place} input[type="search"]`)]);
  const field = fields.find((each) => each.checkVisibility());
  field?.focus();
  field?.select();
  return Boolean(field);
}

const click = (selector) => {
  const found = [...document.querySelectorAll(selector)].find((each) => each.checkVisibility() && !each.disabled && each.getAttribute('aria-disabled') !== 'true');
  found?.click();
  return Boolean(found);
};

const KEYS = {
  '?': () => { openHelp(); return true; },
  '/': filter,
  n: () => click('#log [data-log-next]') || click('.topbar a.button.primary'),
  j: () => step(1),
  k: () => step(-1),
  ArrowDown: () => rowInUse() !== null && step(1),
  ArrowUp: () => rowInUse() !== null && step(-1),
  r: () => { start(); return true; },
  p: () => { pause(); return true; },
  e: () => { edit(); return true; },
  x: mark,
  f: () => click('#log [data-log-follow]'),
  w: () => click('#log [data-log-wrap]'),
  F3: (event) => click(event.shiftKey ? '#log [data-log-previous]' : '#log [data-log-next]'),
  Escape: () => marks.size > 0 && (unmark(), true),
};

const FIELDS = '[popover], input, textarea, select, [contenteditable=""], [contenteditable="true"], [role="combobox"], [role="textbox"]';
let going = -Infinity; // when "g" was pressed

document.addEventListener('keydown', (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  // A field of a dialog that was closed just now may still have the focus.
  if (event.target.closest?.(FIELDS)?.checkVisibility() || document.querySelector('dialog[open]') || !keysAreOn()) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (performance.now() - going < AGAIN) {
    going = -Infinity;
    const address = Object.keys(PAGES).find((each) => PAGES[each].includes(key) && linkTo(each));
    if (address) {
      event.preventDefault();
      linkTo(address).click();
      return;
    }
  }
  if (key === 'g' && !event.repeat) {
    going = performance.now();
    return;
  }
  if (event.repeat && !['j', 'k', 'ArrowDown', 'ArrowUp', 'F3'].includes(key)) return;
  if (Object.hasOwn(KEYS, key) && KEYS[key](event)) event.preventDefault();
});

// ── Help ────────────────────────────────────────────────────────────────────────────────────────
const linkTo = (address) => document.querySelector(`.sidebar .nav a[href="${address}"]`);

function openHelp() {
  const list = help.querySelector('[data-pages]');
  list.replaceChildren(...Object.entries(PAGES).filter(([address]) => linkTo(address)).map(([address, letters]) => {
    const line = document.createElement('div');
    const [keys, words] = [document.createElement('dt'), document.createElement('dd')];
    keys.append(...['g', letters[german ? 0 : 1]].flatMap((letter) => [Object.assign(document.createElement('kbd'), { textContent: letter }), ' ']));
    words.textContent = [...linkTo(address).childNodes].filter((node) => node.nodeType === Node.TEXT_NODE).map((node) => node.textContent).join('').trim();
    line.append(keys, words);
    return line;
  }));
  help.querySelector('[data-state]').textContent = keysAreOn() ? '' : help.dataset.off;
  help.showModal();
}

document.addEventListener('daemon:keys', openHelp);
document.addEventListener('click', (event) => { if (event.target.closest?.('[data-keys-help]')) openHelp(); });

// ── The switch ──────────────────────────────────────────────────────────────────────────────────
const showSwitch = () => {
  for (const field of document.querySelectorAll('[data-keys-switch]')) field.checked = keysAreOn();
};
document.addEventListener('change', (event) => {
  if (!event.target.matches?.('[data-keys-switch]')) return;
  try {
    if (event.target.checked) localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, 'off');
  } catch { /* no storage: they stay on */ }
  showSwitch();
});
addEventListener('storage', (event) => { if (event.key === KEY) showSwitch(); });
showSwitch();
