// The layer strip: all layers in a row, and the hands of the page. Draws and says what a gesture makes before it asks anybody.
// plan.js and figures.js stand before this file. Props: value (app.facts), words (app.text.STRIP).

const words = JSON.parse(props.words);
const at = selector => element.querySelector(selector);
const [tiles, arcs, sentence, about, status] = ['.tiles', '.arcs', '.sentence', '.about', '[role=status]'].map(at);
const [does, positions] = ['.does select', '.does input'].map(at);  // what the next gesture makes of layers
const narrow = matchMedia('(max-width: 900px)');
const SVG = 'http://www.w3.org/2000/svg';
const NARROWEST = 26, NARROWEST_OF_ALL = 16, ARC_HEIGHT = 18;  // px; with narrower tiles than these come more rows

let facts = null;
// What is drawn: the page's plan, or what a gesture that goes on would make of it. Shared groups, and parts (plan.js).
let plan = {groups: [], parts: []};
let focused = 0;        // the tile that Tab reaches
let hovered = null;     // the layer under the mouse
let refused = null;     // the layer of which it is said why it cannot do what was asked
let start = null;       // a layer that was clicked: where the next click ends the span
let drag = null;        // {from, to, before, moved} while a pointer is down
let reach = null;       // {from, to, before} while Shift and arrows extend
let places = [], rows = 1, columns = 1;  // middle of each tile in px, and how many there are

const fill = (template, values) => template.replace(/\{(\w+)\}/g, (_, name) => values[name]);
const tileOf = layer => tiles.children[layer];
const isCurrent = () => facts && explorer.view.model === facts.model;
const pagesPlan = () => ({groups: readPlan(explorer.view.plan), parts: readParts(explorer.view.plan)});
const textOf = ({groups, parts}) => planText(groups, parts);
/** What rules the layers of the next gesture: `share`, `skip`, `kv`, `keys`, or `topk` with its number. */
const word = () => (does.value === 'topk' ? `topk${Math.max(1, Math.floor(Number(positions.value)) || 1)}` : does.value);
const dragged = (before, from, to) => withDrag(before.groups, before.parts, word(), from, to, facts.kinds);
/** The layer whose keys and values a layer of the dense model itself reads, as it was trained, or undefined. */
const nativeSource = layer => {
  const part = partOf(readParts(facts.native || ''), layer);
  return part && part.layers[0] !== layer ? part.layers[0] : undefined;
};
/** Whether the plan makes something else of a layer than the dense model does. */
const isNamed = layer => allOf(plan.groups, plan.parts).some(one => one.layers.includes(layer));

// What is drawn and said

function build() {
  if (tiles.children.length === facts.layers && tiles.dataset.model === facts.model) return;
  tiles.dataset.model = facts.model;
  tiles.replaceChildren(...range(0, facts.layers - 1).map(layer => {
    const tile = document.createElement('button');
    tile.type = 'button';
    tile.dataset.layer = layer;
    tile.tabIndex = -1;
    tile.setAttribute('aria-describedby', 'strip-about');
    const number = document.createElement('span');
    number.textContent = layer;
    tile.append(number, document.createElement('i'));
    return tile;
  }));
  focused = Math.min(focused, facts.layers - 1);
  arrange();
}

function shade() {
  const known = Object.values(facts.damage).map(([damage]) => damage);
  const log = damage => Math.log10(Math.max(damage, 1e-4));
  const [low, high] = [Math.min(...known.map(log)), Math.max(...known.map(log))];
  for (const [layer, tile] of [...tiles.children].entries()) {
    const found = facts.damage[layer];
    const harm = found ? (high > low ? (log(found[0]) - low) / (high - low) : 0.5) : 0;
    tile.lastChild.hidden = !found;
    tile.lastChild.style.setProperty('--harm', harm.toFixed(3));
  }
  const legend = at('.legend');
  legend.hidden = !known.length;
  if (known.length) {
    legend.title = fill(words.legend_title, {about: facts.damage_about});
    at('.legend .low').textContent = Math.min(...known).toPrecision(2);
    at('.legend .high').textContent = Math.max(...known).toPrecision(2);
  }
}

/** How many rows, and where the tiles are: read once, not while something moves. */
function arrange() {
  if (!facts || !tiles.clientWidth) return;
  const width = size => tiles.clientWidth / Math.ceil(facts.layers / size);
  rows = width(1) >= NARROWEST ? 1 : 2;
  while (rows < facts.layers && width(rows) < NARROWEST_OF_ALL) rows += 1;  // it may have no width yet
  columns = Math.ceil(facts.layers / rows);
  tiles.style.setProperty('--columns', columns);
  tiles.classList.toggle('rows', rows > 1);
  places = [...tiles.children].map(tile => [tile.offsetLeft + tile.offsetWidth / 2, tile.offsetTop]);
  arcs.setAttribute('viewBox', `0 0 ${tiles.clientWidth} ${tiles.clientHeight}`);
  drawArcs();
}

function drawArcs() {
  if (!places.length) return;
  const joined = allOf(plan.groups, plan.parts).filter(one => one.word !== 'skip').map(one => ({...one, word: one.word || 'once'}));
  const paths = joined.flatMap(({word, layers: [leader, ...followers]}) => followers.map(layer => {
    const path = document.createElementNS(SVG, 'path');
    path.setAttribute('d', arc(places[leader], places[layer]));
    path.classList.add(`by-${mechanismOf(word)}`);
    path.classList.toggle('lit', [leader, layer].includes(hovered ?? (element.contains(document.activeElement) ? focused : null)));
    return path;
  }));
  arcs.replaceChildren(...paths);
}

/** From the leader's tile to the follower's; into another row it comes in from the left. */
function arc([x, y], [to, below]) {
  const from = y === below ? x : 0, height = Math.min(ARC_HEIGHT - 2, 5 + (to - from) / 12);
  const top = below - height * 1.3;
  return `M${from} ${y === below ? below - 1 : top} C${from} ${top} ${to} ${top} ${to} ${below - 1}`;
}

function draw() {
  if (!isCurrent()) return;
  build();
  const {groups, parts} = plan, leaders = leadersOf(groups);
  element.classList.toggle('fixed', facts.fixed);
  element.classList.toggle('is-dense', !groups.length && !parts.length);
  for (let layer = 0; layer < facts.layers; layer += 1) {
    const tile = tileOf(layer), role = roleOf(groups, layer), leader = leaders.get(layer);
    const tabIndex = layer === focused ? 0 : -1;
    if (tile.tabIndex !== tabIndex) tile.tabIndex = tabIndex;
    const part = partOf(parts, layer), kind = part && partRole(part, layer);
    const all = partsOf(parts, layer), native = nativeSource(layer);
    const state = [role, leader, layer === start, facts.fixed, kind, JSON.stringify(all)].join();
    if (tile.dataset.state === state) continue;  // most stay as they are
    tile.dataset.state = state;
    tile.className = `tile ${role}${layer === start ? ' start' : ''}${part ? ` part ${kind}` : ''}${native === undefined ? '' : ' native'}`;
    tile.dataset.mark = kind && kind !== 'read' ? (words.marks[part.phase] || words.marks[mechanismOf(part.word)] || '')
      : native === undefined ? '' : words.marks.native;
    tile.setAttribute('aria-pressed', role === 'shared' || (!!part && kind !== 'read'));
    tile.setAttribute('aria-disabled', facts.fixed);
    tile.setAttribute('aria-label', part ? all.map(one => sayPart(one, layer, 'label')).join('; ') : fill(words[`label_${role}`], {layer, leader}));
    if (native !== undefined) tile.ariaLabel += `. ${fill(words.native, {leader: native})}`;
  }
  drawArcs();
  sentence.textContent = describePlan(groups, facts.layers, parts);
  tell();
}

/** Which mechanisms can be chosen: those that the model can do. */
function offer() {
  for (const option of does.options) {
    const cannot = facts.cannot?.[option.value] || '';
    option.disabled = !!cannot;
    option.title = cannot;
  }
  if (does.selectedOptions[0]?.disabled) does.value = 'share';
  does.disabled = positions.disabled = facts.fixed;
  positions.hidden = does.value !== 'topk';
}

/** The line below: about the layer under mouse or focus, else what a hand can do here. */
function tell() {
  const layer = hovered ?? (tiles.contains(document.activeElement) ? focused : null);
  const known = layer !== null && start === null && isCurrent();
  about.textContent = known && layer === refused ? words.first_stays : known ? aboutLayer(layer) : hint();
  about.classList.toggle('hint', !known);
}

function hint() {
  if (facts?.fixed) return words.fixed;
  if (start !== null) return fill(words.started, {layer: start});
  const head = explorer.view.heads ? `${words.heads_on} ` : '';
  const how = does.value === 'share' ? (narrow.matches ? words.hint_short : words.hint) : words.hints[does.value];
  return head + fill(how, {positions: positions.value});
}

/** What a layer of a part does, for the style sheet: `skipped`, `reads`, or `read`, which is the leader. */
function partRole(part, layer) {
  return part.word === 'skip' ? 'skipped' : layer === part.layers[0] ? 'read' : 'reads';
}

function sayPart(part, layer, kind) {
  const does = partRole(part, layer) === 'reads' ? mechanismOf(part.word) || 'shared' : partRole(part, layer);
  const [leader, ...followers] = part.layers, when = part.phase ? words[`${kind}_${part.phase}`] : '';
  return fill(words[`${kind}_${does}`], {layer, leader, followers: listed(followers), positions: part.word.slice(4)}) + when;
}

function aboutLayer(layer) {
  const part = partOf(plan.parts, layer), role = roleOf(plan.groups, layer);
  const group = plan.groups.find(one => one.includes(layer)) || [layer];
  const costs = facts.costs && facts.costs.sorts[facts.costs.sort_of[layer]];
  const does_it = fill(words[`does_${role}`], {layer, leader: group[0], followers: listed(group.slice(1))});
  const native = nativeSource(layer);
  const said = part ? partsOf(plan.parts, layer).map(one => sayPart(one, layer, 'does')) : [does_it];
  if (native !== undefined) said.push(fill(words.native, {leader: native}));
  if (costs) {
    const window = costs.window ? fill(words.window, {tokens: costs.window.toLocaleString('en')}) : '';
    const kept = cachedOf(layer);
    const size = bytesText(kept === 'values' ? costs.per_token / 2 : costs.per_token);
    said.push(fill(words[`caches_${kept}`], {size, window}));
  }
  const damage = facts.damage[layer];
  if (damage) said.push(fill(words.alone, {damage: changeText(damage[0], damage[1], digitsOf(damage[0]))}));
  return said.join(' ');
}

/** What a layer keeps of each token: `both` keys and values, `values` alone, or `nothing`. */
function cachedOf(layer) {
  const {groups, parts} = whileDecoding(plan.groups, plan.parts), part = partOf(parts, layer);
  if (nativeSource(layer) !== undefined) return 'nothing';
  if (!part) return roleOf(groups, layer) === 'shared' ? 'values' : 'both';
  const mechanism = partRole(part, layer) === 'read' ? 'computes' : mechanismOf(part.word);
  return {skip: 'nothing', kv: 'nothing', keys: 'values'}[mechanism] || 'both';
}

const digitsOf = value => Math.min(4, Math.max(2, 2 - Math.floor(Math.log10(Math.abs(value) || 1))));

// Gestures

function preview(made) {
  plan = made;
  draw();
  document.dispatchEvent(new CustomEvent('plan-preview', {detail: plan}));
}

/** Make `made` the plan of the page. */
function become(made, how = 'push') {
  const before = pagesPlan();
  const [heads, lost] = keptHeads(explorer.view.heads, before.groups, made.groups);
  const again = textOf(made) === textOf(before);
  plan = made;
  start = null;
  if (again) return draw();
  explorer.apply({plan: textOf(made), heads}, how);
  if (lost.length) status.textContent += ` ${fill(words.heads_lost, {layers: listed(lost)})}`;
  about.textContent = lost.length ? fill(words.heads_lost, {layers: listed(lost)}) : about.textContent;
}

/** The page's plan, with what layer `layer` does undone. */
function undone(layer) {
  const {groups, parts} = pagesPlan();
  return freed(groups, parts, layer);
}

function say(told) {
  status.textContent = '';
  status.textContent = told;
}

/** What a click, Enter and Space do to a tile. */
function press(layer) {
  reach = null;
  if (facts.fixed) return say(words.fixed);
  if (does.value === 'skip' && !plan.parts.some(one => one.word === 'skip' && !one.phase && one.layers.includes(layer))) {
    if (layer === 0) { refused = layer; draw(); return say(words.first_stays); }
    const {groups, parts} = pagesPlan();
    return become(withSkipped(groups, parts, [layer]));
  }
  if (start !== null && start !== layer) return become(dragged(pagesPlan(), start, layer));
  if (isNamed(layer)) return become(undone(layer));
  start = start === layer ? null : layer;
  draw();
  status.textContent = hint();
}

function focusOn(layer) {
  focused = Math.min(Math.max(layer, 0), facts.layers - 1);
  draw();
  tileOf(focused).focus({preventScroll: true});
}

function cancel() {
  if (drag) { const {before} = drag; drag = null; preview(before); }
  reach = null;
  start = null;
  draw();
}

tiles.addEventListener('keydown', event => {
  const tile = event.target.closest('.tile');
  if (!tile || !isCurrent() || event.ctrlKey || event.metaKey || event.altKey) return;
  const layer = Number(tile.dataset.layer);
  const moves = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns};
  const to = event.key === 'Home' ? 0 : event.key === 'End' ? facts.layers - 1 : layer + (moves[event.key] || 0);
  if (event.key in moves || event.key === 'Home' || event.key === 'End') {
    if (to < 0 || to >= facts.layers) return event.preventDefault();
    if (event.shiftKey && !facts.fixed) extend(layer, to);
    else reach = null;
    focusOn(to);
  } else if (event.key === 'Delete' || event.key === 'Backspace') {
    if (!facts.fixed && isNamed(layer)) become(undone(layer));
  } else if (event.key === 'Escape') {
    cancel();
  } else return;
  event.preventDefault();
});

/** Shift and an arrow: from where it began to here; one step back for all of it. */
function extend(layer, to) {
  const goes_on = reach && reach.to === layer && textOf(plan) === reach.text;
  if (!goes_on) reach = {from: layer, before: pagesPlan(), pushed: false};
  const made = dragged(reach.before, reach.from, to);
  const how = reach.pushed ? 'replace' : 'push';
  reach.pushed = reach.pushed || textOf(made) !== textOf(reach.before);
  const kept = reach;
  become(made, how);
  reach = {...kept, to, text: textOf(made)};
}

tiles.addEventListener('click', event => {
  const tile = event.target.closest('.tile');
  if (tile && isCurrent()) { focused = Number(tile.dataset.layer); press(focused); }
});

tiles.addEventListener('pointerdown', event => {
  const tile = event.target.closest('.tile');
  if (!tile || event.button || !isCurrent() || facts.fixed || drag) return;
  const layer = Number(tile.dataset.layer);
  drag = {from: layer, to: layer, before: pagesPlan(), moved: false, id: event.pointerId};
});
tiles.addEventListener('pointermove', event => {
  if (!drag || event.pointerId !== drag.id) return;
  const layer = layerAt(event.clientX, event.clientY);
  if (layer === drag.to) return;
  if (!drag.moved) tiles.setPointerCapture(event.pointerId);  // not before: a click needs its tile
  Object.assign(drag, {to: layer, moved: true});
  [focused, hovered, start, reach] = [layer, null, null, null];
  preview(dragged(drag.before, drag.from, layer));
});
tiles.addEventListener('pointerup', event => {
  if (!drag || event.pointerId !== drag.id) return;
  const {moved, before} = drag;
  drag = null;
  if (!moved) return;
  const made = plan;
  plan = before;
  become(made);
});
tiles.addEventListener('pointercancel', () => { if (drag?.moved) cancel(); drag = null; });
addEventListener('pointerup', event => { if (drag && !drag.moved && event.pointerId === drag.id) drag = null; });
// A finger's drag is no fling to the browser: it would swallow the next tap to end the fling.
tiles.addEventListener('touchmove', event => { if (drag?.moved && event.cancelable) event.preventDefault(); }, {passive: false});
tiles.addEventListener('contextmenu', event => { if (drag) event.preventDefault(); });  // a finger that stays long

function layerAt(x, y) {
  const box = tiles.getBoundingClientRect();
  const cell = (value, length, count) => Math.min(count - 1, Math.max(0, Math.floor(value / length * count)));
  const row = cell(y - box.top, box.height, rows), column = cell(x - box.left, box.width, columns);
  return Math.min(facts.layers - 1, row * columns + column);
}

const look = layer => { if (layer !== refused) refused = null; hovered = layer; if (isCurrent()) { tell(); drawArcs(); } };
tiles.addEventListener('pointerover', event => {
  const tile = event.target.closest('.tile');
  if (tile && !drag?.moved && event.pointerType === 'mouse') look(Number(tile.dataset.layer));
});
tiles.addEventListener('pointerleave', () => look(null));
tiles.addEventListener('focusin', event => {
  const tile = event.target.closest('.tile');
  if (tile) { focused = Number(tile.dataset.layer); if (isCurrent()) draw(); }
});
tiles.addEventListener('focusout', () => setTimeout(() => look(hovered)));

// What the next gesture makes of layers

does.addEventListener('change', () => { start = null; positions.hidden = does.value !== 'topk'; draw(); say(hint()); });
positions.addEventListener('change', () => { if (!(Number(positions.value) >= 1)) positions.value = 1; draw(); });

// Undo and redo are the browser's Back and Forward

const [undo, redo] = ['.undo', '.redo'].map(at);
undo.addEventListener('click', () => explorer.back());
redo.addEventListener('click', () => explorer.forward());
explorer.subscribe('steps', ({step, last}) => {
  undo.setAttribute('aria-disabled', step === 0);
  redo.setAttribute('aria-disabled', step === last);
});
document.addEventListener('keydown', event => {
  if (!(event.ctrlKey || event.metaKey) || event.altKey || event.key.toLowerCase() !== 'z') return;
  if (event.target.closest?.('input, textarea, select, [contenteditable=true]')) return;
  event.preventDefault();
  if (event.shiftKey) explorer.forward();
  else explorer.back();
});

// The page

function follow() {
  if (!isCurrent() || drag?.moved) return;
  plan = pagesPlan();
  if (reach && reach.text !== textOf(plan)) reach = null;
  draw();
  const said = sentence.textContent;
  if (status.dataset.said !== said) { status.dataset.said = said; status.textContent = said; }
}
function take() {
  if (!props.value || !props.value.model) return;
  explorer.tell('facts', props.value);
  if (props.value.pending) trigger('learn');  // what was measured comes later, so that nobody waits for it
}
explorer.subscribe('facts', found => {
  if (facts?.model !== found.model) {
    [start, reach, drag] = [null, null, null];
    plan = {groups: [], parts: []};  // that of another model may name layers that this one does not have
  }
  facts = found;
  if (isCurrent()) { build(); shade(); offer(); follow(); }
});
explorer.subscribe('view', () => { if (isCurrent()) { build(); if (!places.length) shade(); follow(); } });
watch('value', take);
take();
new ResizeObserver(arrange).observe(tiles);
