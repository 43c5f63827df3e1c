// Sharing plans in the browser: the same rules and words as core/plan and app/plans.py, which tests hold these against.
// A plan is a list of groups, each [leader, follower, …] ascending, in the order of their leaders. The dense plan is [].
// Its parts, the layers that do something else than share attention weights, stand apart, as {word, layers}: of `skip` the
// layers that skip, else the leader and its followers. A part of one phase alone has a `phase` too, `prefill` or `decode`;
// then shared groups are parts as well, with no word.

/** The groups in a plan's text as the server writes it: `17-22,2-4-6`, or `dense`. */
function readPlan(text) {
  return sorted(written(text).filter(part => !/[ @]/.test(part)).map(readGroup));
}

/** The parts in a plan's text as the server writes it, `skip 5 7-9,topk64 10-12`: {word, layers} each, in the order of
 * `core.plan.parts.canonical_parts`. */
function readParts(text) {
  const parts = written(text).filter(part => /[ @]/.test(part)).flatMap(part => {
    const [said, phase] = part.split('@'), when = phase ? {phase} : {};
    const [word, ...groups] = said.includes(' ') ? said.split(' ') : ['', said];
    if (word !== 'skip') return groups.map(group => ({word, layers: readGroup(group), ...when}));
    return [{word, layers: groups.flatMap(one => (one.includes('-') ? readGroup(one) : [Number(one)])), ...when}];
  });
  return inOrder(parts);
}

/** What the layers ruled by this word do: `topk` of `topk64`. */
const mechanismOf = word => word.replace(/\d+$/, '');

function inOrder(parts) {
  const place = part => ['', 'skip', 'kv', 'keys', 'topk'].indexOf(mechanismOf(part.word));
  const when = part => [undefined, 'prefill', 'decode'].indexOf(part.phase);
  return [...parts].sort((one, other) =>
    place(one) - place(other) || when(one) - when(other) || one.layers[0] - other.layers[0]);
}

const written = text => (!text || text === 'dense' ? [] : text.split(','));

function readGroup(text) {
  const layers = text.split(/[-_]/).map(Number);
  return text.includes('_') || layers.length > 2 ? layers : range(layers[0], layers[1]);
}

function range(first, last) {
  return Array.from({length: Math.max(0, last - first + 1)}, (_, index) => first + index);
}

function sorted(groups) {
  return [...groups].sort((one, other) => one[0] - other[0]);
}

function hasNoGaps(group) {
  return group[group.length - 1] - group[0] === group.length - 1;
}

function groupText(group) {
  if (hasNoGaps(group)) return `${group[0]}-${group[group.length - 1]}`;
  return group.join(group.length === 2 ? '_' : '-');
}

/** The plan as text, `dense` where nothing is changed. */
function planText(groups, parts = []) {
  return [...groups.map(groupText), ...partTexts(parts)].join(',') || 'dense';
}

/** `core.plan.parts.parts_text`: groups of one mechanism, number and phase behind one word, shared ones each for itself. */
function partTexts(parts) {
  const keyOf = part => JSON.stringify([part.word, part.phase, part.word ? '' : part.layers]);
  return [...new Set(parts.map(keyOf))].map(key => {
    const alike = parts.filter(part => keyOf(part) === key), [{word, phase}] = alike;
    return [word, ...alike.map(partGroupText)].filter(Boolean).join(' ') + (phase ? `@${phase}` : '');
  });
}

function partGroupText({word, layers}) {
  if (word !== 'skip') return groupText(layers);
  return runs(layers).map(([first, last]) => (last - first > 1 ? `${first}-${last}` : range(first, last).join(' '))).join(' ');
}

/** The parts in which a layer stands: one, or one in each phase. */
function partsOf(parts, layer) {
  return parts.filter(part => part.layers.includes(layer));
}

/** The part in which a layer stands, or undefined; of two that of decoding. */
function partOf(parts, layer) {
  return partsOf(parts, layer).pop();
}

/** {groups, parts} without phases: what the plan is while text is written. */
function whileDecoding(groups, parts) {
  const here = parts.filter(part => part.phase !== 'prefill');
  const shared = here.filter(part => !part.word).map(part => part.layers);
  const skipped = here.filter(part => part.word === 'skip').flatMap(part => part.layers).sort((one, other) => one - other);
  const others = here.filter(part => part.word && part.word !== 'skip').map(({word, layers}) => ({word, layers}));
  const skip = skipped.length ? [{word: 'skip', layers: skipped}] : [];
  return {groups: sorted([...groups, ...shared]), parts: inOrder([...skip, ...others])};
}

/** Kinds for gestures: layers of these are of no kind that another layer has, so that no group takes them in. */
function kindsApart(kinds, parts) {
  return kinds.map((kind, layer) => (partOf(parts, layer) ? `${kind} ${layer}` : kind));
}

/** Follower → leader. */
function leadersOf(groups) {
  return new Map(groups.flatMap(([leader, ...followers]) => followers.map(layer => [layer, leader])));
}

/** What a layer is: `dense`, `leader` or `shared`. */
function roleOf(groups, layer) {
  const group = groups.find(one => one.includes(layer));
  return !group ? 'dense' : group[0] === layer ? 'leader' : 'shared';
}

/** Ascending layers as runs of neighbours, [first, last] each. */
function runs(layers) {
  const found = [];
  for (const layer of layers) {
    const last = found[found.length - 1];
    if (last && last[1] === layer - 1) last[1] = layer;
    else found.push([layer, layer]);
  }
  return found;
}

/** Numbers as sentences list them: `18–20 and 22`. */
function listed(layers) {
  const names = runs(layers).map(([first, last]) => (first === last ? `${first}` : `${first}–${last}`));
  return names.length > 1 ? `${names.slice(0, -1).join(', ')} and ${names[names.length - 1]}` : names.join('');
}

/** What `SharingPlan.describe` says. */
function describePlan(groups, layers, parts = []) {
  const said = [groups.length ? describeGroups(groups, layers) : '', parts.length ? describeParts(parts) : ''];
  if (said.some(Boolean)) return said.filter(Boolean).join(' ');
  return `Every one of the ${layers} layers computes its own attention weights (the dense model).`;
}

function describeParts(parts) {
  const when = {prefill: 'in prefill alone ', decode: 'in decoding alone '};
  const said = parts.map(part => {
    const changed = part.word === 'skip' ? part.layers : part.layers.slice(1), several = changed.length > 1;
    return `${when[part.phase] || ''}layer${several ? 's' : ''} ${listed(changed)} ${doesPart(part, several)}`;
  }).join('; ');
  return `${said[0].toUpperCase()}${said.slice(1)} (in the plan: ${partTexts(parts).join(', ')}).`;
}

function doesPart({word, layers}, several) {
  if (word === 'skip') return `skip${several ? '' : 's'} attention`;
  if (!word) return `${several ? 'reuse' : 'reuses'} the attention weights of ${layers[0]}`;
  const read = several ? 'read' : 'reads';
  if (word === 'kv') return `${read} the keys and values of ${layers[0]}`;
  if (word === 'keys') return `${read} the keys of ${layers[0]}`;
  const positions = Number(word.slice(4));
  const which = positions > 1 ? `${positions.toLocaleString('en')} positions` : 'position';
  return `attend${several ? '' : 's'} to the ${which} to which ${layers[0]} gives most`;
}

function describeGroups(groups, layers) {
  const said = groups.map(([leader, ...followers]) =>
    `layer ${leader} computes, ${listed(followers)} ${followers.length > 1 ? 'reuse' : 'reuses'}`).join('; ');
  const count = leadersOf(groups).size;
  const named = groups.filter(hasNoGaps).map(group => `SA ${group[1]}~${group[group.length - 1]}`).join(', ');
  const without = sorted(groups.filter(group => !hasNoGaps(group))).map(groupText).join(', ');
  const paper = !without ? `paper notation: ${named}`
    : named ? `paper notation: ${named}; none for ${without}` : `the paper has no notation for ${without}`;
  return `${said[0].toUpperCase()}${said.slice(1)}. ${count} of ${layers} layers ${count > 1 ? 'reuse' : 'reuses'} ` +
    `attention weights (${paper}).`;
}

/** `app.plans.plan_within`: of each kind the layers `first` to `last` share; else the nearest pair of one kind. */
function groupsWithin(first, last, kinds) {
  const within = [...new Set(kinds)].map(kind => range(first, last).filter(layer => kinds[layer] === kind));
  const groups = within.filter(layers => layers.length > 1);
  if (groups.length) return sorted(groups);
  const ofKind = layer => range(0, kinds.length - 1).filter(other => kinds[other] === kinds[layer]);
  const after = ofKind(first).filter(layer => layer > first).slice(0, 1);
  if (after.length) return [[first, ...after]];
  const before = ofKind(last).filter(layer => layer < last).slice(-1);
  return before.length ? [[...before, last]] : [];
}

/** The group after one of its ends was moved to layer `to`: what lies between joins or leaves, as far as it is of its kind.
 *
 * An end that passes the other one pulls the group over to that side; on top of it nothing is left. */
function movedEnd(group, from, to, kinds) {
  const [leader, last] = [group[0], group[group.length - 1]];
  const ofKind = (first, end) => range(first, end).filter(layer => kinds[layer] === kinds[leader]);
  if (from === leader) {
    if (to > last) return ofKind(last, to);
    return to < leader ? [...ofKind(to, leader - 1), ...group] : group.filter(layer => layer >= to);
  }
  if (to < leader) return ofKind(to, leader);
  return to > last ? [...group, ...ofKind(last + 1, to)] : group.filter(layer => layer <= to);
}

/** The plan after a drag from layer `from` to layer `to`.
 *
 * From an end of a group that end moves; from any other layer what lies between becomes a span (of each kind one). Layers
 * that other groups had there leave these. All other followers stay with their leader; where it has become a follower
 * itself, they go on under the first of them. */
function withSpan(groups, from, to, kinds) {
  if (from === to) return groups;
  const held = groups.find(group => group[0] === from || group[group.length - 1] === from);
  const made = held ? [movedEnd(held, from, to, kinds)] : groupsWithin(Math.min(from, to), Math.max(from, to), kinds);
  const taken = new Set(made.flat());
  const others = [];
  for (const [leader, ...followers] of groups.filter(group => group !== held)) {
    const left = followers.filter(layer => !taken.has(layer));
    const leads = made.find(group => group[0] === leader);
    if (leads) leads.push(...left);
    else others.push(taken.has(leader) ? left : [leader, ...left]);
  }
  const ascending = group => [...group].sort((one, other) => one - other);
  return sorted([...made.map(ascending), ...others].filter(group => group.length > 1));
}

/** The plan without what layer `layer` is: a follower computes again, a leader's whole group is gone. */
function without(groups, layer) {
  const kept = groups.map(group => (group[0] === layer ? [] : group.filter(one => one !== layer)));
  return kept.filter(group => group.length > 1);
}

// Gestures under any mechanism, in both phases. `word`: share, skip, kv, keys, or topk with its number. What is of one phase
// alone stays as the text has it, until its layers are freed.

/** Shared groups and parts alike, {word, layers} each. */
function allOf(groups, parts) {
  return [...groups.map(layers => ({word: 'share', layers})), ...parts];
}

/** {groups, parts} of these, in their order; a group that lost its followers is none. */
function planOf(all) {
  const left = all.filter(one => one.layers.length > (one.word === 'skip' ? 0 : 1));
  return {
    groups: sorted(left.filter(one => one.word === 'share').map(one => one.layers)),
    parts: inOrder(left.filter(one => one.word !== 'share')),
  };
}

/** The plan after a drag from layer `from` to layer `to` under a mechanism.
 *
 * As `withSpan`, among the groups of that mechanism; layers of the other ones stay what they are. An end of a group of
 * another number of positions moves with its own. Under `skip` every layer from the one to the other skips. */
function withDrag(groups, parts, word, from, to, kinds) {
  if (from === to) return {groups, parts};
  if (word === 'skip') return withSkipped(groups, parts, range(Math.min(from, to), Math.max(from, to)));
  const all = allOf(groups, parts), alike = one => !one.phase && mechanismOf(one.word) === mechanismOf(word);
  const held = all.find(one => alike(one) && (one.layers[0] === from || one.layers[one.layers.length - 1] === from));
  const rule = held ? held.word : word;
  const ruled = one => !one.phase && one.word === rule, others = all.filter(one => !ruled(one));
  const made = withSpan(all.filter(ruled).map(one => one.layers), from, to, kindsApart(kinds, others));
  return planOf([...others, ...made.map(layers => ({word: rule, layers}))]);
}

/** The plan in which these layers skip attention too, but layer 0, which the cache asks for its length. They leave the groups
 * in which they stood; followers of such a leader go on under the first of them. */
function withSkipped(groups, parts, layers) {
  const all = allOf(groups, parts), chosen = layers.filter(layer => layer > 0);
  const skips = one => one.word === 'skip' && !one.phase;
  const kept = all.filter(one => !skips(one)).map(one => ({...one, layers: one.layers.filter(layer => !chosen.includes(layer))}));
  const before = all.filter(skips).flatMap(one => one.layers);
  const skipped = [...new Set([...before, ...chosen])].sort((one, other) => one - other);
  return planOf([...kept, {word: 'skip', layers: skipped}]);
}

/** The plan without what layer `layer` does: a follower and a layer that skips compute again, a leader's whole group is gone. */
function freed(groups, parts, layer) {
  return planOf(allOf(groups, parts).map(one => {
    const leads = one.word !== 'skip' && one.layers[0] === layer;
    return {...one, layers: leads ? [] : one.layers.filter(other => other !== layer)};
  }));
}

/** What is left of a head map (text, JSON) when the plan `before` becomes `after`: followers whose leader stayed keep theirs.
 *
 * Returns [the head map as text, empty where nothing is left; the followers that lost theirs]. */
function keptHeads(heads, before, after) {
  if (!heads) return ['', []];
  const [old, now, map] = [leadersOf(before), leadersOf(after), JSON.parse(heads)];
  const stays = layer => now.has(layer) && now.get(layer) === old.get(layer);
  const followers = Object.keys(map).map(Number).sort((one, other) => one - other);
  const kept = followers.filter(stays);
  const text = kept.map(layer => `"${layer}": [${map[layer].join(', ')}]`).join(', ');
  return [kept.length ? `{${text}}` : '', followers.filter(layer => !stays(layer))];
}

/** A short key of a head map (text, JSON), as `app.facts.heads_key` makes it: FNV-1a of its rows; empty for none. */
function headsKey(heads) {
  if (!heads) return '';
  const rows = Object.entries(JSON.parse(heads)).sort(([one], [other]) => one - other);
  let hash = 0x811c9dc5;
  for (const letter of rows.map(([layer, row]) => `${layer}:${row.join(',')}`).join(';'))
    hash = Math.imul(hash ^ letter.charCodeAt(0), 0x01000193) >>> 0;
  return rows.length ? hash.toString(16).padStart(8, '0') : '';
}
