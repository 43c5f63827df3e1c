// The talk: a dialog over the whole page. What the page holds stays as it is behind it, and cannot be reached meanwhile.
// Names of events that the server listens to: 'write', 'halt'.
const overlay = element.querySelector('.talk');
const find = selector => overlay.querySelector(selector);
const slides = JSON.parse(props.slides), words = JSON.parse(props.words), templates = JSON.parse(props.templates);
const title = find('#talk-title'), said = find('.talk-said'), slide = find('.talk-slide'), status = find('.talk-status'), keys = find('.talk-keys');
const own_title = document.title;
let at = 0, level = 'student', open = false, blank = false, writes = false;
let wants = false, has = false, leaves = false;  // the full screen: see there
let from = null, back = null;  // what had the focus before, and what is to have it afterwards
let inert = [], watchers = [];
let made = new Map();  // slide → what the server made of the page's present view
let about = '';  // the view that it was made of

const fill = (sentence, values) => sentence.replace(/{(\w+)}/g, (_, name) => values[name]);
const announce = sentence => { status.textContent = sentence; };

// What a slide shows

function content(name) {
  const mine = made;
  if (!mine.has(name)) {
    mine.set(name, server.slide({name, view: explorer.view}).then(found => {
      if (!found) mine.delete(name);  // whoever comes back asks again
      return found;
    }));
  }
  return mine.get(name);
}

async function fill_slide() {
  if (!about) { put(words.wait); return; }  // the page is not filled yet
  const {name} = slides[at], mine = made;
  const here = () => open && slides[at].name === name && made === mine;
  const waits = setTimeout(() => { if (here()) put(words.wait); }, 150);
  const found = await content(name);
  clearTimeout(waits);
  if (!here()) return;
  if (found) await put_content(found);
  else put(words.failed);
  if (here() && at + 1 < slides.length) content(slides[at + 1].name);
}

function put(sentence) {
  const line = document.createElement('p');
  line.textContent = sentence;
  line.className = 'quiet';
  slide.replaceChildren(line);
}

async function put_content({html, figure}) {
  clear_chart();
  slide.innerHTML = html;
  slide.querySelectorAll('.talk-arcs').forEach(draw_arcs);
  const {name} = slides[at], mine = slide.firstElementChild;
  if (figure) await draw_chart(JSON.parse(figure));
  if (mine?.isConnected) slide.dataset.ready = name;  // else another slide was turned to while the chart was drawn
}

// Arcs over cells: of words, or of layers

function draw_arcs(box) {
  const groups = JSON.parse(box.dataset.arcs), cells = [...box.querySelectorAll('.talk-cells > *')];
  const chosen = Number(box.dataset.chosen ?? groups.length - 1), svg = box.querySelector('svg');
  const frame = svg.getBoundingClientRect(), words_look = box.classList.contains('talk-words');
  const middle = cells.map(cell => { const r = cell.getBoundingClientRect(); return (r.left + r.right) / 2 - frame.left; });
  svg.setAttribute('viewBox', '0 0 ' + frame.width + ' ' + frame.height);
  if (!('chosen' in box.dataset)) box.scrollLeft = box.scrollWidth;  // the word that looks is the last one
  const spread = Math.max(...groups[chosen].map(([i, j]) => Math.abs(middle[i] - middle[j])), 1);
  svg.innerHTML = groups[chosen].filter(([i, j, weight]) => i !== j && weight >= 0.01).map(([i, j, weight]) => {
    const apart = Math.abs(middle[i] - middle[j]), base = frame.height;
    const up = words_look ? 12 + (base - 36) * apart / spread : Math.min(base - 12, 24 + 0.6 * apart);
    const path = 'M ' + middle[i] + ' ' + base + ' C ' + middle[i] + ' ' + (base - up * 4 / 3) + ' ' + middle[j] + ' '
      + (base - up * 4 / 3) + ' ' + middle[j] + ' ' + base;
    return '<path d="' + path + '" style="stroke-width: ' + (2 + 16 * weight) + '; opacity: ' + (0.35 + 0.65 * weight) + '"/>';
  }).join('');
  if (!words_look) return;
  const weights = new Map(groups[chosen].map(([, j, weight]) => [j, weight]));
  cells.forEach((cell, index) => {
    cell.classList.toggle('talk-looks', index === chosen);
    const weight = weights.get(index) || 0;
    cell.querySelector('em').textContent = weight >= 0.05 ? Math.round(100 * weight) + '%' : '';
  });
}

function look_from(number) {
  const box = find('.talk-arcs.talk-words');
  box.dataset.chosen = number;
  draw_arcs(box);
  announce([...box.querySelectorAll('.talk-cells > *')].map(cell => cell.textContent).filter((_, index) => index <= number).join(' '));
}

function another_word() {
  const box = find('.talk-arcs.talk-words');
  if (!box) return;
  const count = box.querySelectorAll('.talk-cells > *').length, chosen = Number(box.dataset.chosen ?? count - 1);
  look_from(chosen <= 1 ? count - 1 : chosen - 1);  // the first has nothing to look at
}

// Charts: the page's own, in the type of the slide

// Not as a script with this address: gradio would take it for loaded while it is not.
let plotly = null;
const plotly_is_there = async () => {
  while (!window.Plotly) await new Promise(resolve => setTimeout(resolve, 50));
};
function load_plotly() {
  const address = new URL(props.plotly, document.baseURI).href;
  if (window.Plotly || [...document.scripts].some(script => script.src === address)) return plotly_is_there();
  plotly ??= fetch(address).then(answer => answer.blob()).then(code => {
    const script = document.createElement('script');
    script.src = URL.createObjectURL(code);
    document.head.append(script);
    return plotly_is_there();
  });
  plotly.catch(() => { plotly = null; });  // the next chart tries again
  return plotly;
}

async function draw_chart(figure) {
  const holder = find('.talk-chart'), {name} = slides[at];
  if (!holder) return;
  holder.setAttribute('role', 'img');
  holder.setAttribute('aria-label', figure.layout.meta?.description || '');
  try {
    await load_plotly();
  } catch {
    put(words.failed);
    return;
  }
  if (slides[at].name !== name || !holder.isConnected) return;
  const px = parseFloat(getComputedStyle(slide).fontSize);
  const layout = {...figure.layout, autosize: true};
  layout.template = structuredClone(templates[document.body.classList.contains('dark') ? 'dark' : 'light']);
  layout.template.layout.font.size = px;
  layout.font = {...layout.font, size: px};
  for (const axis of [layout.xaxis, layout.yaxis]) if (axis?.title) axis.title.font = {size: px};
  await Plotly.newPlot(holder, figure.data, layout, {staticPlot: true, responsive: true});
}

function clear_chart() {
  const holder = find('.talk-chart');
  if (holder && window.Plotly) Plotly.purge(holder);
}

// One slide

function show(number) {
  stop_writing();
  at = Math.min(Math.max(number, 0), slides.length - 1);
  const one = slides[at];
  clear_chart();
  slide.replaceChildren();
  slide.dataset.slide = one.name;
  delete slide.dataset.ready;
  title.textContent = one.title;
  said.textContent = one[level] || one.student;
  find('.talk-number').textContent = (at + 1) + ' / ' + slides.length;
  find('.talk-next-slide').textContent = at + 1 < slides.length ? fill(words.next, {title: slides[at + 1].title}) : words.last;
  announce(fill(words.status, {number: at + 1, count: slides.length, title: one.title}));
  remember(at + 1);
  document.title = (at + 1) + '. ' + one.title + ' · ' + own_title;
  overlay.scrollTop = 0;
  fill_slide();
}

function remember(number) {
  const url = explorer.address();
  if (number) url.searchParams.set('talk', number);
  else url.searchParams.delete('talk');
  if (String(url) !== String(window.location)) history.replaceState(history.state, '', url);
}

// The number of the slide that the address asks for, by number or by name; null where it asks for none.
function asked_for() {
  const wanted = explorer.address().searchParams.get('talk');
  if (wanted === null) return null;
  const named = slides.findIndex(one => one.name === wanted), number = Math.round(Number(wanted));
  return named >= 0 ? named : number >= 1 && number <= slides.length ? number - 1 : 0;
}

// Both models write

function start_writing() {
  if (slides[at].name !== 'part' || writes) return;
  writes = true;
  trigger('write');
}

function stop_writing() {
  if (writes) trigger('halt');
  writes = false;
}

watch('value', () => {
  if (!props.value) return;
  const {name, view, html, ended} = JSON.parse(props.value);
  if (ended) writes = false;
  if (JSON.stringify(view) !== about) return;
  const found = {html, figure: ''};
  made.set(name, Promise.resolve(found));
  if (!open || slides[at].name !== name) return;
  put_content(found);
  if (ended) announce(find('.talk-verdict')?.textContent || '');
});

// The full screen. The browser does what it is asked only a while later, when the talk may have been left or begun once more:
// `wants` is what was asked last, `has` what the browser has said since, `leaves` that it has yet to do what it was asked.

const fills = () => document.fullscreenElement === overlay;

function full_screen() {
  wants = true;
  if (leaves) return;  // asked afterwards
  if (navigator.userActivation?.isActive && overlay.requestFullscreen) overlay.requestFullscreen().catch(() => {});
}

function leave_full_screen() {
  wants = has = false;
  if (leaves || !fills()) return;
  leaves = true;
  document.exitFullscreen().catch(() => {}).then(() => {
    leaves = false;
    if (wants) full_screen();
    give_focus();
  });
}

document.addEventListener('fullscreenchange', () => {
  if (fills() && !wants) leave_full_screen();  // it comes when the talk is left already
  else if (fills()) has = true;
  else if (has) leave();  // Escape, which the browser keeps to itself there
});

// The dialog

function hold_back() {  // everything but the dialog and what it stands in
  for (let node = element; node && node !== document.body; node = node.parentElement) {
    const close_off = () => {
      for (const other of node.parentElement.children) {
        if (other === node || other.inert || ['SCRIPT', 'STYLE', 'LINK'].includes(other.tagName)) continue;
        other.inert = true;
        inert.push(other);
      }
    };
    close_off();
    const watcher = new MutationObserver(close_off);
    watcher.observe(node.parentElement, {childList: true});
    watchers.push(watcher);
  }
}

function let_go() {
  for (const watcher of watchers) watcher.disconnect();
  for (const other of inert) other.inert = false;
  inert = []; watchers = [];
}

function begin(number = at) {
  if (!open) {
    open = true;
    from = document.activeElement;
    overlay.hidden = false;
    document.documentElement.style.overflow = 'hidden';
    hold_back();
    full_screen();
  }
  show(number);
  title.focus({preventScroll: true});
}

// view: that of the slide, if none is named; null: that which is there.
function leave(view = slides[at].view) {
  if (!open) return;
  stop_writing();
  open = false;
  darken(false);
  keys.hidden = true;
  overlay.hidden = true;
  clear_chart();
  slide.replaceChildren();
  document.documentElement.style.overflow = '';
  document.title = own_title;
  announce('');
  let_go();
  remember(0);
  if (view) explorer.show(view);
  back = from?.isConnected && from !== document.body && from.offsetParent ? from : document.querySelector('[data-talk]');
  leave_full_screen();
  give_focus();
}

function give_focus() {
  if (!open && !leaves) back?.focus({preventScroll: true});  // on a full screen nothing else can have the focus
}

function darken(on) {
  blank = on;
  overlay.classList.toggle('blank', on);
  if (on) announce(words.blank);
}

const does = {
  back: () => show(at - 1),
  forth: () => show(at + 1),
  first: () => show(0),
  last: () => show(slides.length - 1),
  leave: () => leave(),
  blank: () => darken(!blank),
  help: () => { keys.hidden = !keys.hidden; },
  full: () => {
    if (fills() && !leaves) leave_full_screen();
    else full_screen();
  },
  write: start_writing,
  word: another_word,
};
const KEYS = {
  ArrowRight: 'forth', ArrowDown: 'forth', PageDown: 'forth', ' ': 'forth', ArrowLeft: 'back', ArrowUp: 'back', PageUp: 'back',
  Backspace: 'back', Home: 'first', End: 'last', Escape: 'leave', v: 'leave', p: 'leave', b: 'blank', '.': 'blank',
  h: 'help', '?': 'help', f: 'full', g: 'write', w: 'word',
};

const types = node => node?.isContentEditable || node?.closest?.('textarea, select, [role="textbox"], [role="combobox"]')
  || (node?.tagName === 'INPUT' && !['checkbox', 'radio', 'range', 'button', 'submit', 'file'].includes(node.type));

function around(event) {  // Tab stays inside
  const stops = [...overlay.querySelectorAll('a[href], button')].filter(one => one.offsetParent !== null);
  const first = stops[0], last = stops[stops.length - 1], now = document.activeElement;
  const inside = stops.includes(now);
  if (event.shiftKey ? now === first || !inside : now === last) {
    event.preventDefault();
    (event.shiftKey ? last : first)?.focus();
  }
}

function press(event) {
  if (!event.key || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (!open) {
    if (key === 'p' && !event.repeat && !types(event.target)) { event.preventDefault(); begin(); }
    return;
  }
  if (key === 'Tab') { around(event); return; }
  const on_button = event.target.closest?.('button, a[href]');
  if ((key === ' ' || key === 'Enter') && on_button && overlay.contains(on_button)) return;
  const wanted = key === ' ' && event.shiftKey ? 'back' : key === 'Enter' ? 'write' : KEYS[key];
  const number = /^[0-9]$/.test(key) ? (Number(key) + 9) % 10 : -1;
  if (!wanted && number < 0) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  if (event.repeat && !['back', 'forth'].includes(wanted)) return;
  if (blank && !['blank', 'leave'].includes(wanted)) { darken(false); return; }
  if (number >= 0) { if (number < slides.length) show(number); }
  else does[wanted]();
}

document.addEventListener('keydown', press, true);
overlay.addEventListener('click', event => {
  const button = event.target.closest('[data-does]'), link = event.target.closest('a[data-view]');
  const word = event.target.closest('.talk-words .talk-cells > *');
  if (button) does[button.dataset.does]();
  if (word) look_from([...word.parentElement.children].indexOf(word));
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  event.stopPropagation();
  leave(link.dataset.view);
});
document.addEventListener('click', event => { if (event.target.closest?.('[data-talk]')) begin(); });
window.addEventListener('popstate', () => {
  const wanted = asked_for();
  if (wanted === null) leave(null);
  else begin(wanted);
});
let resized = 0;
window.addEventListener('resize', () => {
  clearTimeout(resized);
  resized = setTimeout(() => { if (open) redraw(); }, 200);
});
function redraw() {  // in type of another size, or of another colour
  if (slide.dataset.ready && !writes) fill_slide();
}

explorer.subscribe('view', view => {
  if (about === JSON.stringify(view)) return;
  about = JSON.stringify(view);
  made = new Map();
  writes = false;
  if (open) fill_slide();
});
explorer.subscribe('level', chosen => {
  level = chosen;
  if (open) said.textContent = slides[at][level] || slides[at].student;
});
explorer.subscribe('theme', () => { if (open) redraw(); });
if (asked_for() !== null) begin(asked_for());
