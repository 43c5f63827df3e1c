explorer.begin(
  {get: () => props.value, set: value => { props.value = value; }, fire: name => trigger(name)},
  JSON.parse(props.views), JSON.parse(props.usual),
);
watch('value', () => explorer.received(props.value));

const nav = element.querySelector('nav');
explorer.subscribe('shown', name => {
  for (const link of nav.querySelectorAll('a')) {
    const here = link.dataset.view === name;
    if (here) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
    if (here) nav.scrollLeft = Math.max(0, link.offsetLeft - nav.clientWidth / 2 + link.clientWidth / 2);
  }
});
element.querySelector('.skip').addEventListener('click', event => {
  event.preventDefault();
  document.getElementById('view-' + explorer.shown)?.querySelector('h2')?.focus();
});
// How much of the top stays in sight: all of it, on a telephone the headline alone.
const head = document.getElementById('head');
const measure = () => {
  const all = head.offsetHeight, line = document.getElementById('headline');
  const kept = innerWidth > 900 || !line ? all : line.offsetHeight + 8;
  document.documentElement.style.setProperty('--head-height', `${all}px`);
  document.documentElement.style.setProperty('--in-sight', `${kept}px`);
};
new ResizeObserver(measure).observe(head);
addEventListener('resize', measure);
const KEY = 'shared-attention-mode';
const kept = localStorage.getItem(KEY);
if (kept && !new URLSearchParams(location.search).has('__theme'))
  document.body.classList.toggle('dark', kept === 'dark');
explorer.tell('theme', document.body.classList.contains('dark') ? 'dark' : 'light');
element.querySelector('.mode').addEventListener('click', () => {
  const mode = document.body.classList.toggle('dark') ? 'dark' : 'light';
  localStorage.setItem(KEY, mode);
  explorer.tell('theme', mode);
});
