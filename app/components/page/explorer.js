// What all parts of the page in the browser share: model, plan and head map, which view is on screen, and the address.
// Parts subscribe here; they do not know of each other. Nothing here waits for the server.
window.explorer = (() => {
  const state = {view: {}, shown: '', facts: null, theme: '', level: ''};
  const subscribers = {view: [], shown: [], facts: [], theme: [], level: []};
  const OWN = ['view', 'model', 'plan', 'heads', 'level', 'talk'];  // of the address; everything else is an option
  const visited = new Set();
  const drawn = {}, asked = {};  // view → the model, plan and heads that it shows, and that it was last asked to show
  let bar = null;  // {get, set, fire} of the component that holds the view
  let views = [], defaults = {}, options = {}, typing = false, later = 0;

  const address = () => new URL(window.location);
  const key = ({model, plan, heads}) => JSON.stringify([model, plan, heads || '']);
  const is_there = value => value !== null && value !== '' && !(value instanceof Object && !Object.keys(value).length);

  function tell(kind, value) {
    state[kind] = value;
    for (const subscriber of subscribers[kind]) subscriber(value);
  }

  function write(how) {
    const url = address(), {model, plan, heads} = state.view;
    const values = {view: state.shown, model, plan, heads};
    for (const [name, value] of Object.entries(values))
      if (value === undefined || value === '') url.searchParams.delete(name);
      else url.searchParams.set(name, value);
    if (how === 'none' || String(url) === String(window.location)) return;
    if (how === 'push') history.pushState(history.state, '', url);
    else history.replaceState(history.state, '', url);
  }

  function draw() {
    const name = state.shown, wanted = key(state.view);
    if (!bar || !state.view.model || !name || drawn[name] === wanted || asked[name] === wanted) return;
    asked[name] = wanted;
    bar.fire('draw_' + name);
  }

  function become(view, how) {
    state.view = view;
    write(how);
    tell('view', view);
  }

  function to_top() {
    window.scrollTo(0, 0);
    document.getElementById('view-' + state.shown)?.querySelector('h2')?.focus({preventScroll: true});
  }

  const explorer = {
    get view() { return state.view; },
    get shown() { return state.shown; },
    get facts() { return state.facts; },
    get views() { return views; },
    get options() { return Object.fromEntries([...address().searchParams].filter(([name]) => !OWN.includes(name))); },
    // Whether the view on screen shows the present model and plan.
    get idle() { return !!state.view.model && drawn[state.shown] === key(state.view); },
    address,

    // kind: view, shown, facts, theme or level. Called at once if there is something already, and on every change.
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
    received(view) {
      if (!view || !view.model || key(view) === key(state.view)) return;
      const first = !state.view.model, at_box = !!document.activeElement?.closest('#plan-text');
      const on = typing && at_box;  // one plan that is being typed is one step back
      typing = at_box;
      become(view, first || on ? 'replace' : 'push');
      if (!first) draw();
    },
    // The page is filled: draw what is on screen.
    filled() { write('replace'); draw(); },

    // A gesture made another plan. how: 'push' (Back undoes it), 'replace', 'none'.
    apply({plan, heads}, how = 'push') {
      const view = {model: state.view.model, plan, ...(heads ? {heads} : {})};
      if (key(view) === key(state.view)) return;
      typing = false;
      bar.set(view);
      become(view, how);
      bar.fire('sync');
      draw();
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
    next() { explorer.show(views[(views.indexOf(state.shown) + 1) % views.length]); },
    // Which views gradio has to have made by now.
    mounted: () => views.map(name => ({__type__: 'update', visible: visited.has(name)})),
    drawn(name) { drawn[name] = asked[name]; },
    // What a view shows is no longer true, though model and plan are the same: another record was measured, say.
    stale(name) { delete drawn[name]; delete asked[name]; if (name === state.shown) draw(); },
    // A request did not come back: whoever looks again asks again.
    failed(name) { if (drawn[name] !== asked[name]) delete asked[name]; },

    // Options in the address: those that are not as usual.
    keep(names, values) {
      names.forEach((name, index) => { options[name] = values[index]; });
      clearTimeout(later);
      later = setTimeout(() => {
        const url = address();
        for (const [name, value] of Object.entries(options)) {
          const usual = JSON.stringify(value ?? null) === JSON.stringify(defaults[name] ?? null);
          if (usual) url.searchParams.delete(name);
          else url.searchParams.set(name, value instanceof Array ? value.join('|') : value ?? '');
        }
        if (String(url) !== String(window.location)) history.replaceState(history.state, '', url);
      }, 250);
    },
  };

  window.addEventListener('popstate', () => {
    const wanted = address().searchParams, view = {...state.view};
    for (const name of ['model', 'plan', 'heads']) if (wanted.has(name)) view[name] = wanted.get(name); else delete view[name];
    typing = false;
    if (!bar) return;
    if (view.model === state.view.model) explorer.apply(view, 'none');
    else if (view.model) { bar.set(view); bar.fire('open'); }
    explorer.show(wanted.get('view') || views[0], 'none');
  });
  return explorer;
})();
