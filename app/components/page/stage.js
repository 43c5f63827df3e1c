// Two texts side by side. Which of them is of the present model and plan, which is which while that is a secret, and where
// the mark is in sight: all that is known here, without a request.
const stage = element.querySelector('.stage');
const words = JSON.parse(props.words);
const said = stage.querySelector('.verdict'), note = stage.querySelector('.memory');
const acts = Object.fromEntries([...stage.querySelectorAll('[data-act]')].map(button => [button.dataset.act, button]));
const panes = [...stage.querySelectorAll('[data-place]')].map(holder => ({
  holder, frame: holder.querySelector('.pane'), title: holder.querySelector('h3'), box: holder.querySelector('.text'),
  body: holder.querySelector('.text > div'), likeliest: holder.querySelector('.likeliest'),
  facts: holder.querySelector('.measured'), away: false,
}));
const GUESSES = 'shared-attention-guesses';  // of this tab
let shown = null;  // the newest texts; what is said without texts (a place in the line, say) leaves them there
let revealed = false, outcome = '';

const fill = (sentence, values) => sentence.replace(/\{(\w+)\}/g, (_, name) => values[name]);
const filled = new Map();  // place → the HTML that it was given
const put = (place, content) => {
  if (filled.get(place) === content) return;
  filled.set(place, content);
  place.innerHTML = content;
};
const key = ({model, plan, heads}) => JSON.stringify([model, plan, heads || '']);

const left = () => document.querySelector('#generate-against :is(input, textarea)');  // the plan of the left text

function paint(pane, index) {
  const open = revealed && shown.secret ? shown.secret[index] : shown.panes[index];
  pane.holder.id = 'pane-' + (open.side || pane.holder.dataset.place);
  pane.frame.className = ('pane ' + open.side).trim();
  pane.title.textContent = open.title;
  for (const named of [pane.frame, pane.box]) named.setAttribute('aria-label', open.title);
  put(pane.body, shown.panes[index].text);
  put(pane.likeliest, shown.panes[index].likeliest);
  put(pane.facts, open.facts);
  if (pane.away) return;
  const mark = pane.body.querySelector('mark'), end = pane.box.scrollHeight - pane.box.clientHeight;
  const line = parseFloat(getComputedStyle(pane.box).lineHeight);
  pane.box.scrollTop = mark ? Math.min(end, mark.offsetTop - line) : end;  // the mark stays in sight, else the end does
}

function render() {
  const now = props.value || {}, waits = now.state === 'waiting';
  if (now.panes) {
    if (!shown || shown.asked.run !== now.asked.run) {
      revealed = false;
      outcome = '';
      for (const pane of panes) pane.away = false;
    }
    shown = now;
  }
  stage.dataset.state = now.state || '';
  stage.dataset.run = shown?.asked.run || '';
  const present = explorer.view;
  const other = !!shown && !!left() && left().value.trim() !== (shown.asked.against || '');
  const old = !!shown && !!present.model && (key(shown.view) !== key(present) || other);
  stage.classList.toggle('outdated', old);
  if (shown) panes.forEach(paint);
  const rests = !waits && !!shown && now.state !== 'running';
  const secret = rests && !!shown.secret && !revealed;
  const sentences = waits || now.line ? [now.line || words.waiting] : shown ? [shown.verdict] : [];
  if (rests && shown.state === 'paused' && !now.line) sentences.push(words.paused);
  if (outcome && !waits) sentences.push(outcome);
  if (old && !waits) sentences.push(words.outdated);
  const sentence = sentences.join(' ') || '\u00a0';
  if (said.textContent !== sentence) said.textContent = sentence;
  note.textContent = (revealed && shown?.secret ? shown.secret[0].note : shown?.note) || '\u00a0';
  acts.further.hidden = !(rests && shown.state === 'paused');
  acts.anew.hidden = !old || waits;
  for (const act of ['left', 'right', 'reveal']) acts[act].hidden = !secret;
  for (const act of ['left', 'right']) acts[act].textContent = words[shown?.asked.against ? `${act}_of_two` : act];
}

function guesses() {
  try {
    return {right: 0, guesses: 0, ...JSON.parse(sessionStorage.getItem(GUESSES))};
  } catch {
    return {right: 0, guesses: 0};
  }
}

// guess: 'left', 'right', or nothing for who only wants to know.
function reveal(guess) {
  revealed = true;
  const place = shown.secret.findIndex(one => one.side === 'shared'), shared = words.places[place];
  const of_two = shown.asked.against ? '_of_two' : '';
  if (shown.same) outcome = words.same_model;
  else if (!guess) outcome = fill(words[`revealed${of_two}`], {shared});
  else {
    const right = guess === panes[place].holder.dataset.place, count = guesses();
    count.guesses += 1;
    count.right += right;
    sessionStorage.setItem(GUESSES, JSON.stringify(count));
    outcome = fill(words[`was_${right ? 'right' : 'wrong'}${of_two}`], {shared}) + ' ' + fill(words.count, count);
  }
  render();
  panes[0].box.focus({preventScroll: true});  // the pressed button is gone
}

acts.further.addEventListener('click', () => {
  const asked = revealed ? {...shown.asked, hidden: false} : shown.asked;
  panes[0].box.focus({preventScroll: true});
  trigger('submit', {further: asked});
});
acts.anew.addEventListener('click', () => {
  document.querySelector('#generate-stop:not([disabled])')?.click();  // what is being written is outdated, too
  trigger('submit', {});
});
acts.left.addEventListener('click', () => reveal('left'));
acts.right.addEventListener('click', () => reveal('right'));
acts.reveal.addEventListener('click', () => reveal(''));
document.addEventListener('click', event => {  // a double click asks for one pair of texts
  if (event.detail > 1 && event.target.closest?.('#generate-go')) event.stopPropagation();
}, true);
for (const pane of panes)  // who scrolls by themselves is left where they are
  for (const gesture of ['wheel', 'touchmove', 'pointerdown', 'keydown'])
    pane.box.addEventListener(gesture, event => { pane.away ||= event.key !== 'Tab'; }, {passive: true});

function changed() {
  if (props.value?.state === 'ready') setTimeout(() => trigger('submit', {}), 0);  // when prompt and settings are there
  else render();
}
document.addEventListener('input', event => { if (event.target === left()) render(); });
watch('value', changed);
explorer.subscribe('view', render);
changed();
