// Levels of wording: the body says which one is shown, the style hides the others. The address comes first, then what
// this visitor chose last; the usual level stands in neither. A link's level is not remembered: it is somebody else's.
{
  const KEEP = 'shared-attention-level';
  const list = element.querySelector('#level');
  const known = [...list.options].map(option => option.value), usual = list.dataset.usual;
  const one_of = level => known.includes(level) ? level : '';
  const become = level => {
    list.value = level;
    document.body.dataset.level = level;
    const url = explorer.address();
    if (level === usual) url.searchParams.delete('level');
    else url.searchParams.set('level', level);
    if (String(url) !== String(window.location)) history.replaceState(history.state, '', url);
    explorer.tell('level', level);
  };
  become(one_of(explorer.address().searchParams.get('level')) || one_of(localStorage.getItem(KEEP)) || usual);
  list.addEventListener('change', () => {
    localStorage.setItem(KEEP, list.value);
    become(list.value);
  });
  // Back and Forward are for views and plans: the level stays, and the address says so.
  window.addEventListener('popstate', () => become(list.value));
}
