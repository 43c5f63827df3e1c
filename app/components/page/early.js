// The script of the charts is large, and the server packs it anew for every visitor: where the first view has no chart, texts
// and numbers go first. `url`: the script. `without`: the views without charts, the one that an empty address means first.
const wanted = new URLSearchParams(location.search).get('view') || without[0];
const add = rel => {
  const link = Object.assign(document.createElement('link'), {rel, href: url});
  link.setAttribute('as', 'script');
  document.head.append(link);
};
if (without.includes(wanted)) setTimeout(() => add('prefetch'), 4000);
else add('preload');
