// What all parts of the page in the browser share: model, plan and head map, which view is on screen, and the address.
// Parts subscribe here; they do not know of each other. Nothing here waits for the server.
window.explorer = (() => {
  const state = {view: {}, shown: '', facts: null, theme: '', level: '', steps: {step: 0, last: 0}};
  const subscribers = {view: [], shown: [], facts: [], theme: [], level: [], steps: []};
  const visited = new Set();
  const drawn = {}, asked = {};  // view → the model, plan and heads that it shows, and that it was last asked to show
  let turn = 0;  // counts what the visitor did here: an answer to something older comes too late
  let bar = null;  // {get, set, fire} of the component that holds the view
  let views = [], defaults = {}, options = {}, wanted = {}, later = 0;
  const typing = {edit: 0, finished: true, kept: -1};  // edits of the plan's text: the present one, and that in the address

  const address = () => new URL(window.location);
  const key = ({model, plan, heads}) => JSON.stringify([model, plan, heads || '']);
  const is_there = value => value !== null && value !== '' && !(value instanceof Object && !Object.keys(value).length);

  function tell(kind, value) {
    state[kind] = value;
    for (const subscriber of subscribers[kind]) subscriber(value);
  }

  function write(how) {
    const url = address(), {model, plan, heads} = state.view;
    const values = {view: state.shown, model, plan, heads: heads && shortHeads(heads)};
    for (const [name, value] of Object.entries(values))
      if (value === undefined || value === '') url.searchParams.delete(name);
      else url.searchParams.set(name, value);
    if (how === 'none' || String(url) === String(window.location)) return;
    if (how !== 'push') return history.replaceState(history.state, '', url);
    const step = state.steps.step + 1;
    history.pushState({...history.state, step}, '', url);
    tell('steps', {step, last: step});
  }

  function draw() {
    const name = state.shown, wanted = key(state.view);
    if (!bar || !state.view.model || !name || drawn[name] === wanted || asked[name] === wanted) return;
    asked[name] = wanted;
    bar.fire('draw_' + name);
  }

  /** Once the browser has shown what is drawn by now. */
  function after_paint(act) {
    if (document.hidden) setTimeout(act);
    else requestAnimationFrame(() => setTimeout(act));
  }

  function become(view, how) {
    state.view = view;
    write(how);
    tell('view', view);
  }

  // The heading of the view on screen takes the focus, as soon as gradio has made it.
  function to_top(name = state.shown, frames = 300) {
    if (name !== state.shown) return;
    const heading = document.getElementById('view-' + name)?.querySelector('h2');
    if (heading?.getClientRects().length) {
      window.scrollTo(0, 0);
      heading.focus({preventScroll: true});
    } else if (frames) requestAnimationFrame(() => to_top(name, frames - 1));
  }

  const explorer = {
    get view() { return state.view; },
    get shown() { return state.shown; },
    get facts() { return state.facts; },
    get views() { return views; },
    // Whether the view on screen shows the present model and plan.
    get idle() { return !!state.view.model && drawn[state.shown] === key(state.view); },
    address,

    // kind: view, shown, facts, theme, level, or steps (where in the history of this page). Called at once if there is
    // something already, and on every change.
    subscribe(kind, subscriber) {
      subscribers[kind].push(subscriber);
      if (is_there(state[kind])) subscriber(state[kind]);
    },
    tell,

    // The bar is there: its ways to read, write and fire, the names of the views, what options are when left alone.
    begin(component, names, usual) {
      bar = component; views = names; defaults = usual; options = {...usual};
      const wanted = address().searchParams.get('view');
      explorer.show(views.includes(wanted) ? wanted : views[0], 'none');
    },

    // The server has answered what the page is about.
    received(answer) {
      if (!answer || !answer.model || key(answer) === key(state.view)) return;
      const {turn: of, before, ...view} = answer;
      if (state.view.model && (of ?? 0) !== turn) return bar.set({...state.view, turn});
      const first = !state.view.model, at_box = !!document.activeElement?.closest('#plan-text');
      const on = at_box && typing.kept === typing.edit;  // one plan that is being typed is one step back
      typing.kept = at_box ? typing.edit : -1;
      become(view, first || on ? 'replace' : 'push');
      if (!first) draw();
    },
    // The page is filled: draw what is on screen.
    filled() { write('replace'); draw(); },

    // A gesture made another plan. how: 'push' (Back undoes it), 'replace', 'none'.
    apply({plan, heads}, how = 'push') {
      const view = {model: state.view.model, plan, ...(heads ? {heads} : {})};
      if (key(view) === key(state.view)) return;
      typing.kept = -1;
      const mine = turn += 1, before = state.view.plan;  // what stays where the server refuses the new one
      become(view, how);
      after_paint(() => {  // what gradio does about it takes a tenth of a second
        if (mine !== turn) return;
        bar.set({...view, turn, before});
        bar.fire('sync');
        draw();
      });
    },

    show(name, how = 'push') {
      if (!views.includes(name)) return;
      const other = state.shown !== name;
      visited.add(name);
      state.shown = name;
      document.body.dataset.view = name;
      if (how !== 'none') write(other ? how : 'none');
      bar.fire('mount');
      tell('shown', name);
      draw();
      if (other && how !== 'none') to_top();
    },
    // One step of the history, if there is one on this page.
    back() { if (state.steps.step > 0) history.back(); },
    forward() { if (state.steps.step < state.steps.last) history.forward(); },
    // The values of the options that a link asked for, in the order in which the page knows them.
    wanted: names => names.map(name => name in wanted ? {__type__: 'update', value: wanted[name]} : {__type__: 'update'}),
    settled() { explorer.stale(state.shown); },
    // Which views gradio has to have made by now.
    mounted: () => views.map(name => ({__type__: 'update', visible: visited.has(name)})),
    drawn(name) { drawn[name] = asked[name]; },
    // What a view shows is no longer true, though model and plan are the same: another record was measured, say.
    stale(name) { delete drawn[name]; delete asked[name]; if (name === state.shown) draw(); },
    // A request did not come back: whoever looks again asks again.
    failed(name) { if (drawn[name] !== asked[name]) delete asked[name]; },

    // Options in the address: those that are not as usual.
    keep(names, values) {
      const asked = address().searchParams;
      names.forEach((name, index) => {
        const value = values[index], filled = value !== null && String(value) !== '';
        // What a view was filled with at first sight is as usual, unless a link asked for it.
        if (filled && !asked.has(name) && (defaults[name] === null || (defaults[name] instanceof Array && !defaults[name].length))) defaults[name] = value;
        options[name] = value;
      });
      clearTimeout(later);
      later = setTimeout(() => {
        const url = address();
        for (const [name, value] of Object.entries(options)) {
          const usual = JSON.stringify(value ?? '') === JSON.stringify(defaults[name] ?? '');  // an empty text is none
          if (usual) url.searchParams.delete(name);
          else url.searchParams.set(name, value instanceof Array ? value.join('|') : value ?? '');
        }
        if (String(url) !== String(window.location)) history.replaceState(history.state, '', url);
      }, 250);
    },
  };

  // Links of the page: `data-view`, and `data-options` where they ask for more. A click shows that; the address is made when
  // somebody is about to use it, so that another tab opens what stands here now.
  const link_at = event => event.target.closest?.('a[data-view]');
  const options_of = link => Object.entries(JSON.parse(link.dataset.options || '{}'));
  for (const kind of ['pointerdown', 'focusin']) document.addEventListener(kind, event => {
    const link = link_at(event), url = address();
    if (!link) return;
    for (const [name, value] of [['view', link.dataset.view], ...options_of(link)]) url.searchParams.set(name, value);
    url.searchParams.delete('talk');
    link.href = url.search;
  });
  document.addEventListener('click', event => {
    const link = link_at(event);
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    wanted = Object.fromEntries(options_of(link).filter(([name, value]) => value !== options[name]));
    explorer.show(link.dataset.view);
    if (Object.keys(wanted).length) bar.fire('settle');
  });

  const at_plan = event => event.target.closest?.('#plan-text');
  document.addEventListener('input', event => {
    if (!at_plan(event)) return;
    if (typing.finished) typing.edit += 1;
    typing.finished = false;
  }, true);
  document.addEventListener('keydown', event => { if (event.key === 'Enter' && at_plan(event)) typing.finished = true; }, true);
  document.addEventListener('focusout', event => { if (at_plan(event)) typing.finished = true; }, true);

  window.addEventListener('popstate', event => {
    const wanted = address().searchParams, view = {...state.view};
    for (const name of ['model', 'plan', 'heads']) if (wanted.has(name)) view[name] = wanted.get(name); else delete view[name];
    if (view.heads) view.heads = longHeads(view.heads);
    typing.kept = -1;
    const step = event.state?.step || 0;
    tell('steps', {step, last: Math.max(step, state.steps.last)});
    if (!bar) return;
    if (view.model === state.view.model) explorer.apply(view, 'none');
    else if (view.model) { turn += 1; bar.set({...view, turn}); bar.fire('open'); }
    explorer.show(wanted.get('view') || views[0], 'none');
  });
  state.steps = {step: history.state?.step || 0, last: history.state?.step || 0};
  return explorer;
})();
