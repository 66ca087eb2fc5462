// The form of a job: quick picks fill it in, and a draft survives a reload. The preview itself is htmx.

const form = document.querySelector('form[data-job-form]');

// ── Quick picks ─────────────────────────────────────────────────────────────────────────────────
form?.addEventListener('click', (event) => {
  const pick = event.target.closest('button[data-schedule]');
  if (!pick) return;
  event.preventDefault();
  const kind = form.querySelector(`input[name="job_type"][value="${pick.dataset.kind}"]`);
  kind.checked = true;
  form.elements.schedule.value = pick.dataset.schedule;
  form.elements.schedule.dispatchEvent(new Event('input', { bubbles: true }));
});

// ── Who comes back ──────────────────────────────────────────────────────────────────────────────
// A job for idle times makes way, unless a person has said otherwise.
const idle = form?.elements.only_when_idle;
if (idle) {
  const ways = () => [...form.querySelectorAll('input[name="on_presence"]')];
  const choose = (value) => { for (const way of ways()) way.checked = way.value === value; };
  const chosen = () => ways().find((way) => way.checked)?.value;
  let ours = !chosen();
  if (ours) choose(idle.checked ? 'displace' : 'continue');
  form.addEventListener('change', (event) => {
    if (event.target.name === 'on_presence') ours = false;
    if (event.target !== idle) return;
    if (idle.checked && chosen() === 'continue') { choose('displace'); ours = true; }
    else if (!idle.checked && ours) choose('continue');
  }, { capture: true });
}

// Under another kind the text of the last one would be wrong; what was typed for it comes back.
if (form) {
  const typed = {};
  let current = new FormData(form).get('job_type');
  form.addEventListener('change', (event) => {
    if (event.target.name !== 'job_type') return;
    typed[current] = form.elements.schedule.value;
    current = event.target.value;
    form.elements.schedule.value = typed[current] ?? '';
  }, { capture: true });
}

// ── What was wrong ──────────────────────────────────────────────────────────────────────────────
// The server has said it of what stood there before: a field that is being mended stops saying it.
form?.addEventListener('input', (event) => {
  const field = event.target.closest('[aria-invalid="true"]');
  if (!field) return;
  const told = (field.getAttribute('aria-describedby') ?? '').split(' ');
  for (const id of told.filter((each) => each.includes('-error'))) document.getElementById(id)?.remove();
  field.removeAttribute('aria-invalid');
});

// ── Draft ───────────────────────────────────────────────────────────────────────────────────────
const SKIPPED = new Set(['csrfmiddlewaretoken', 'version']);
const key = form && `daemon.draft.${form.dataset.draft}`;
const note = form?.querySelector('[data-draft-note]');

// Several boxes may have one name.
const keyOf = (field) => (field.type === 'checkbox' && field.value !== 'on' ? `${field.name}=${field.value}` : field.name);

function typedNow() {
  const fields = { version: form.elements.version?.value };
  for (const field of form.elements) {
    if (!field.name || SKIPPED.has(field.name) || field.type === 'submit') continue;
    if (field.type === 'radio') { if (field.checked) fields[field.name] = field.value; }
    else fields[keyOf(field)] = field.type === 'checkbox' ? field.checked : field.value;
  }
  return fields;
}

function restore(fields) {
  let changed = false;
  for (const field of form.elements) {
    if (!(keyOf(field) in fields) || SKIPPED.has(field.name)) continue;
    const value = fields[keyOf(field)];
    if (field.type === 'radio' || field.type === 'checkbox') {
      const checked = field.type === 'radio' ? field.value === value : value;
      changed ||= field.checked !== checked;
      field.checked = checked;
    } else if (field.value !== value) {
      field.value = value;
      changed = true;
    }
  }
  // What was typed belongs to the job as it was then: the server tells of changes since.
  if (changed && fields.version) form.elements.version.value = fields.version;
  return changed;
}

// Let all that is said of the form say what stands in it now.
function say() {
  for (const name of ['schedule', 'window', 'command', 'timeout_seconds']) {
    form.elements[name]?.dispatchEvent(new Event('input', { bubbles: true }));
  }
}

if (form) {
  const untouched = typedNow();
  try {
    const kept = JSON.parse(sessionStorage.getItem(key));
    const answered = document.querySelector('[data-errors]'); // the server has given back what was typed
    if (kept && !answered && restore(kept)) {
      note.hidden = false;
      for (const fold of form.querySelectorAll('details')) {
        if ([...fold.querySelectorAll('input, textarea, select')].some((f) => (f.type === 'checkbox' ? f.checked !== untouched[keyOf(f)] : (f.type !== 'radio' || f.checked) && f.value !== (untouched[f.name] ?? '')))) fold.open = true;
      }
      addEventListener('load', say);
    }
  } catch { /* unreadable or no storage: begin afresh */ }

  let timer = 0; // stays set after the first change: leaving the page keeps what was typed
  const keep = () => {
    try { sessionStorage.setItem(key, JSON.stringify(typedNow())); } catch { /* no storage, no draft */ }
  };
  form.addEventListener('input', () => { clearTimeout(timer); timer = setTimeout(keep, 200); });
  addEventListener('pagehide', () => { if (timer) keep(); });
  form.addEventListener('submit', (event) => {
    clearTimeout(timer);
    timer = 0;
    keep();
    if (['save', 'start'].includes(event.submitter?.name)) {
      try { sessionStorage.setItem(`daemon.sent.${form.dataset.draft}`, '1'); } catch { /* as above */ }
    }
  });
  const discard = () => {
    clearTimeout(timer);
    timer = 0;
    try { sessionStorage.removeItem(key); } catch { /* as above */ }
  };
  form.querySelector('[data-draft-discard]').addEventListener('click', () => {
    discard();
    restore(untouched);
    note.hidden = true;
    say();
    discard();
  });
  form.querySelector('[data-discard]').addEventListener('click', discard);
}
