// What a plan saves and what was measured of it, from the facts that app/facts.py sends once for a model.

const COSTS = ['cache_bytes', 'projection_parameters', 'weight_bytes', 'weight_flops', 'attention_bytes', 'attention_flops'];

/** `core.cost.CostsByLayer.of`: the whole model under the plan, while it decodes. */
function costOf(costs, all_groups, all_parts = []) {
  const {groups, parts} = whileDecoding(all_groups, all_parts);
  const [followers, leaders] = [leadersOf(groups), new Set(groups.map(group => group[0]))];
  const sum = [...costs.rest];
  const add = (row, times = 1) => row.forEach((value, index) => { sum[index] += times * value; });
  costs.sort_of.forEach((number, layer) => {
    const sort = costs.sorts[number], part = partOf(parts, layer);
    if (!part) return add(sort[followers.has(layer) ? 'follows' : leaders.has(layer) ? 'leads' : 'computes']);
    const mechanism = mechanismOf(part.word);
    if (mechanism === 'skip') return add(sort.skips);
    if (layer === part.layers[0]) return add(mechanism === 'topk' ? sort.leads_topk : sort.computes);
    if (mechanism !== 'topk') return add(sort[`follows_${mechanism}`]);
    add(sort.follows_topk1);
    add(sort.topk_position, Math.min(Number(part.word.slice(4)), sort.attended) - 1);
  });
  return Object.fromEntries(COSTS.map((name, index) => [name, sum[index]]));
}

/** `core.cost.DecodePrediction.step_s`: seconds of a decode step. */
function stepSeconds(costs, cost) {
  const part = (bytes, flops) => Math.max(bytes / costs.bandwidth, costs.rate ? flops / costs.rate : 0);
  return part(cost.weight_bytes, cost.weight_flops) + part(cost.attention_bytes, cost.attention_flops);
}

/** What the plan saves of the cache in percent, and how many times as fast a step is. Predicted. */
function predictedOf(costs, groups, parts = []) {
  const [dense, shared] = [costOf(costs, []), costOf(costs, groups, parts)];
  const saved = dense.cache_bytes ? 100 * (dense.cache_bytes - shared.cache_bytes) / dense.cache_bytes : 0;
  return {saved, speed: stepSeconds(costs, dense) / stepSeconds(costs, shared)};
}

/** What was measured of the plan with this head map: {damage, task}, each null where it was not.
 *
 * damage: [nats, standard error or null, whether on held-out text]. task: [its number in facts.tasks, change, error]. */
function measuredOf(facts, groups, heads, parts = []) {
  const [damage, task] = facts.measured[`${planText(groups, parts)}|${headsKey(heads)}`] || [null, null];
  return {damage: damage || (heads || parts.length ? null : sweptOf(facts, groups)), task: task || null};
}

/** The damage of a single span in a sweep, on the text that plans are chosen on. */
function sweptOf(facts, groups) {
  if (groups.length !== 1) return null;
  const [leader, ...followers] = groups[0];
  const later = range(leader + 1, facts.layers - 1).filter(layer => facts.kinds[layer] === facts.kinds[leader]);
  const row = facts.sweep[leader], at = 2 * (followers.length - 1);
  if (!row || planText(groups) !== planText([[leader, ...later.slice(0, followers.length)]])) return null;
  return row[at] === undefined || row[at] === null ? null : [row[at], row[at + 1], 0];
}

// Numbers as app/units.py writes them

/** `units.amount` of bytes: 12.6 MB. */
function bytesText(value) {
  const prefixes = ['', 'k', 'M', 'G', 'T', 'P'];
  value = Number(value.toPrecision(3));  // before the prefix is chosen: 999.6 MB are 1.00 GB
  let power = 0;
  while (Math.abs(value) >= 1000 ** (power + 1) && power < prefixes.length - 1) power += 1;
  const scaled = value / 1000 ** power;
  const digits = power ? Math.max(0, 3 - String(Math.trunc(Math.abs(scaled))).length) : 0;
  return `${scaled.toFixed(digits)} ${prefixes[power]}B`;
}

/** `units.saved`: −15.4%, ±0% where it is the same, +1.2% where it is larger. */
function savedText(percent) {
  return Math.abs(percent) < 0.05 ? '±0%' : `${percent > 0 ? '−' : '+'}${Math.abs(percent).toFixed(1)}%`;
}

/** A change with its sign and its standard error: −1.2 ± 0.4. */
function changeText(value, stderr, digits) {
  const size = Math.abs(value).toFixed(digits);
  const sign = Number(size) === 0 ? '±' : value < 0 ? '−' : '+';
  return `${sign}${size}${stderr === null ? '' : ` ± ${stderr.toFixed(digits)}`}`;
}
