// Light, dark or as the system has it; kept in this browser. Loaded in <head>, before the first paint.
// Also says that scripts run: what only a page without them needs (.without-script) is then hidden.
(() => {
  const KEY = 'daemon.theme';
  const html = document.documentElement;
  html.dataset.script = 'on';
  const ORDER = ['system', 'light', 'dark'];
  const read = () => {
    try { return ORDER.includes(localStorage.getItem(KEY)) ? localStorage.getItem(KEY) : 'system'; } catch { return 'system'; }
  };
  const apply = (theme) => {
    if (theme === 'system') delete html.dataset.theme;
    else html.dataset.theme = theme;
    for (const choice of document.querySelectorAll('[data-theme-choice]')) choice.checked = choice.value === theme;
    for (const button of document.querySelectorAll('[data-theme-switch]')) {
      const words = button.dataset[`label${theme[0].toUpperCase()}${theme.slice(1)}`];
      button.hidden = false;
      button.title = words;
      const text = button.querySelector('.word');
      if (text) text.textContent = words;
      else button.setAttribute('aria-label', words);
      for (const drawing of button.querySelectorAll('[data-for]')) drawing.toggleAttribute('hidden', drawing.dataset.for !== theme);
    }
  };
  apply(read());
  addEventListener('storage', (event) => { if (event.key === KEY) apply(read()); });
  document.addEventListener('DOMContentLoaded', () => {
    apply(read());
    const choose = (theme) => {
      try { localStorage.setItem(KEY, theme); } catch { /* the choice then lasts as long as the page */ }
      apply(theme);
    };
    document.addEventListener('click', (event) => {
      if (event.target.closest?.('[data-theme-switch]')) choose(ORDER[(ORDER.indexOf(read()) + 1) % ORDER.length]);
    });
    document.addEventListener('change', (event) => {
      if (event.target.matches?.('[data-theme-choice]')) choose(event.target.value);
    });
  });
})();
