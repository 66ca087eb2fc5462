// One line through all charts of the system page: under the pointer, or moved by arrow keys. The
// numbers come with the charts (templates/daemon/regions/charts.html); words are read out politely.
import { moment, number, serverNow } from './time.js';

const holder = document.querySelector('[data-crosshair]');
const said = document.querySelector('[data-crosshair-said]');
const html = document.documentElement;
const language = html.lang === 'en' ? 'en' : 'de';
const NBSP = '\u00a0';
let place = -1; // which of the times, -1 for none

const times = () => (holder.firstElementChild.dataset.times || '').split(',').filter(Boolean).map(Number);
const length = () => Number(holder.firstElementChild.dataset.length);
const values = (chart) => (chart.dataset.series.split(',')[place] || '').split('/').filter(Boolean).map(Number);
const at = (seconds) => new Date(Date.parse(holder.firstElementChild.dataset.start) + seconds * 1000);

function decimal(value) {
  const written = value.toFixed(1);
  return language === 'de' ? written.replace('.', ',') : written;
}

function written(value, unit) {
  if (unit === 'ms') return `${number(Math.round(value), language)}${NBSP}ms`;
  if (unit === '%') return `${Math.round(value)}${NBSP}%`;
  if (!unit) return Number.isInteger(value) ? String(value) : decimal(value);
  const [size, name] = value >= 999.5 ? [value / 1000, 'TB'] : value < 0.9995 ? [value * 1000, 'MB'] : [value, 'GB'];
  return `${size < 99.95 ? decimal(size) : number(Math.round(size), language)}${NBSP}${name}`;
}

function reading(chart) {
  const found = values(chart);
  if (!found.length) return '–';
  const [mean, least, most] = found.map((value) => written(value, chart.dataset.unit));
  return found.length < 3 ? mean : `${mean} (${least} – ${most})`;
}

function show() {
  const seconds = times()[place];
  const share = seconds / length();
  const when = seconds === undefined ? '' : moment(at(seconds), serverNow(), html.dataset.zone, language);
  for (const chart of holder.querySelectorAll('figure[data-series]')) {
    const [line, word] = [chart.querySelector('.cross'), chart.querySelector('.cross-word')];
    for (const part of [line, word]) part.setAttribute('visibility', when ? 'visible' : 'hidden');
    if (!when) continue;
    for (const name of ['x1', 'x2']) line.setAttribute(name, `${share * 100}%`);
    word.setAttribute('x', `${share * 100}%`);
    word.setAttribute('dx', share > 0.5 ? -6 : 6);
    word.setAttribute('text-anchor', share > 0.5 ? 'end' : 'start');
    word.textContent = `${when} · ${reading(chart)}`;
  }
  return when;
}

function move(to) {
  place = Math.min(times().length - 1, Math.max(0, to));
  const when = show();
  const charts = [...holder.querySelectorAll('figure[data-series]')];
  said.textContent = when && [when, ...charts.map((chart) => `${chart.dataset.title} ${reading(chart)}`)].join(', ');
}

holder.addEventListener('pointermove', (event) => {
  const box = event.target.closest('.graph')?.getBoundingClientRect();
  if (!box) return;
  const wanted = ((event.clientX - box.left) / box.width) * length();
  const all = times();
  place = all.reduce((best, each, n) => (Math.abs(each - wanted) < Math.abs(all[best] - wanted) ? n : best), 0);
  show();
});
holder.addEventListener('pointerleave', () => { place = -1; show(); });
holder.addEventListener('focusout', (event) => { if (event.target === holder) { place = -1; show(); } });
holder.addEventListener('keydown', (event) => {
  const last = times().length - 1;
  const from = place < 0 ? last : place;
  const to = { ArrowLeft: from - 1, ArrowRight: from + 1, PageUp: from - 10, PageDown: from + 10, Home: 0, End: last }[event.key];
  if (event.target !== holder || to === undefined || last < 0) return;
  event.preventDefault();
  move(place < 0 && event.key === 'ArrowLeft' ? last : to);
});
Object.assign(holder, { tabIndex: 0, role: 'group', ariaLabel: holder.dataset.label });
new MutationObserver(show).observe(holder, { attributeFilter: ['data-times'], subtree: true });
