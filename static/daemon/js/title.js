// What the tab of the page shows: "(2)" of what needs a person, how the run of the page is, and an
// icon: a quiet ring, blue while something runs, red when a person is needed, hollow while offline.
// The numbers and words are the server's: tiles/tally.py, and data-tab of a region.

const html = document.documentElement;
const icon = document.querySelector('link[rel="icon"]');
const quiet = icon?.getAttribute('href');

const RING = '<circle cx="10" cy="10" r="8.2" fill="none" stroke="#7c828b" stroke-width="1.9"';
const drawn = (inside) => `data:image/svg+xml,${encodeURIComponent(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 20 20">${inside}</svg>`)}`;
// Drawn here and not fetched: without a server there is nothing to fetch from.
const ICONS = {
  away: drawn(`${RING} stroke-dasharray="3.4 2.6"/>`),
  needs: drawn(`${RING} opacity=".6"/><circle cx="10" cy="10" r="5" fill="#d73f39"/>`),
  running: drawn('<circle cx="10" cy="10" r="8.2" fill="none" stroke="#367ed4" stroke-width="1.9"/><circle cx="10" cy="10" r="3.6" fill="#367ed4"/>'),
};

let page = document.title; // as the server wrote it
let written = page;

export function write() {
  const tally = document.querySelector('[data-region="tally"]')?.dataset ?? {};
  const away = html.dataset.live === 'stale' || html.dataset.live === 'waiting';
  const state = away ? 'away' : Number(tally.needs) ? 'needs' : Number(tally.running) ? 'running' : '';
  if (icon) {
    const wanted = ICONS[state] ?? quiet;
    if (icon.getAttribute('href') !== wanted) icon.setAttribute('href', wanted);
  }
  html.dataset.tab = state || 'quiet';
  if (document.title !== written) page = document.title; // another script has changed the page
  const count = Number(tally.needs) ? `(${tally.needs}) ` : '';
  const word = document.querySelector('[data-tab-word]')?.dataset.tabWord;
  // What is not known any more is no full dot.
  const run = word ? `${away ? word.replace('●', '○') : word} · ` : '';
  written = `${count}${run}${page}`;
  if (document.title !== written) document.title = written;
}

write();
document.addEventListener('daemon:shown', write);
document.addEventListener('htmx:afterSettle', write);
new MutationObserver(write).observe(html, { attributeFilter: ['data-live'] });
