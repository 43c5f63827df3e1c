// The headline: what the plan of the page saves and costs, in one line; each number leads to where it comes from.
// plan.js and figures.js stand before this file. Props: words (app.text.HEADLINE).

const words = JSON.parse(props.words);
const status = element.querySelector('[role=status]');
const parts = Object.fromEntries([...element.querySelectorAll('a')].map(link => [link.dataset.part, link]));
const [setting, where] = ['.setting', '.where'].map(part => element.querySelector(part));
const fill = (template, values) => template.replace(/\{(\w+)\}/g, (_, name) => values[name]);
let facts = null;

function show(part, said, known, view, title, options = {}) {
  const link = parts[part];
  link.textContent = said;
  link.title = title;
  link.classList.toggle('unknown', !known);
  link.dataset.view = view;
  link.dataset.options = JSON.stringify(options);
}

function draw(plan, others, heads) {
  const costs = facts.costs;
  setting.hidden = !costs;
  where.textContent = costs ? `${costs.setting}, ` : '';
  if (costs) {
    const {saved, speed} = predictedOf(costs, plan, others);
    const sizes = name => ({[`${name}-batch`]: costs.batch, [`${name}-context`]: costs.context});
    show('cache', fill(words.cache, {saved: savedText(saved)}), true, 'savings', words.cache_title, sizes('savings'));
    show('speed', fill(words.speed, {speed: speed.toFixed(2)}), true, 'speed', words.speed_title, sizes('speed'));
  } else {
    show('cache', words.no_cache, false, 'savings', words.no_costs);
    show('speed', words.no_speed, false, 'speed', words.no_costs);
  }
  if (!plan.length && !others.length) {
    show('damage', words.dense_damage, true, 'where', words.dense_title);
    show('task', words.dense_task, true, 'scores', words.dense_title);
    return;
  }
  const {damage, task} = measuredOf(facts, plan, heads, others);
  if (damage) {
    const [nats, stderr, held_out] = damage;
    const said = fill(words.damage, {change: changeText(nats, stderr, Math.abs(nats) < 0.01 ? 4 : 3)});
    show('damage', said, true, 'where', held_out ? words.held_out : words.calibration);
  } else if (facts.pending) show('damage', words.pending_damage, false, 'where', '');
  else show('damage', words.no_damage, false, 'where', facts.fixed ? words.no_damage_tuned : words.no_damage_title);
  if (task) {
    const [number, change, stderr] = task, {label, unit, name, digits} = facts.tasks[number];
    const said = fill(words.task, {label, change: changeText(change, stderr, digits)});
    const title = [fill(words.task_title, {name, unit}), facts.note].filter(Boolean).join(' ');
    show('task', said, true, 'scores', title, {'scores-task': name});
  } else if (facts.pending) show('task', words.pending_task, false, 'scores', '');
  else show('task', words.no_task, false, 'evaluate', words.no_task_title);
}

const isCurrent = () => facts && explorer.view.model === facts.model;
function follow() {
  if (!isCurrent()) return;
  draw(readPlan(explorer.view.plan), readParts(explorer.view.plan), explorer.view.heads);
  const said = element.querySelector('.headline').textContent.replace(/\s+/g, ' ').trim();
  if (status.textContent !== said) status.textContent = said;
}
explorer.subscribe('facts', found => { facts = found; follow(); });
explorer.subscribe('view', follow);
explorer.subscribe('view', ({model, plan, heads}) => {
  const chip = element.querySelector('.chip');
  chip.textContent = `${model.split('/').pop()} · ${plan}${heads ? words.mapped : ''}`;
  chip.title = model;
});
document.addEventListener('plan-preview', event => {
  if (!isCurrent()) return;
  const {groups, parts: others} = event.detail;
  const [heads] = keptHeads(explorer.view.heads, readPlan(explorer.view.plan), groups);
  draw(groups, others, heads);
});
