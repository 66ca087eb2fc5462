// The timeline of the overview: arrow keys go from bar to bar, a sign beside a bar says what it is,
// now moves on, and a narrow screen begins at now. Without script the bars are links, no less.
import { morph } from './morph.js';
import { serverNow } from './time.js';

const holder = document.getElementById('today');
const html = document.documentElement;
let chosen = ''; // id of the bar that Tab leads to

const bars = (within = holder) => [...within.querySelectorAll('.bar')];
const middle = (bar) => {
  const box = bar.getBoundingClientRect();
  return box.left + box.width / 2;
};

const right = (bar) => bar.getBoundingClientRect().right;

// ── Arrow keys ──────────────────────────────────────────────────────────────────────────────────
// One stop for Tab, however many bars there are: what runs or ended last, or the last one visited.
function stops() {
  const all = bars();
  const begun = all.filter((bar) => !bar.classList.contains('planned'));
  const stop = all.find((bar) => bar.id === chosen)
    ?? begun.reduce((last, bar) => (last && right(last) >= right(bar) ? last : bar), null) ?? all[0];
  for (const bar of all) {
    const wanted = bar === stop ? '0' : '-1';
    if (bar.getAttribute('tabindex') !== wanted) bar.setAttribute('tabindex', wanted);
  }
}

function beside(bar, lanes, step) {
  for (let at = lanes.indexOf(bar.closest('.lane')) + step; lanes[at]; at += step) {
    const near = bars(lanes[at]);
    if (near.length) return near.reduce((best, each) => (Math.abs(middle(each) - middle(bar)) < Math.abs(middle(best) - middle(bar)) ? each : best));
  }
  return null;
}

holder?.addEventListener('keydown', (event) => {
  const bar = event.target.closest?.('.bar');
  if (!bar || event.ctrlKey || event.altKey || event.metaKey) return;
  const lane = bars(bar.closest('.lane'));
  const at = lane.indexOf(bar);
  const lanes = [...holder.querySelectorAll('.lane')];
  const next = {
    ArrowLeft: () => lane[at - 1], ArrowRight: () => lane[at + 1], Home: () => lane[0], End: () => lane.at(-1),
    ArrowUp: () => beside(bar, lanes, -1), ArrowDown: () => beside(bar, lanes, 1),
  }[event.key];
  if (event.key === 'Escape') hide();
  if (!next) return;
  event.preventDefault();
  const to = next();
  if (!to) return;
  to.focus({ preventScroll: true });
  to.scrollIntoView({ block: 'nearest', inline: 'nearest' });
});

// ── What a bar is ───────────────────────────────────────────────────────────────────────────────
const tip = Object.assign(document.createElement('div'), { className: 'bar-tip', hidden: true, ariaHidden: 'true' });

function show(bar) {
  const [name, words] = [document.createElement('b'), document.createElement('span')];
  name.textContent = bar.closest('.bars').getAttribute('aria-label');
  words.textContent = bar.getAttribute('aria-label');
  tip.replaceChildren(name, words);
  tip.hidden = false;
  const box = bar.getBoundingClientRect();
  const room = document.body.clientWidth - tip.offsetWidth - 12;
  const left = Math.max(12, Math.min(room, box.left + box.width / 2 - tip.offsetWidth / 2));
  const above = box.top - tip.offsetHeight - 8;
  tip.style.left = `${left + scrollX}px`;
  tip.style.top = `${(above > 70 ? above : box.bottom + 8) + scrollY}px`;
}

function hide() {
  tip.hidden = true;
}

function watchTips() {
  document.body.append(tip);
  for (const name of ['pointerover', 'focusin']) {
    holder.addEventListener(name, (event) => {
      const bar = event.target.closest?.('.bar');
      if (bar) show(bar);
      else if (name === 'pointerover') hide();
      if (bar && name === 'focusin') {
        chosen = bar.id;
        stops();
      }
    });
  }
  for (const name of ['pointerleave', 'focusout']) holder.addEventListener(name, hide);
  addEventListener('scroll', hide, { passive: true });
}

// ── Now ─────────────────────────────────────────────────────────────────────────────────────────
function moveNow() {
  const card = holder.firstElementChild;
  const [line, sign] = [card?.querySelector('.now'), card?.querySelector('.now-sign')];
  if (!line || html.dataset.live === 'stale') return; // what knows nothing new must not look alive
  const share = (serverNow() - Date.parse(card.dataset.start)) / 1000 / Number(card.dataset.length);
  if (!(share > 0 && share < 1)) return;
  const place = `${(share * 100).toFixed(3)}%`;
  for (const [element, name] of [[line, 'x1'], [line, 'x2'], [sign, 'x']]) element.setAttribute(name, place);
  const clock = serverNow().toLocaleTimeString(html.lang, { hour: '2-digit', minute: '2-digit', hourCycle: 'h23', timeZone: html.dataset.zone });
  const word = sign.querySelector('text');
  if (word.textContent !== clock) word.textContent = clock;
}

function beginAtNow() {
  const view = holder.querySelector('[data-timeline]');
  const line = view?.querySelector('.now');
  if (!line || view.scrollWidth <= view.clientWidth) return;
  view.scrollLeft += line.getBoundingClientRect().left - view.getBoundingClientRect().left - view.clientWidth * 0.72;
}

// ── Another view ────────────────────────────────────────────────────────────────────────────────
// Range, lanes and table are links to this page; only the card changes, and the address with it.
let turning = null;

async function turnTo(link) {
  turning?.abort(); // the view that was asked for last is shown
  turning = new AbortController();
  const { signal } = turning;
  try {
    const answer = await fetch(link.href, { signal });
    if (!answer.ok || answer.redirected) throw new Error(String(answer.status));
    const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
    morph(holder, page.getElementById('today'));
  } catch {
    if (signal.aborted) return;
    location.assign(link.href); // the page itself says what is wrong
    return;
  }
  history.replaceState(history.state, '', link.href);
  const next = document.querySelector('#act [name="next"]');
  if (next) next.value = location.pathname + location.search;
  document.getElementById(link.id)?.focus();
  holder.dispatchEvent(new CustomEvent('htmx:afterSettle', { bubbles: true })); // live.js looks anew
}

holder?.addEventListener('click', (event) => {
  const link = event.target.closest?.('a[data-view]');
  if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  turnTo(link);
});

// The other links of this page, to jobs in a state, keep the view of the day.
function keepView(event) {
  const link = event.target.closest?.('a[href^="?"]');
  if (!link || holder.contains(link)) return;
  const to = new URL(link.href);
  for (const [name, value] of new URLSearchParams(location.search)) {
    if (['range', 'lanes', 'day'].includes(name) && !to.searchParams.has(name)) to.searchParams.set(name, value);
  }
  link.href = to.search || '?';
}

if (holder) {
  document.addEventListener('click', keepView, true);
  let range = holder.firstElementChild?.dataset.length;
  stops();
  watchTips();
  beginAtNow();
  setInterval(() => { if (!document.hidden) moveNow(); }, 10_000);
  new MutationObserver(() => {
    stops();
    if (holder.firstElementChild?.dataset.length === range) return;
    range = holder.firstElementChild?.dataset.length;
    hide();
    beginAtNow();
  }).observe(holder, { childList: true, subtree: true });
}
