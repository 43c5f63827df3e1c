// Arcs over a sentence: what the word under the mouse, or else the chosen one, looks at. Width says how much.
const WIDEST = 16, LEAST = 1, NS = 'http://www.w3.org/2000/svg';

function show(word, chosen) {
  const place = element.querySelector('.arcs'), line = place.querySelector('.arcs-line'), svg = line.querySelector('svg');
  const {seen, above, below} = JSON.parse(place.dataset.drawn), words = [...line.querySelectorAll('button')];
  const middle = at => words[at].offsetLeft + words[at].offsetWidth / 2;
  const top = words[word].offsetTop, bottom = top + words[word].offsetHeight;
  svg.replaceChildren();
  for (const [side, weights, from, sign] of [['above', above, top, -1], ['below', below, bottom, 1]])
    weights[word].forEach((weight, other) => {
      if (weight < seen) return;
      const x = middle(word), to = middle(other), far = Math.abs(x - to);
      const high = from + sign * Math.min(top - 12, 26 + far / 5);
      const path = document.createElementNS(NS, 'path');
      const ends = other === word ? [x - 9, x + 9] : [x, to];  // its own weight is a loop
      path.setAttribute('d', `M${ends[0]} ${from} C ${ends[0]} ${high}, ${ends[1]} ${high}, ${ends[1]} ${from}`);
      path.setAttribute('class', side);
      path.setAttribute('stroke-width', Math.max(LEAST, WIDEST * weight));
      svg.append(path);
    });
  words.forEach((button, at) => {
    const strongest = Math.max(above[word][at] ?? 0, below[word][at] ?? 0);
    button.classList.toggle('active', at === word);
    button.classList.toggle('seen', at !== word && strongest >= seen);
    if (!chosen) return;
    button.tabIndex = at === word ? 0 : -1;
    button.setAttribute('aria-pressed', at === word);
  });
  place.querySelector('.arcs-said').textContent = words[word].ariaLabel;
}

// The heatmap marks the pair of layers that is shown here.
function mark() {
  const drawn = element.querySelector('.arcs')?.dataset.drawn;
  if (drawn) charts.mark('similarity-heatmap', Math.max(...JSON.parse(drawn).layers), Math.min(...JSON.parse(drawn).layers));
}

const at = event => event.target.closest('[data-word]')?.dataset.word;
const chosen = () => element.querySelector('[data-word][aria-pressed=true]');
const again = () => { if (chosen()?.offsetParent) show(Number(chosen().dataset.word), false); };
element.addEventListener('mouseover', event => { if (at(event)) show(Number(at(event)), false); });
element.addEventListener('mouseleave', again);
element.addEventListener('click', event => { if (at(event)) show(Number(at(event)), true); });
element.addEventListener('focusin', event => { if (at(event)) show(Number(at(event)), true); });
element.addEventListener('keydown', event => {
  const words = [...element.querySelectorAll('[data-word]')], here = words.indexOf(document.activeElement);
  const to = {ArrowLeft: here - 1, ArrowRight: here + 1, Home: 0, End: words.length - 1}[event.key];
  if (here < 0 || to === undefined) return;
  words[Math.min(Math.max(to, 0), words.length - 1)].focus();
  event.preventDefault();
  event.stopPropagation();
});
watch('value', () => { again(); mark(); });
new ResizeObserver(again).observe(element);
again();
mark();
