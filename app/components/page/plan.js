// Sharing plans in the browser: the same rules and words as core/plan.py and app/plans.py, which tests hold these against.
// A plan is a list of groups, each [leader, follower, …] ascending, in the order of their leaders. The dense plan is [].

/** The groups in a plan's text as the server writes it: `17-22,2-4-6`, or `dense`. */
function readPlan(text) {
  if (!text || text === 'dense') return [];
  const groups = text.split(',').map(part => {
    const layers = part.split(/[-_]/).map(Number);
    return part.includes('_') || layers.length > 2 ? layers : range(layers[0], layers[1]);
  });
  return sorted(groups);
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

/** The plan as text, `dense` where nothing is shared. */
function planText(groups) {
  return groups.map(groupText).join(',') || 'dense';
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

/** Numbers as sentences list them: `18–20 and 22`. */
function listed(layers) {
  const runs = [];
  for (const layer of layers) {
    const last = runs[runs.length - 1];
    if (last && last[1] === layer - 1) last[1] = layer;
    else runs.push([layer, layer]);
  }
  const names = runs.map(([first, last]) => (first === last ? `${first}` : `${first}–${last}`));
  return names.length > 1 ? `${names.slice(0, -1).join(', ')} and ${names[names.length - 1]}` : names.join('');
}

/** The sentence of `SharingPlan.describe`. */
function describePlan(groups, layers) {
  if (!groups.length) return `Every one of the ${layers} layers computes its own attention weights (the dense model).`;
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
