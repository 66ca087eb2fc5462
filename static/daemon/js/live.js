// Keeps the page up to date over one websocket (the protocol: daemon_app/consumers.py and hub.py).
// What the server says to show is morphed in; this script knows no rule. It says how the connection
// is in html[data-live]: "on", "waiting", "fetching" (the page is fetched instead), "stale", and in
// words of #connection (templates/daemon/connection.html).
import { morph } from './morph.js';
import { serverNow } from './time.js';
import { show as toast } from './ui.js';

const html = document.documentElement;
const words = document.getElementById('connection');
const LATE = 35_000; // ms without a frame: the server gives a sign of life every 15 s
const CHIP = 3_000;
const BAR = 10_000;
const FETCH = 10_000;
const FETCH_HIDDEN = 60_000; // for the tab's icon and what is told outside the page
const LONG = 20_000; // ms away after which a page says what happened meanwhile
const SIGNED_OUT = 4401;
const RIGHTS_CHANGED = 4403;
const STALLED = 4408;
const TOO_MANY = 4429;

let socket = null;
let timer = 0;
let tries = 0; // attempts since the last frame
let refused = 0; // sockets in a row that never opened
let ended = 0; // the code after which there is no more trying
let lostAt = performance.now();
let nextAt = 0;
// When something was heard last, by three clocks: one stands still while the machine sleeps, one may
// be set, the server's is for people.
let heardAt = performance.now();
let heardDate = Date.now();
let heardClock = serverNow();
let missedSince = heardClock; // from when on nobody has been told what happened
let away = 0; // for how long nothing was heard before this socket
let fetchedAt = -FETCH;
let fetching = false;
let seq = 0;
const digests = new Map(); // region → what the server called its present look
const logs = new Map(); // run → {from, take}, and the number of what was asked last
let asked = 0;

// ── The socket ──────────────────────────────────────────────────────────────────────────────────
function connect() {
  clearTimeout(timer);
  const old = socket;
  const mine = new WebSocket(words.dataset.socket);
  socket = mine;
  old?.close();
  let opened = false;
  nextAt = 0;
  mine.onopen = () => {
    opened = true;
    seq = 0;
    unseen = unseenSize = 0;
    away = Math.max(away, silence());
    heardAt = performance.now();
    heardDate = Date.now();
    hello();
  };
  mine.onmessage = (event) => {
    if (mine !== socket) return;
    heardAt = performance.now();
    heardDate = Date.now();
    seen(event.data.length);
    let frame;
    try {
      frame = JSON.parse(event.data);
    } catch {
      frame = {}; // counts as one that is missing
    }
    receive(frame);
  };
  mine.onclose = (event) => { if (mine === socket) lost(event.code, opened); };
}

// For how many ms nothing has been heard. A machine that slept may not know how long by one clock.
function silence() {
  return Math.max(performance.now() - heardAt, Date.now() - heardDate);
}

function lost(code, opened) {
  socket = null;
  if (html.dataset.live === 'on') {
    lostAt = performance.now();
    delete html.dataset.live;
  }
  refused = code === TOO_MANY ? 3 : opened ? 0 : refused + 1;
  if (code === SIGNED_OUT || code === RIGHTS_CHANGED) ended = code;
  else if (!ended) {
    const pause = code === STALLED ? 0 : Math.min(30_000, 500 * 2 ** tries) * (0.5 + Math.random() / 2);
    tries += 1;
    nextAt = performance.now() + pause;
    clearTimeout(timer);
    timer = setTimeout(connect, pause);
  }
  report();
}

function send(message) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

// How much of what it was sent this page has read: no more than a window is ever on its way.
let unseen = 0;
let unseenSize = 0;
let seenAt = 0;
let seenTimer = 0;

function seen(size) {
  unseen += 1;
  unseenSize += size;
  const wait = seenAt + 150 - performance.now();
  clearTimeout(seenTimer);
  if (wait <= 0 && (unseen >= 8 || unseenSize >= 65_536)) setTimeout(sendSeen, 0);
  else seenTimer = setTimeout(sendSeen, Math.max(150, wait));
}

function sendSeen() {
  if (!unseen) return;
  clearTimeout(seenTimer);
  unseen = unseenSize = 0;
  seenAt = performance.now();
  send({ t: 'seen', seq });
}

// ── What the page shows ─────────────────────────────────────────────────────────────────────────
function regions() {
  const found = {};
  const here = [...document.querySelectorAll('[data-region]')];
  const names = new Set(here.map((element) => element.dataset.region));
  // What has left the page looks otherwise when it comes back.
  for (const region of digests.keys()) if (!names.has(region)) digests.delete(region);
  let size = 200;
  for (const element of here) {
    const region = element.dataset.region;
    size += JSON.stringify(region).length * 3 + 20; // in bytes, at worst
    if (size > 4000) break; // the server takes no longer message
    found[region] = digests.get(region) ?? null;
  }
  return found;
}

let told = '';
function tell(kind) {
  const shown = regions();
  const names = Object.keys(shown).join('\n');
  if (kind === 'show' && names === told) return;
  told = names;
  send({ t: kind, language: html.lang, regions: shown });
}

function hello() {
  tell('hello');
  for (const [run, log] of logs) ask(run, log);
}

// What answers an earlier question may still be on its way: only the latest one's is taken.
function ask(run, log) {
  asked += 1;
  log.id = asked;
  send({ t: 'log', run, from: log.from(), id: asked });
}

// Call log.take(frame) with the output of `run` from byte log.from() on (null: its newest lines).
export function watchLog(run, log) {
  logs.set(run, log);
  ask(run, log);
}

function receive(frame) {
  if (frame.seq !== seq + 1) hello(); // something is missing: begin anew with what is there
  if (!frame.seq) return;
  seq = frame.seq;
  connected(frame.time);
  for (const [op, region, markup, digest] of frame.ops ?? []) {
    const element = document.querySelector(`[data-region="${CSS.escape(region)}"]`);
    if (op === 'gone') {
      digests.delete(region);
      const instead = document.querySelector(`template[data-instead-of="${CSS.escape(region)}"]`);
      if (instead) document.getElementById('content').replaceChildren(instead.content);
      else element?.remove();
    } else if (op === 'morph' && element) {
      const holder = document.createElement('template');
      holder.innerHTML = markup;
      work(element, holder.content.firstElementChild);
      digests.set(region, digest);
    }
  }
  if (frame.ops) tell('show');
  heardClock = missedSince = new Date(frame.time);
  if (frame.log) {
    const log = logs.get(frame.log.run);
    if (log?.id !== frame.asked) return;
    log.take(frame.log);
    if (frame.log.end) logs.delete(frame.log.run);
  }
}

function work(element, wanted) {
  const added = [];
  let held = false;
  const holds = (list) => {
    const here = inHand(list);
    held ||= here;
    return here;
  };
  if (wanted) morph(element, wanted, (node) => added.push(node), holds);
  later.delete(element);
  for (const [around, look] of later) {
    if (!around.isConnected) later.delete(around);
    // What waits to be shown around it must not bring back what it was.
    else if (wanted && around.contains(element)) look.querySelector(`[data-region="${CSS.escape(element.dataset.region)}"]`)?.replaceWith(wanted.cloneNode(true));
  }
  if (held) settleLater(element, wanted);
  for (const node of added) if (node.isConnected) window.htmx?.process(node);
  element.dispatchEvent(new CustomEvent('daemon:shown', { bubbles: true }));
}

// Rows do not change places under a pointer on its way to one of them: what was to move does so once
// it rests, or is elsewhere.
const REST = 2500;
let movedAt = -REST;
let under = null;
const later = new Map(); // region → how it is to look
let laterTimer = 0;

document.addEventListener('pointermove', (event) => {
  if (event.pointerType !== 'mouse') return; // a finger covers what it is about to touch anyway
  movedAt = performance.now();
  under = event.target;
}, { passive: true });
document.documentElement.addEventListener('pointerleave', () => { under = null; });

function inHand(list) {
  return performance.now() - movedAt < REST && list.contains(under);
}

function settleLater(element, wanted) {
  later.set(element, wanted);
  clearTimeout(laterTimer);
  laterTimer = setTimeout(() => {
    for (const [region, look] of [...later]) if (region.isConnected) work(region, look);
  }, 300);
}

// What htmx has swapped in is not what the server last called it.
document.addEventListener('htmx:afterSettle', (event) => {
  for (const element of document.querySelectorAll('[data-region]')) {
    if (element.contains(event.target) || event.target.contains(element)) digests.delete(element.dataset.region);
  }
  told = '';
  tell('show');
});

// ── Without a socket: the page itself, again and again ──────────────────────────────────────────
async function fetchPage() {
  fetchedAt = performance.now();
  try {
    const answer = await fetch(location.href, { headers: { 'X-Unattended': 'live' } });
    if (answer.status === 401) ended = SIGNED_OUT;
    if (!answer.ok) throw new Error(String(answer.status));
    const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
    if (html.dataset.live === 'on') return;
    for (const element of document.querySelectorAll('[data-region]')) {
      const wanted = page.querySelector(`[data-region="${CSS.escape(element.dataset.region)}"]`);
      if (wanted) work(element, wanted);
      else element.remove();
      digests.delete(element.dataset.region);
    }
    heardDate = Date.now();
    heardClock = new Date(page.documentElement.dataset.now);
    document.dispatchEvent(new CustomEvent('daemon:clock', { detail: page.documentElement.dataset.now }));
    document.dispatchEvent(new CustomEvent('daemon:page', { detail: page }));
    if (!fetching) { // the server answers (again): a socket may be had as well
      fetching = true;
      tries = 0;
      if (!socket) connect();
    }
  } catch {
    fetching = false;
  }
  report();
}

// ── How the connection is ───────────────────────────────────────────────────────────────────────
function connected(time) {
  document.dispatchEvent(new CustomEvent('daemon:clock', { detail: time }));
  if (html.dataset.live === 'on' && away <= LONG) return;
  const was = html.dataset.live;
  const since = missedSince;
  tries = refused = 0;
  fetching = false;
  html.dataset.live = 'on';
  report();
  if (was === 'stale' || was === 'fetching' || away > LONG) back(since);
  away = 0;
}

// Say that the page is up to date again, and what it has missed.
async function back(since) {
  let said = '';
  try {
    const answer = await fetch(`${words.dataset.meanwhile}?since=${since.toISOString()}`, { headers: { 'X-Unattended': 'live' } });
    if (answer.ok) said = await answer.text();
  } catch { /* what happened is not said then */ }
  toast(said || words.querySelector('template').innerHTML);
}

const part = (name) => document.querySelector(`[data-connection-${name}]`);

function report() {
  const age = performance.now() - lostAt;
  if (html.dataset.live !== 'on') {
    const state = ended ? 'stale' : fetching ? 'fetching' : age >= BAR ? 'stale' : age >= CHIP ? 'waiting' : '';
    if (state) html.dataset.live = state;
    else delete html.dataset.live;
  }
  const state = html.dataset.live ?? '';
  const chip = { on: words.dataset.on, waiting: words.dataset.waiting, fetching: words.dataset.fetching, stale: words.dataset.waiting }[state] ?? '';
  for (const place of document.querySelectorAll('[data-live-status]')) {
    const text = ended ? '' : chip;
    if ((place.lastElementChild?.textContent ?? '') === text) continue;
    place.classList.toggle('is-stale', state !== 'on');
    place.replaceChildren(...(text ? [document.createElement('i'), Object.assign(document.createElement('span'), { textContent: text })] : []));
  }
  words.hidden = state !== 'stale';
  let said = state === 'on' || !state ? '' : chip;
  if (state === 'stale') {
    const clock = heardClock.toLocaleTimeString(html.lang, { hour: '2-digit', minute: '2-digit', hourCycle: 'h23', timeZone: html.dataset.zone });
    // Each tile says how old it is: the sheet live.css writes it before the cause.
    html.style.setProperty('--as-of', `"${words.dataset.asOf.replace('{time}', clock)}"`);
    said = ended === SIGNED_OUT ? words.dataset.signedOut
      : ended ? words.dataset.rights : words.dataset.lost.replace('{time}', clock);
    const seconds = Math.ceil((nextAt - performance.now()) / 1000);
    part('words').textContent = said;
    part('next').textContent = ended ? '' : nextAt && seconds > 0 ? words.dataset.next.replace('{n}', seconds) : words.dataset.trying;
    part('now').hidden = Boolean(ended);
    part('sign-in').hidden = ended !== SIGNED_OUT;
    part('reload').hidden = ended !== RIGHTS_CHANGED;
    lead();
  }
  if (part('said').textContent !== said) part('said').textContent = said;
}

// The page is the same after the sign-in, with the line that is picked; it may have changed since.
function lead() {
  const here = location.pathname + location.search + location.hash;
  part('sign-in').href = `${words.dataset.login}?next=${encodeURIComponent(here)}`;
  part('reload').href = location.href;
}

function watch() {
  if (socket?.readyState === WebSocket.OPEN && silence() > LATE) {
    const silent = socket; // its own closing could take as long again
    silent.onclose = null;
    silent.close();
    lost(0, true);
  }
  if (html.dataset.live === 'on' || ended) return;
  if (refused >= 3 && performance.now() - fetchedAt >= (document.hidden ? FETCH_HIDDEN : FETCH)) fetchPage();
  report();
}

function retry() {
  if (ended || html.dataset.live === 'on' && silence() < LATE) return;
  if (socket?.readyState === WebSocket.CONNECTING) return;
  tries = 0;
  connect();
}

if (words && 'WebSocket' in window) {
  setInterval(watch, 1000);
  part('now').addEventListener('click', retry);
  part('sign-in').addEventListener('click', lead);
  addEventListener('online', retry);
  addEventListener('focus', retry);
  // A page that the browser had frozen.
  document.addEventListener('resume', retry);
  document.addEventListener('daemon:signed-out', () => {
    if (ended) return;
    ended = SIGNED_OUT;
    socket?.close();
    report();
  });
  document.addEventListener('daemon:acted', () => {
    if (html.dataset.live === 'on') return;
    if (fetching) fetchPage();
    else retry();
  });
  document.addEventListener('visibilitychange', () => { if (!document.hidden) retry(); });
  // A page kept for the back button holds no socket; shown again, it begins anew.
  addEventListener('pagehide', () => {
    const old = socket;
    socket = null;
    clearTimeout(timer);
    old?.close();
  });
  addEventListener('pageshow', (event) => {
    if (!event.persisted) return;
    delete html.dataset.live;
    lostAt = performance.now();
    connect();
  });
  connect();
}
