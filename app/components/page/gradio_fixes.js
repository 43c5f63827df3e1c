// What gradio's own components lack for keyboards, screen readers and paper, mended from outside. `words`: text.GRADIO_FIXES.

// Its list boxes stay open when Tab leaves them, above what comes next: gradio opens them at any key but Escape. They are
// closed as Escape closes them, and gradio does not see the Tab.
document.addEventListener('keydown', event => {
  const box = event.target.closest?.('[role=combobox][aria-expanded=true]');
  if (!box || event.key !== 'Tab') return;
  event.stopPropagation();
  box.dispatchEvent(new KeyboardEvent('keydown', {key: 'Escape', bubbles: true}));
}, true);

// Its words when the server is gone do not say that nothing is lost.
const say = toast => {
  const message = toast.querySelector('.toast-message-text'), title = toast.querySelector('.toast-title');
  if (!/^Connection to the server was lost/.test(message?.textContent.trim())) return;
  message.textContent = words.lost;
  if (title) title.textContent = words.lost_title;
  broken();
};
// An evaluation that ran on it does not go on by itself, and gradio waits for it: the address has all that was chosen.
const broken = () => {
  const progress = document.querySelector('#evaluate-progress'), stop = document.querySelector('#evaluate-stop');
  if (!progress || !stop || stop.disabled || document.querySelector('#evaluate-broken')) return;
  const note = document.createElement('p'), link = document.createElement('a');
  note.id = 'evaluate-broken';
  note.className = 'note';
  link.href = location.href;
  link.textContent = words.again;
  note.append(words.broken, ' ', link, '.');
  progress.append(note);
};
// Its radio buttons have a name each, so that every one is a stop of Tab and arrows do nothing: those of a block are one group.
const group = radio => { radio.name = `group-${radio.closest('.block')?.id || 'of-page'}`; };
// Its HTML cannot say that it speaks: how far a computation is, and what came of it.
const SPEAKING = '#evaluate-progress, #where-progress, #suggest-progress, #guide-progress, #offer-progress, #guide-verdict';
const speak = part => part.setAttribute('aria-live', 'polite');
new MutationObserver(changes => {
  for (const {addedNodes} of changes)
    for (const node of addedNodes) {
      if (!(node instanceof HTMLElement)) continue;  // of charts come thousands
      node.querySelectorAll('input[type=radio]').forEach(group);
      node.querySelectorAll(SPEAKING).forEach(speak);
      if (node.matches(SPEAKING)) speak(node);
      (node.closest('.toast-wrap') || node).querySelectorAll('.toast-body').forEach(say);
    }
}).observe(document.documentElement, {childList: true, subtree: true});

// On paper everything is light and as wide as the sheet: charts are drawn for it, and back for the screen afterwards.
const SHRUNK = {where: 0.6, speed: 0.6, scores: 0.55};  // by print.css, so that two sheets hold them; others to 0.7
const WIDTH = 640, HALF = 305;  // px on the sheet
const screen_sizes = new Map();
let was_dark = false;
const charts = () => [...document.querySelectorAll('.chart')].filter(chart => chart.clientWidth && chart._fullLayout);
addEventListener('beforeprint', () => {
  was_dark = document.body.classList.contains('dark');
  if (was_dark) {
    document.body.classList.remove('dark');
    explorer.tell('theme', 'light');
  }
  const long = explorer.shown in SHRUNK, shrunk = long ? SHRUNK[explorer.shown] : 0.7, highest = long ? 270 : 460;
  for (const chart of charts()) {
    const {width, height, autosize} = chart.layout;
    screen_sizes.set(chart, {width: width ?? null, height: height ?? null, autosize: autosize ?? true});
    const low = chart.data.length ? Math.min(chart.clientHeight, highest) : 60;  // without data: one sentence
    chart.style.setProperty('--on-paper', `${low}px`);
    Plotly.relayout(chart, {width: (chart.closest('.charts') ? HALF : WIDTH) / shrunk, height: low, autosize: false});
  }
});
addEventListener('afterprint', () => {
  if (was_dark) {
    document.body.classList.add('dark');
    explorer.tell('theme', 'dark');
  }
  for (const [chart, sizes] of screen_sizes) Plotly.relayout(chart, sizes);
  screen_sizes.clear();
});
