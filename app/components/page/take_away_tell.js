// What only the browser knows, the address and the texts on screen, goes to the server in the second place.
(...values) => {
  const words = at => document.querySelector(at)?.innerText ?? '';
  const pane = side => `#pane-${side}`, marked = document.querySelector(`${pane('shared')} [data-view]`);
  const {model, plan, heads} = explorer.view;
  const present = marked?.dataset.view === [model, plan, heads ?? ''].join(' ');
  const text = side => present ? words(`${pane(side)} .text`) : '';
  values[1] = JSON.stringify({
    url: String(explorer.address()), dense: text('dense'), shared: text('shared'),
    dense_title: words(`${pane('dense')} h3`), shared_title: words(`${pane('shared')} h3`),
    verdict: words('#verdict .verdict').trim(),
  });
  return values;
}
