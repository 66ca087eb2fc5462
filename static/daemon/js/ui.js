// Small manners of every page: actions without leaving, toasts, menus. Knows no rule.

const token = () => document.querySelector('meta[name="csrf-token"]')?.content ?? '';
const toasts = document.getElementById('toasts');

document.addEventListener('htmx:configRequest', (event) => {
  if (event.detail.verb !== 'get') event.detail.headers['X-CSRFToken'] = token();
});

// ── Forms that came back ────────────────────────────────────────────────────────────────────────
// What is wrong may be far below the fold. The form of a job has a summary that leads there itself.
// Not before `load`: going to the fragment of the address takes the focus away.
if (!document.querySelector('[autofocus]')) {
  addEventListener('load', () => {
    if (document.activeElement === document.body) document.querySelector('[aria-invalid="true"]')?.focus();
  });
}

// ── Actions ─────────────────────────────────────────────────────────────────────────────────────
// Buttons of the form #act, and of forms that say data-act, are sent in the background: what they
// change comes back through the live regions, or is fetched by live.js while there is no connection.
// Until then they say that they are being sent. Where nobody answers, or no is the answer, the page
// stays as it was, and says so.
document.addEventListener('submit', async (event) => {
  const act = event.target;
  const button = event.submitter;
  if (!act.matches('#act, form[data-act]') || !button || 'navigate' in button.dataset || !('WebSocket' in window)) return;
  event.preventDefault();
  if (button.getAttribute('aria-busy') === 'true' || button.getAttribute('aria-disabled') === 'true') return;
  const settle = sending(button);
  const sent = new URLSearchParams(new FormData(act, button));
  button.closest('details.menu')?.removeAttribute('open');
  try {
    const answer = await fetch(button.formAction, {
      method: 'POST', body: sent, headers: { 'X-Answer': 'toast', 'X-CSRFToken': token() }, signal: AbortSignal.timeout(30_000),
    });
    if (answer.redirected) location.assign(answer.url);
    else if (answer.ok) {
      show(await answer.text());
      if (act.id !== 'act') act.reset();
      document.dispatchEvent(new CustomEvent('daemon:acted'));
      await shown(button);
    } else if (answer.status === 401) document.dispatchEvent(new CustomEvent('daemon:signed-out'));
    else refuse(await answer.text());
  } catch {
    show(toasts.querySelector('template')?.innerHTML ?? ''); // nobody answered
  } finally {
    settle();
  }
});

// Do what a button of the form #act with this address would do.
export function pressed(address) {
  const button = Object.assign(document.createElement('button'), { type: 'submit', hidden: true, formAction: address });
  act.append(button);
  act.requestSubmit(button);
  button.remove();
}

// Mark a button and what is beside it as being sent, whatever the server shows meanwhile; returns
// what ends that.
function sending(button) {
  const beside = button.closest('.actions') ?? button.parentElement;
  const ends = [[button, 'aria-busy', 'true'], [beside, 'data-sending', toasts.dataset.wordsSending ?? '']].map(([element, name, value]) => {
    const kept = element.getAttribute('data-live-keep');
    element.setAttribute('data-live-keep', [kept, name, 'data-live-keep'].filter(Boolean).join(' '));
    element.setAttribute(name, value);
    return () => {
      element.removeAttribute(name);
      if (kept === null) element.removeAttribute('data-live-keep');
      else element.setAttribute('data-live-keep', kept);
    };
  });
  return () => ends.forEach((end) => end());
}

// Wait until the region a button stands in shows what came of it; not every action shows there.
function shown(button) {
  return new Promise((done) => {
    const end = () => {
      clearTimeout(timer);
      document.removeEventListener('daemon:shown', look);
      done();
    };
    const look = (event) => { if (event.target.contains(button) || !button.isConnected) end(); };
    const timer = setTimeout(end, 1000);
    document.addEventListener('daemon:shown', look);
  });
}

// Say no in the words of the page that the server answered with.
function refuse(page) {
  const answer = new DOMParser().parseFromString(page, 'text/html');
  const why = [...answer.querySelectorAll('main h1, main h1 + p')].map((each) => each.textContent.trim()).filter(Boolean).join(' – ');
  const holder = document.createElement('div');
  holder.innerHTML = toasts.querySelector('template')?.innerHTML ?? '';
  const words = holder.querySelector('.words');
  if (words) words.textContent = toasts.dataset.wordsRefused.replace('{why}', () => why);
  show(holder.innerHTML);
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
