// The menu of a row, fetched when it is asked for and shown above everything, and which columns the
// table of jobs shows. Without script the link leads to a page of its own, and the form is sent.
const token = () => document.querySelector('meta[name="csrf-token"]')?.content ?? '';

// ── Menus ───────────────────────────────────────────────────────────────────────────────────────
const menu = document.createElement('div');
menu.id = 'row-menu';
menu.className = 'menu floating';
menu.popover = 'auto';
document.body.append(menu);
let opener; // the address of the link that opened it: its row may be drawn anew meanwhile

const link = () => document.querySelector(`a[data-menu][href="${opener}"]`);

document.addEventListener('click', async (event) => {
  const asked = event.target.closest?.('a[data-menu]');
  if (!asked || !menu.showPopover || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  const address = asked.getAttribute('href');
  const again = closed === address; // this press has closed it
  closed = ''; // the next one may be a key's
  if (again) return;
  try {
    const answer = await fetch(address, { headers: { 'X-Answer': 'menu' } });
    if (!answer.ok || answer.redirected) throw new Error(answer.statusText);
    menu.innerHTML = await answer.text();
  } catch {
    location.assign(address);
    return;
  }
  opener = address;
  link()?.setAttribute('aria-expanded', 'true');
  menu.showPopover();
  place();
  menu.querySelector('.item')?.focus();
});

// Below the link, at its right edge; above it where there is no room.
function place() {
  const box = (link() ?? document.body).getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = menu;
  const below = box.bottom + 4 + height <= window.innerHeight;
  menu.style.left = `${Math.max(8, Math.min(box.right - width, window.innerWidth - width - 8))}px`;
  menu.style.top = `${Math.max(8, below ? box.bottom + 4 : box.top - 4 - height)}px`;
}

let closed = '';
document.addEventListener('pointerdown', (event) => {
  const pressed = event.target.closest?.('a[data-menu]')?.getAttribute('href');
  closed = pressed === opener && menu.matches(':popover-open') ? pressed : '';
}, true);
menu.addEventListener('toggle', (event) => {
  if (event.newState !== 'closed') return;
  const from = link();
  from?.removeAttribute('aria-expanded');
  if (menu.contains(document.activeElement) || document.activeElement === document.body) from?.focus();
});
menu.addEventListener('click', (event) => {
  if (event.target.closest('.item')) setTimeout(() => menu.hidePopover()); // after it was sent
});
menu.addEventListener('keydown', (event) => {
  const items = [...menu.querySelectorAll('.item')];
  const at = items.indexOf(document.activeElement);
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  items.at(to % items.length)?.focus();
});
window.addEventListener('scroll', () => menu.matches(':popover-open') && place(), { passive: true });

// ── Columns ─────────────────────────────────────────────────────────────────────────────────────
document.addEventListener('change', (event) => {
  const form = event.target.closest?.('form[data-columns-form]');
  if (!form) return;
  const sent = new URLSearchParams(new FormData(form));
  form.closest('[data-columns]').dataset.columns = sent.getAll('column').join(' ');
  fetch(form.action, { method: 'POST', body: sent, keepalive: true, headers: { 'X-Answer': 'none', 'X-CSRFToken': token() } })
    .catch(() => {}); // kept for this page alone
});
