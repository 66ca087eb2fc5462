// Small manners of every page: actions without leaving, toasts, menus. Knows no rule.

const token = () => document.querySelector('meta[name="csrf-token"]')?.content ?? '';
const toasts = document.getElementById('toasts');

document.addEventListener('htmx:configRequest', (event) => {
  if (event.detail.verb !== 'get') event.detail.headers['X-CSRFToken'] = token();
});

// ── Actions ─────────────────────────────────────────────────────────────────────────────────────
// Buttons of the form #act are sent in the background: what they change comes back through the live
// regions, or is fetched by live.js while there is no connection. Where no server answers, the page
// stays, and says so.
const act = document.getElementById('act');
act?.addEventListener('submit', async (event) => {
  const button = event.submitter;
  if (!button || 'navigate' in button.dataset || !('WebSocket' in window)) return;
  event.preventDefault();
  if (button.getAttribute('aria-busy') === 'true' || button.getAttribute('aria-disabled') === 'true') return;
  button.setAttribute('aria-busy', 'true');
  const sent = new URLSearchParams(new FormData(act, button));
  try {
    const answer = await fetch(button.formAction, {
      method: 'POST', body: sent, headers: { 'X-Answer': 'toast', 'X-CSRFToken': token() },
    });
    if (answer.redirected) location.assign(answer.url);
    else if (answer.ok) {
      show(await answer.text());
      document.dispatchEvent(new CustomEvent('daemon:acted'));
    } else {
      act.action = button.formAction;
      if (button.name) act.append(Object.assign(document.createElement('input'), { type: 'hidden', name: button.name, value: button.value }));
      act.submit(); // the server's own page says what is wrong
    }
  } catch {
    show(toasts.querySelector('template')?.innerHTML ?? ''); // nobody answered
  } finally {
    button.removeAttribute('aria-busy');
  }
});

// Do what a button of the form #act with this address would do.
export function pressed(address) {
  const button = Object.assign(document.createElement('button'), { type: 'submit', hidden: true, formAction: address });
  act.append(button);
  act.requestSubmit(button);
  button.remove();
}

// ── Toasts ──────────────────────────────────────────────────────────────────────────────────────
const STAY = 8000;

export function show(html) {
  const holder = document.createElement('template');
  holder.innerHTML = html;
  for (const toast of holder.content.querySelectorAll('[data-toast]')) {
    toasts.append(toast);
    live(toast);
  }
}

function live(toast) {
  // What went wrong stays until it is closed.
  if (toast.classList.contains('is-fail') || toast.classList.contains('is-warn')) return;
  let timer;
  const wait = () => { timer = setTimeout(() => toast.remove(), STAY); };
  const hold = () => clearTimeout(timer);
  for (const name of ['pointerenter', 'focusin']) toast.addEventListener(name, hold);
  for (const name of ['pointerleave', 'focusout']) toast.addEventListener(name, () => { hold(); wait(); });
  wait();
}

toasts?.querySelectorAll('[data-toast]').forEach(live);
document.addEventListener('click', (event) => {
  event.target.closest?.('[data-close]')?.closest('[data-toast]')?.remove();
});

// ── Menus, filters ──────────────────────────────────────────────────────────────────────
document.addEventListener('click', (event) => {
  for (const menu of document.querySelectorAll('details.menu[open]')) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});
document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape') {
    const menu = document.querySelector('details.menu[open]');
    if (menu) {
      menu.open = false;
      menu.querySelector('summary').focus();
    }
  }
});
document.addEventListener('change', (event) => {
  const form = event.target.closest?.('form[data-autosubmit]');
  if (!form) return;
  for (const field of form.elements) if (!field.value) field.disabled = true; // a clean address
  form.submit();
});

// ── Drafts that were sent ───────────────────────────────────────────────────────────────────────
// A draft may go once the page after sending it is no longer the form (see preview.js).
try {
  const kept = document.querySelector('form[data-draft]')?.dataset.draft;
  for (const key of Object.keys(sessionStorage)) {
    const name = /^daemon\.sent\.(.+)$/.exec(key)?.[1];
    if (!name) continue;
    sessionStorage.removeItem(key);
    if (name !== kept) sessionStorage.removeItem(`daemon.draft.${name}`);
  }
} catch { /* no storage: no drafts */ }
