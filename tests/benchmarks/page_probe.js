// What `tests.benchmarks.page` measures in the browser itself. It runs before every script of the page.
window.probe = (() => {
  const touched = [];  // calls to plotly: what, and whether its chart was on screen
  const tasks = [];    // long tasks: [begin, duration] in ms
  let plotly, seen = {}, begin = null, times = {};

  const shows = holder => {
    const box = typeof holder === 'string' ? document.getElementById(holder) : holder;
    if (!box?.getClientRects?.().length) return 'hidden';
    const {top, bottom} = box.getBoundingClientRect();
    return bottom > 0 && top < innerHeight ? 'on screen' : 'below or above';
  };
  Object.defineProperty(window, 'Plotly', {
    configurable: true,
    get: () => plotly,
    set: library => {
      plotly = {...library};
      for (const name of ['newPlot', 'react', 'restyle', 'relayout', 'update', 'redraw']) {
        plotly[name] = (holder, ...rest) => { touched.push([name, shows(holder)]); return library[name](holder, ...rest); };
      }
    },
  });
  new PerformanceObserver(list => {
    for (const task of list.getEntries()) tasks.push([task.startTime, task.duration]);
  }).observe({type: 'longtask', buffered: true});

  // What a visitor sees of each part, as one text: roles of layers, words, numbers.
  const signs = {
    strip: () => [...document.querySelectorAll('#strip .tile, #plan-summary .strip i')]
      .map(tile => ['shared', 'leader'].find(role => tile.classList.contains(role)) || 'dense').join(),
    sentence: () => document.querySelector('#strip .sentence, #plan-summary .sentence')?.textContent,
    headline: () => document.querySelector('#headline')?.textContent,
    savings: () => document.querySelector('#savings-cards .cards')?.textContent,
  };
  const now = () => Object.fromEntries(Object.entries(signs).map(([name, sign]) => [name, sign() || '']));

  for (const kind of ['pointerdown', 'keydown', 'input'])
    window.addEventListener(kind, event => { begin ??= event.timeStamp; }, {capture: true, passive: true});

  // The next gesture is timed: from its first event to the frame that shows each part changed.
  function arm() {
    begin = null; times = {}; seen = now(); touched.length = 0; tasks.length = 0;
  }
  new MutationObserver(() => {
    if (begin === null) return;
    for (const [name, sign] of Object.entries(now())) {
      if (sign === seen[name] || name in times) continue;
      times[name] = null;
      requestAnimationFrame(() => setTimeout(() => { times[name] = performance.now() - begin; }));
    }
  }).observe(document, {subtree: true, childList: true, characterData: true, attributes: true, attributeFilter: ['class']});

  const focusable = 'a[href], button, input, select, textarea, summary, audio[controls], [contenteditable], [tabindex]';
  return {
    arm,
    get times() { return times; },
    get touched() { return touched; },
    get tasks() { return tasks; },
    // Stops of the Tab key: a group of radio buttons is one.
    tab_stops() {
      const groups = new Set();
      return [...document.querySelectorAll(focusable)].filter(one => {
        if (one.tabIndex < 0 || one.disabled || !one.getClientRects().length || getComputedStyle(one).visibility === 'hidden')
          return false;
        if (one.type !== 'radio' || !one.name) return true;
        return groups.has(one.name) ? false : groups.add(one.name);
      }).map(one => one.closest('.chart') ? 'chart' : 'page');
    },
  };
})();
