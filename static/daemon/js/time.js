// Times that move. One timer rewrites every <time data-show>; the server's clock decides.
// The wording is that of daemon_app/formats.py; tests/pages/formats.json holds both to it.

const NBSP = '\u00a0';
const WEEKDAYS = {
  de: ['Sonntag', 'Montag', 'Dienstag', 'Mittwoch', 'Donnerstag', 'Freitag', 'Samstag'],
  en: ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday'],
};
const SHORT_WEEKDAYS = {
  de: ['So', 'Mo', 'Di', 'Mi', 'Do', 'Fr', 'Sa'],
  en: ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'],
};
const MONTHS = {
  de: ['Jan.', 'Feb.', 'März', 'Apr.', 'Mai', 'Juni', 'Juli', 'Aug.', 'Sept.', 'Okt.', 'Nov.', 'Dez.'],
  en: ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'],
};
const WORDS = {
  de: {
    justNow: 'gerade eben', now: 'jetzt', ago: 'vor {}', in: 'in {}',
    left: 'noch etwa {}', estimate: 'noch ≈ {}', soon: 'gleich fertig',
    '-1': 'gestern', 0: 'heute', 1: 'morgen',
    s: 's', min: 'Min.', h: 'Std.', day: 'Tag', days: 'Tage', daysDative: 'Tagen', clock: '{} Uhr', dot: '.',
  },
  en: {
    justNow: 'just now', now: 'now', ago: '{} ago', in: 'in {}',
    left: 'about {} left', estimate: '≈ {} left', soon: 'almost done',
    '-1': 'yesterday', 0: 'today', 1: 'tomorrow',
    s: 's', min: 'min', h: 'h', day: 'day', days: 'days', daysDative: 'days', clock: '{}', dot: '',
  },
};

const calendars = new Map();

// What the calendar and the clock show at `at` in `zone`; `serial` counts days.
function wall(at, zone) {
  let calendar = calendars.get(zone);
  if (!calendar) {
    calendar = new Intl.DateTimeFormat('en-GB', {
      timeZone: zone, year: 'numeric', month: 'numeric', day: 'numeric',
      hour: '2-digit', minute: '2-digit', hourCycle: 'h23',
    });
    calendars.set(zone, calendar);
  }
  const part = Object.fromEntries(calendar.formatToParts(at).map((p) => [p.type, p.value]));
  const serial = Date.UTC(part.year, part.month - 1, part.day) / 86400000;
  return {
    serial, year: Number(part.year), month: Number(part.month), day: Number(part.day),
    weekday: new Date(serial * 86400000).getUTCDay(), clock: `${part.hour}:${part.minute}`,
  };
}

const dayAndMonth = (there, language) =>
  `${there.day}${WORDS[language].dot} ${MONTHS[language][there.month - 1]}`;

export function moment(at, now, zone, language) {
  const [there, here] = [wall(at, zone), wall(now, zone)];
  const days = there.serial - here.serial;
  if (Math.abs(days) < 2) return `${WORDS[language][days]} ${there.clock}`;
  if (Math.abs(days) < 7) return `${SHORT_WEEKDAYS[language][there.weekday]} ${there.clock}`;
  const year = there.year === here.year ? '' : ` ${there.year}`;
  return `${dayAndMonth(there, language)}${year}, ${there.clock}`;
}

export function shortMoment(at, now, zone, language) {
  const [there, here] = [wall(at, zone), wall(now, zone)];
  const days = there.serial - here.serial;
  if (days === 0) return there.clock;
  if (Math.abs(days) < 7) return `${SHORT_WEEKDAYS[language][there.weekday]} ${there.clock}`;
  return dayAndMonth(there, language) + (there.year === here.year ? '' : ` ${there.year}`);
}

export function day(at, zone, language) {
  const there = wall(at, zone);
  const weekday = SHORT_WEEKDAYS[language][there.weekday];
  return `${weekday}${WORDS[language].dot}, ${dayAndMonth(there, language)} ${there.year}`;
}

export function dayHeading(at, now, zone, language) {
  const [there, here] = [wall(at, zone), wall(now, zone)];
  const word = Math.abs(there.serial - here.serial) < 2 && WORDS[language][there.serial - here.serial];
  if (word) return word[0].toUpperCase() + word.slice(1);
  return `${WEEKDAYS[language][there.weekday]}, ${dayAndMonth(there, language)} ${there.year}`;
}

// The head of the page: "Di., 24. Nov. · 14:32 Uhr".
export function dateAndClock(at, zone, language) {
  const there = wall(at, zone);
  const weekday = SHORT_WEEKDAYS[language][there.weekday] + WORDS[language].dot;
  return `${weekday}, ${dayAndMonth(there, language)} · ${WORDS[language].clock.replace('{}', there.clock)}`;
}

export function relative(at, now, language, coarse = false) {
  const words = WORDS[language];
  if (at <= now) {
    const seconds = Math.floor((now - at) / 1000);
    return seconds < 60 ? words.justNow : words.ago.replace('{}', span(seconds, language, { coarse: true, dative: true }));
  }
  return words.in.replace('{}', span(Math.ceil((at - now) / 1000), language, { coarse, dative: true }));
}

// How long until something is done; a guess is by its past runs.
export function left(at, now, language, guess = false) {
  const words = WORDS[language];
  if (at <= now) return words.soon;
  return words[guess ? 'estimate' : 'left'].replace('{}', span(Math.ceil((at - now) / 1000), language, {}));
}

export function duration(seconds, language, exact = false) {
  seconds = Math.max(0, seconds);
  if (exact && seconds < 0.0005) return `<${NBSP}1${NBSP}ms`;
  if (exact && seconds < 0.0995) return `${Math.round(seconds * 1000)}${NBSP}ms`;
  if (exact && seconds < 9.95) {
    const written = seconds.toFixed(1);
    return `${language === 'de' ? written.replace('.', ',') : written}${NBSP}${WORDS[language].s}`;
  }
  return span(Math.floor(seconds), language, { secondsBelow: 600 });
}

export function number(value, language) {
  return String(value).replace(/\B(?=(\d{3})+$)/g, language === 'de' ? '.' : ',');
}

function span(seconds, language, { coarse = false, dative = false, secondsBelow = 0 }) {
  const words = WORDS[language];
  const minutes = Math.floor(seconds / 60);
  const hours = Math.floor(minutes / 60);
  const days = Math.floor(hours / 24);
  if (!minutes) return `${seconds}${NBSP}${words.s}`;
  let first, second, unit;
  if (!hours) [first, second, unit] = [`${minutes}${NBSP}${words.min}`, seconds >= secondsBelow ? 0 : seconds % 60, words.s];
  else if (!days) [first, second, unit] = [`${hours}${NBSP}${words.h}`, minutes % 60, words.min];
  else {
    const name = days === 1 ? words.day : dative ? words.daysDative : words.days;
    [first, second, unit] = [`${number(days, language)}${NBSP}${name}`, days < 7 ? hours % 24 : 0, words.h];
  }
  return coarse || !second ? first : `${first} ${second}${NBSP}${unit}`;
}

// ── The ticking page ────────────────────────────────────────────────────────────────────────────

let offset = 0; // server's clock minus ours, in ms

export function setServerClock(at) {
  const server = at instanceof Date ? at.getTime() : Date.parse(at);
  if (!Number.isNaN(server)) offset = server - Date.now();
}
export const serverNow = () => new Date(Date.now() + offset);

const SHOW = {
  moment: (at, now, zone, language) => moment(at, now, zone, language),
  short: (at, now, zone, language) => shortMoment(at, now, zone, language),
  relative: (at, now, zone, language) => relative(at, now, language),
  coarse: (at, now, zone, language) => relative(at, now, language, true),
  since: (at, now, zone, language) => duration((now - at) / 1000, language),
  left: (at, now, zone, language) => left(at, now, language),
  estimate: (at, now, zone, language) => left(at, now, language, true),
  now: (at, now, zone, language) => dateAndClock(now, zone, language),
};

export function tick(root = document) {
  const html = document.documentElement;
  if (html.dataset.live === 'stale') return; // a clock that knows nothing new must not look alive
  const now = serverNow();
  const language = html.lang in WORDS ? html.lang : 'en';
  for (const time of root.querySelectorAll('time[data-show]')) {
    const show = SHOW[time.dataset.show];
    const text = show?.(new Date(time.dateTime), now, time.dataset.zone || html.dataset.zone, language);
    if (text && time.textContent !== text) time.textContent = text;
  }
  for (const meter of root.querySelectorAll('progress[data-usual]')) {
    const part = (now - Date.parse(meter.dataset.since)) / 1000 / Number(meter.dataset.usual);
    meter.value = Math.min(100, Math.max(0, part * 100));
    meter.classList.toggle('over', part > 1);
  }
}

if (typeof document !== 'undefined' && document.documentElement.dataset.now) {
  // The page's clock was written while the response began.
  const [entry] = performance.getEntriesByType('navigation');
  const age = entry && entry.type !== 'back_forward' ? performance.now() - entry.responseStart : 0;
  setServerClock(new Date(Date.parse(document.documentElement.dataset.now) + age));
  document.addEventListener('daemon:clock', (event) => setServerClock(event.detail));
  setInterval(() => { if (!document.hidden) tick(); }, 1000);
  document.addEventListener('visibilitychange', () => { if (!document.hidden) tick(); });
  tick();
}
