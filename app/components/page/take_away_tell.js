// What only the browser knows, the address and the texts on screen, goes to the server in the second place.
(...values) => {
  const words = at => document.querySelector(at)?.innerText ?? '';
  const stage = document.querySelector('#stage .stage');  // texts of an older plan, and those still to be guessed, stay here
  const text = side => stage && !stage.classList.contains('outdated') ? words(`#pane-${side} .text`) : '';
  values[1] = JSON.stringify({
    url: String(explorer.address()), dense: text('dense'), shared: text('shared'),
    dense_title: words('#pane-dense h3'), shared_title: words('#pane-shared h3'),
    verdict: words('#verdict .verdict').trim(),
  });
  return values;
}
