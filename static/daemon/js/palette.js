// Search and commands (Ctrl+K): what the page itself links to and offers, and what the server finds
// among jobs and runs. Knows no page and no rule: labels and addresses are those of the page.
import { pressed } from './ui.js';

const dialog = document.getElementById('palette');
const ask = dialog?.querySelector('input');
const list = dialog?.querySelector('[role="listbox"]');
const nothing = dialog?.querySelector('.nothing');
const said = dialog?.querySelector('[role="status"]');
const icons = dialog?.querySelector('[data-icons]').content.children;
const ICON = { job: 0, run: 1, enter: 2, start: 3, list: 4, keys: 5, page: 6 };
const WAIT = 120; // ms of rest before the server is asked

const plain = (text) => text.normalize('NFD').replace(/\p{M}/gu, '').toLowerCase();
const words = dialog?.dataset ?? {};

// ── What there is to choose ─────────────────────────────────────────────────────────────────────
// {group, label, about, state, tone, icon, href} or {…, act()}.

const labelOf = (element) => {
  const own = [...element.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE || node.matches?.('.word'));
  const text = own.map((node) => node.textContent).join(' ').trim().replace(/\s+/g, ' ');
  return text || element.getAttribute('aria-label') || element.title;
};
const drawn = (element) => [...element.querySelectorAll(':scope > svg')].find((drawing) => !drawing.hasAttribute('hidden'));

function ofThePage() {
  const items = [];
  const known = new Set();
  const take = (group, selector) => {
    for (const element of document.querySelectorAll(selector)) {
      const label = labelOf(element);
      const key = element.href && element.localName === 'a' ? element.href : `${label} ${element.formAction ?? ''}`;
      if (!label || known.has(key) || element.hidden || element.disabled || element.getAttribute('aria-disabled') === 'true') continue;
      known.add(key);
      const item = { group, label, drawing: drawn(element) };
      if (element.localName === 'a') item.href = element.href;
      else item.act = () => element.click();
      items.push(item);
    }
  };
  take('here', '#content .head .actions > :is(a, button)');
  take('here', '#content .situation .actions :is(a, button)');
  take('pages', '.sidebar .nav a');
  take('pages', '#palette-pages a');
  take('actions', '.topbar a.button.primary');
  take('actions', '.topbar [data-theme-switch]');
  items.push({ group: 'actions', label: words.keys, icon: ICON.keys, act: () => document.dispatchEvent(new CustomEvent('daemon:keys')) });
  take('actions', '.topbar .menu .item');
  return items;
}

function ofTheServer(answer, asked) {
  const items = [];
  for (const job of answer.jobs) items.push({ group: asked ? 'jobs' : 'recent', icon: ICON.job, ...job });
  for (const run of answer.runs) items.push({ group: 'runs', icon: ICON.run, ...run });
  // Whoever types a job's name may want it started: of a few only, or the list would be all verbs.
  if (asked && answer.jobs.length < 4) {
    for (const job of answer.jobs) {
      if (job.start) items.push({ group: 'actions', icon: ICON.start, label: job.verb, found: true, act: () => pressed(job.start) });
    }
  }
  return items;
}

// ── What is shown ───────────────────────────────────────────────────────────────────────────────
let local = [];
let remote = [];
let shown = [];
let current = -1;
let waiting = 0;
let asking = null;
let deaf = false;

// How well a label fits: 0 begins so, 1 a word of it does, 2 it holds all words; -1 not at all.
function fit(label, text) {
  const [where, parts] = [plain(label), plain(text).split(/\s+/).filter(Boolean)];
  if (!parts.length) return 0;
  if (!parts.every((part) => where.includes(part))) return -1;
  if (where.startsWith(parts.join(' '))) return 0;
  return where.split(/[^\p{L}\p{N}]+/u).some((word) => word.startsWith(parts[0])) ? 1 : 2;
}

function choose() {
  const text = ask.value.trim();
  const fits = (item) => (item.found || item.group === 'runs' ? 0 : fit(item.label, text));
  const ours = local.filter((item) => fits(item) >= 0);
  const theirs = remote.filter((item) => fits(item) >= 0);
  const groups = new Map(['recent', 'jobs', 'here', 'runs', 'pages', 'actions'].map((name) => [name, []]));
  for (const item of [...theirs, ...ours]) groups.get(item.group).push(item);
  if (text) {
    for (const items of groups.values()) items.sort((one, other) => fits(one) - fits(other));
    groups.set('list', [{ group: 'list', icon: ICON.list, label: words.list.replace('{q}', () => text), href: `${words.jobs}?q=${encodeURIComponent(text)}` }]);
  }
  const best = (items) => (text && items.length ? fits(items[0]) : 0);
  const isNumber = /\d$/.test(text);
  return [...groups].filter(([, items]) => items.length).sort(([a, one], [b, other]) => (
    a === 'list' || b === 'list' ? (a === 'list') - (b === 'list')
      : isNumber && (a === 'runs') !== (b === 'runs') ? (b === 'runs') - (a === 'runs')
        : text && (a === 'runs') !== (b === 'runs') ? 0 : best(one) - best(other)));
}

function draw() {
  const before = shown[current];
  const groups = choose();
  const text = ask.value.trim();
  shown = groups.flatMap(([, items]) => items);
  list.replaceChildren(...groups.map(([name, items]) => section(name, items, text)));
  const again = shown.findIndex((item) => before && item.label === before.label && item.group === before.group);
  select(moved && again >= 0 ? again : 0, false);
  const hits = shown.length - (text ? 1 : 0);
  nothing.hidden = !deaf && (hits > 0 || !text || waiting > 0);
  nothing.textContent = deaf ? words.deaf : words.nothing.replace('{q}', () => text);
  if (!waiting) said.textContent = !nothing.hidden ? nothing.textContent : text ? (hits === 1 ? words.countOne : words.countMany.replace('{n}', hits)) : '';
}

function section(name, items, text) {
  const holder = document.createElement('div');
  holder.setAttribute('role', 'group');
  const title = words[`group${name[0].toUpperCase()}${name.slice(1)}`];
  if (title) {
    const heading = Object.assign(document.createElement('p'), { id: `palette-${name}`, textContent: title });
    heading.setAttribute('role', 'presentation');
    holder.setAttribute('aria-labelledby', heading.id);
    holder.append(heading);
  } else {
    holder.setAttribute('aria-label', items[0].label);
  }
  for (const item of items) holder.append(option(item, text));
  return holder;
}

function option(item, text) {
  const row = document.createElement('div');
  row.id = `palette-${shown.indexOf(item)}`;
  row.setAttribute('role', 'option');
  row.setAttribute('aria-selected', 'false');
  const drawing = (item.drawing ?? icons[item.icon ?? ICON.page]).cloneNode(true);
  const label = Object.assign(document.createElement('span'), { className: 'label' });
  label.append(...marked(item.label, item.group === 'list' ? '' : text));
  row.append(drawing, label);
  if (item.about) row.append(Object.assign(document.createElement('span'), { className: 'about', textContent: item.about }));
  if (item.state) row.append(Object.assign(document.createElement('span'), { className: `state ${item.tone}`, textContent: item.state }));
  return row;
}

// The label with what was typed set off, where it stands in one piece.
function marked(label, text) {
  const at = text ? label.toLowerCase().indexOf(text.toLowerCase()) : -1;
  if (at < 0) return [label];
  const hit = Object.assign(document.createElement('b'), { textContent: label.slice(at, at + text.length) });
  return [label.slice(0, at), hit, label.slice(at + text.length)];
}

let moved = false;
function select(number, byHand = true) {
  moved = byHand;
  list.querySelector('[aria-selected="true"]')?.setAttribute('aria-selected', 'false');
  current = shown.length ? (number + shown.length) % shown.length : -1;
  const row = current < 0 ? null : document.getElementById(`palette-${current}`);
  row?.setAttribute('aria-selected', 'true');
  if (row) ask.setAttribute('aria-activedescendant', row.id);
  else ask.removeAttribute('aria-activedescendant');
  if (byHand) row?.scrollIntoView({ block: 'nearest' });
  else list.scrollTop = 0;
}

function take(item, elsewhere) {
  if (!item) return;
  if (item.href && elsewhere) {
    window.open(item.href, '_blank', 'noopener');
    return;
  }
  dialog.close();
  if (item.href) location.assign(item.href);
  else item.act();
}

// ── Asking ──────────────────────────────────────────────────────────────────────────────────────
async function fetchFound() {
  asking?.abort();
  asking = new AbortController();
  const { signal } = asking;
  const text = ask.value.trim();
  try {
    const answer = await fetch(`${words.find}?q=${encodeURIComponent(text)}`, { signal });
    if (!answer.ok) throw new Error(String(answer.status));
    remote = ofTheServer(await answer.json(), text);
    deaf = false;
  } catch {
    if (signal.aborted) return;
    remote = [];
    deaf = true;
  }
  waiting = 0;
  if (dialog.open) draw();
}

function typed() {
  clearTimeout(waiting);
  asking?.abort(); // what is answered to less would come in front
  waiting = setTimeout(fetchFound, WAIT);
  remote = remote.filter((item) => !item.found && item.group !== 'runs');
  moved = false;
  draw();
}

export function openPalette(text = '') {
  if (!dialog || dialog.open) return;
  for (const other of document.querySelectorAll('dialog[open]')) other.close();
  for (const menu of document.querySelectorAll('details.menu[open]')) menu.open = false;
  local = ofThePage();
  remote = [];
  deaf = moved = false;
  ask.value = text;
  dialog.showModal();
  ask.focus();
  waiting = 1;
  draw();
  fetchFound();
}

if (dialog) {
  ask.addEventListener('input', typed);
  ask.addEventListener('keydown', (event) => {
    if (event.isComposing) return;
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 }[event.key];
    if (step && shown.length) {
      event.preventDefault();
      const wanted = current + step;
      select(Math.abs(step) === 1 ? wanted : Math.max(0, Math.min(shown.length - 1, wanted)));
    } else if (event.key === 'Enter') {
      event.preventDefault();
      take(shown[current], event.ctrlKey || event.metaKey);
    }
  });
  list.addEventListener('mousedown', (event) => event.preventDefault()); // the field keeps the focus
  list.addEventListener('click', (event) => {
    const row = event.target.closest('[role="option"]');
    if (row) take(shown[Number(row.id.replace('palette-', ''))], event.ctrlKey || event.metaKey);
  });
  list.addEventListener('pointermove', (event) => {
    const row = event.target.closest('[role="option"]');
    const number = row ? Number(row.id.replace('palette-', '')) : -1;
    if (number >= 0 && number !== current && event.movementX + event.movementY) select(number);
  });
  dialog.addEventListener('close', () => {
    clearTimeout(waiting);
    asking?.abort();
    ask.blur(); // where nothing else can have the focus, the hidden field would keep it for a while
  });
  document.addEventListener('keydown', (event) => {
    if (!(event.ctrlKey || event.metaKey) || event.shiftKey || event.altKey || event.key.toLowerCase() !== 'k') return;
    event.preventDefault();
    if (dialog.open) dialog.close();
    else openPalette();
  });
  for (const button of document.querySelectorAll('[data-palette]')) {
    button.hidden = false;
    button.addEventListener('click', (event) => {
      event.preventDefault();
      openPalette(button.closest('form')?.querySelector('input[type="search"]')?.value ?? '');
    });
  }
}

// Every dialog of ours is closed by its button and by a press beside it.
document.addEventListener('click', (event) => {
  const open = event.target.closest?.('dialog');
  if (open && (event.target === open || event.target.closest('[data-shut]'))) open.close();
});
