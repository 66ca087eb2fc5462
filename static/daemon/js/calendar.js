// Arrow keys walk the hours of the calendar; Tab goes past them in one step. Without this script
// each hour is a link like any other.

const links = (grid) => [...grid.querySelectorAll('td a')];

// One link of the grid is reached by Tab: the one that was left, else the first. An update of the
// page takes away what the server does not know of, so it is said again.
let left = '';
function settle(grid) {
  const all = links(grid);
  const at = all.find((link) => link.href === left) ?? all[0];
  for (const link of all) {
    const wanted = link === at ? '0' : '-1';
    if (link.getAttribute('tabindex') !== wanted) link.setAttribute('tabindex', wanted);
  }
}

const place = (link) => {
  const cell = link.closest('td');
  return { row: cell.parentElement, column: cell.cellIndex };
};

// The next link that way: along the day, or to the nearest hour of another day.
function beside(grid, link, key) {
  const { row, column } = place(link);
  const wide = grid.classList.contains('week') && getComputedStyle(grid).display === 'grid';
  const along = wide ? { ArrowUp: -1, ArrowDown: 1 } : { ArrowLeft: -1, ArrowRight: 1 };
  const across = wide ? { ArrowLeft: -1, ArrowRight: 1 } : { ArrowUp: -1, ArrowDown: 1 };
  const inRow = [...row.querySelectorAll('td a')];
  if (key in along) return inRow[inRow.indexOf(link) + along[key]];
  if (key === 'Home') return inRow[0];
  if (key === 'End') return inRow.at(-1);
  for (let other = row; key in across;) {
    other = across[key] < 0 ? other.previousElementSibling : other.nextElementSibling;
    if (!other) return undefined;
    const there = [...other.querySelectorAll('td a')];
    const far = (each) => Math.abs(place(each).column - column);
    if (there.length) return there.reduce((near, each) => (far(each) < far(near) ? each : near));
  }
  return undefined;
}

document.addEventListener('keydown', (event) => {
  const link = event.target.closest?.('[data-grid] td a');
  if (!link || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
  const grid = link.closest('[data-grid]');
  const next = beside(grid, link, event.key);
  if (next) next.focus();
  if (next || event.key.startsWith('Arrow')) event.preventDefault();
});

document.addEventListener('focusin', (event) => {
  const link = event.target.closest?.('[data-grid] td a');
  if (!link) return;
  left = link.href;
  settle(link.closest('[data-grid]'));
});

const settleAll = () => document.querySelectorAll('[data-grid]').forEach(settle);
settleAll();
const main = document.getElementById('content');
if (main) {
  const watched = { childList: true, subtree: true, attributeFilter: ['tabindex'] };
  new MutationObserver(settleAll).observe(main, watched);
}
