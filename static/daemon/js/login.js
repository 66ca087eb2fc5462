// A one-time link carries its ticket behind the #, which browsers send to nobody. Take it out of
// the address bar and the history, and hand it in by the form of this page.
(() => {
  const handIn = () => {
    const found = location.hash.match(/^#t=([\w-]+)$/);
    if (!found) return;
    history.replaceState(null, '', location.pathname + location.search);
    const form = document.querySelector('[data-ticket]');
    form.elements.ticket.value = found[1];
    document.querySelector('[data-signing-in]').hidden = false;
    form.requestSubmit();
  };
  document.addEventListener('DOMContentLoaded', handIn);
  addEventListener('hashchange', handIn); // the link was opened where this page already stood
})();
