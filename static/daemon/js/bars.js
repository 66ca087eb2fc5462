// Bars that are links: one stop of the tabulator for all of them, arrow keys walk along.
const bars = (chart) => [...chart.querySelectorAll('a')];

document.addEventListener('keydown', (event) => {
  const from = event.target.closest?.('svg[data-bars] a');
  if (!from || event.ctrlKey || event.metaKey || event.altKey) return;
  const all = bars(from.closest('svg'));
  const at = all.indexOf(from);
  const last = all.length - 1;
  const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: last, PageUp: at - 10, PageDown: at + 10 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  all[Math.min(last, Math.max(0, to))].focus();
});
