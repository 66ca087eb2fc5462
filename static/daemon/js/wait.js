// Looks ever more rarely whether the server is ready, and loads the page then; gives up in the end.
(() => {
  const place = document.querySelector('[data-wait]');
  const LONGEST = 600_000; // ms
  let pause = 2000;
  const look = async () => {
    try {
      const answer = await fetch(location.href, { headers: { 'X-Unattended': 'wait' }, cache: 'no-store' });
      if (answer.status !== 503) {
        location.reload();
        return;
      }
    } catch { /* it does not listen just now */ }
    if (performance.now() > LONGEST) {
      place.textContent = place.dataset.over;
      return;
    }
    pause = Math.min(15_000, pause * 1.5);
    setTimeout(look, pause);
  };
  setTimeout(look, pause);
})();
