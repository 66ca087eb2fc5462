// Search in a log. The server looks through all of it and names lines; here the hits that are in
// the page are marked, and one goes from hit to hit. ":120" goes to that line.
const WAIT = 250; // ms after the last letter
const MOST = 10_000; // hits that are remembered
const MARKED = 3000; // … and marked at a time

export class Finder {
  #log;
  #url;
  #field;
  #form;
  #said;
  #steps;
  #words;
  #lines = []; // that have hits, in order
  #place = -1; // of the one somebody is at
  #next = null; // the byte to search on from
  #end = 0; // the byte to which was searched
  #asked = ''; // what the lines are for
  #turn = 0;
  #timer = 0;
  #mark = 0;

  constructor(section, log) {
    this.#log = log;
    this.#form = section.querySelector('[data-log-find]');
    if (!this.#form || !section.dataset.searchUrl) return;
    this.#url = section.dataset.searchUrl;
    this.#words = section.dataset;
    this.#field = this.#form.querySelector('input[type="search"]');
    this.#said = this.#form.querySelector('[data-log-hits]');
    this.#steps = [...this.#form.querySelectorAll('[data-log-next], [data-log-previous]')];
    const matchCase = this.#form.querySelector('[data-log-case]');
    this.#form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#go(1);
    });
    this.#field.addEventListener('input', () => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#search(), WAIT);
    });
    this.#field.addEventListener('keydown', (event) => {
      if (event.isComposing) return;
      if (event.key === 'Enter' && event.shiftKey) this.#go(-1);
      else if (event.key === 'F3') this.#go(event.shiftKey ? -1 : 1);
      else if (event.key === 'Escape' && this.#field.value) {
        this.#field.value = '';
        this.#search();
      } else return;
      event.preventDefault();
      event.stopPropagation();
    });
    for (const button of this.#steps) {
      button.addEventListener('click', () => this.#go('logNext' in button.dataset ? 1 : -1));
    }
    matchCase.addEventListener('click', () => {
      matchCase.setAttribute('aria-pressed', String(matchCase.getAttribute('aria-pressed') !== 'true'));
      this.#search();
    });
    this.#matchesCase = () => matchCase.getAttribute('aria-pressed') === 'true';
  }

  #matchesCase = () => false;

  get #line() {
    const found = /^:(\d{1,12})$/.exec(this.#field.value.trim());
    return found ? Number(found[1]) : null;
  }

  get #question() {
    return `${this.#matchesCase() ? 'Aa' : 'aa'}${this.#field.value}`;
  }

  async #search() {
    clearTimeout(this.#timer);
    const turn = ++this.#turn;
    const was = this.#lines[this.#place];
    this.#asked = this.#question;
    this.#lines = [];
    this.#place = -1;
    this.#next = null;
    this.#end = 0;
    if (!this.#field.value || this.#line !== null) {
      this.#tell();
      return;
    }
    this.#said.textContent = this.#words.searching;
    await this.#more(turn, 0);
    if (turn !== this.#turn) return;
    const seen = was ?? this.#log.seen;
    const found = this.#lines.findIndex((line) => line >= seen);
    if (this.#lines.length) await this.#to(found < 0 ? this.#lines.length - 1 : found);
    this.#tell();
  }

  // Look on from byte `from` until there are enough hits, or nothing is left.
  async #more(turn, from) {
    for (let next = from; next !== null;) {
      const url = new URL(this.#url, location.href);
      url.searchParams.set('q', this.#field.value);
      url.searchParams.set('from', next);
      if (this.#matchesCase()) url.searchParams.set('case', '1');
      let found;
      try {
        const answer = await fetch(url);
        if (!answer.ok) throw new Error(String(answer.status));
        found = await answer.json();
      } catch {
        if (turn === this.#turn) this.#said.textContent = this.#words.searchFailed;
        return;
      }
      if (turn !== this.#turn) return;
      const last = this.#lines.at(-1) ?? 0;
      this.#lines.push(...found.lines.filter((line) => line > last));
      this.#next = next = found.next;
      this.#end = found.end;
      this.#tell();
      if (this.#lines.length >= MOST) return;
    }
  }

  async #go(by) {
    if (this.#line !== null) {
      this.#log.jump(this.#line);
      return;
    }
    if (this.#asked !== this.#question) {
      await this.#search();
      return;
    }
    if (by > 0 && this.#place === this.#lines.length - 1) {
      // Later lines may have been written, or not been looked at yet.
      const from = this.#next ?? (this.#log.running ? Math.max(0, this.#end - 65_536) : null);
      if (from !== null) await this.#more(this.#turn, from);
    }
    if (!this.#lines.length) return;
    await this.#to((this.#place + by + this.#lines.length) % this.#lines.length);
  }

  async #to(place) {
    this.#place = place;
    this.#tell();
    await this.#log.jump(this.#lines[place]);
    this.#markHits();
  }

  #tell() {
    const any = this.#lines.length > 0;
    for (const button of this.#steps) button.hidden = !any;
    const all = this.#lines.length.toLocaleString(document.documentElement.lang) + (this.#next === null ? '' : '+');
    this.#said.textContent = !this.#field.value || this.#line !== null ? ''
      : any ? this.#words.hits.replace('{n}', (this.#place + 1).toLocaleString(document.documentElement.lang)).replace('{all}', all)
        : this.#words.noHits;
    this.#markHits();
  }

  // ── Marks ─────────────────────────────────────────────────────────────────────────────────────
  // The page has other lines now.
  changed() {
    if (!this.#lines?.length) return;
    clearTimeout(this.#mark);
    this.#mark = setTimeout(() => this.#markHits(), 100);
  }

  // Marked are ranges of text: no element comes or goes, and what somebody has selected stays.
  #markHits() {
    document.querySelectorAll('.log-line.is-hit').forEach((row) => row.classList.remove('is-hit'));
    const here = this.#lines[this.#place];
    if (here !== undefined) this.#log.row(here)?.classList.add('is-hit');
    if (!('highlights' in CSS)) return;
    const [all, now] = [new Highlight(), new Highlight()];
    const [first, last] = [this.#log.first, this.#log.last];
    let marked = 0;
    for (const line of this.#lines) {
      if (line < first || line > last || marked > MARKED) continue;
      const row = this.#log.row(line);
      for (const range of row ? this.#ranges(row.lastElementChild) : []) {
        (line === here ? now : all).add(range);
        marked += 1;
      }
    }
    CSS.highlights.set('log-hit', all);
    CSS.highlights.set('log-hit-now', now);
  }

  #ranges(text) {
    const fold = (words) => (this.#matchesCase() ? words : words.toLowerCase());
    const whole = fold(text.textContent);
    const words = fold(this.#field.value);
    if (!words || whole.length !== text.textContent.length) return [];
    const found = [];
    for (let at = whole.indexOf(words); at >= 0 && found.length < 50; at = whole.indexOf(words, at + words.length)) found.push(at);
    if (!found.length) return [];
    const nodes = [];
    const walker = document.createTreeWalker(text, NodeFilter.SHOW_TEXT);
    for (let begun = 0, node = walker.nextNode(); node; begun += node.length, node = walker.nextNode()) nodes.push([begun, node]);
    const place = (at) => {
      const [begun, node] = nodes.findLast(([start]) => start <= at);
      return [node, at - begun];
    };
    return found.map((at) => {
      const range = document.createRange();
      range.setStart(...place(at));
      range.setEnd(...place(at + words.length - 1));
      range.setEnd(range.endContainer, range.endOffset + 1);
      return range;
    });
  }
}
