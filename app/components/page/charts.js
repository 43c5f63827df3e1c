/* All charts of the page. A chart is drawn while it can be seen: those in sight at once, those further down in the view
   when the browser has nothing else to do, those of other views not at all; they catch up when they are shown. Between two
   charts the browser gets a turn. What differs decides how much is done: outlines, colours and size do not draw data again.
   `chartSettings` holds what Python knows: templates of both modes, words, name and version of the program. */
window.charts = (() => {
  const {templates, words, program} = window.chartSettings;
  const CONFIG = {displayModeBar: false, displaylogo: false, responsive: false, showAxisRangeEntryBoxes: false,
    showSendToCloud: false, plotlyServerURL: ''};
  const NARROW_PX = 420, CELL_PX = 20, LINE_PX = 14;  // a cell that holds a number, a line of an axis that is a word
  const PICTURE = {wide: [1600, 900], square: [1400, 1400], head: 120, foot: 60, zoom: 1.25};
  const touch = matchMedia('(pointer: coarse)');
  const all = new Map();
  let working = false;

  /* --- when to draw ------------------------------------------------------------------------------------------------ */
  const modeNow = () => document.body.classList.contains('dark') ? 'dark' : 'light';
  const isShown = chart => chart.holder.isConnected && chart.holder.getClientRects().length > 0;
  const isStale = chart => chart.figure && (chart.figure !== chart.drawn || chart.mode !== modeNow()
    || chart.width !== chart.holder.clientWidth || chart.mark !== chart.marked);
  const pause = () => new Promise(done => setTimeout(done));
  const idle = () => new Promise(done => window.requestIdleCallback ? requestIdleCallback(done, {timeout: 500}) : setTimeout(done, 60));

  function nextChart() {
    const stale = [...all.values()].filter(chart => isShown(chart) && isStale(chart));
    return stale.find(chart => chart.inSight) ?? stale[0];
  }

  async function work() {
    if (working) return;
    working = true;
    for (let chart = nextChart(); chart; chart = nextChart()) {
      if (!chart.inSight) await idle();
      if (isShown(chart) && isStale(chart)) await draw(chart);
      await pause();
    }
    working = false;
  }

  const sight = new IntersectionObserver(entries => {
    for (const entry of entries) entry.target.chart.inSight = entry.isIntersecting;
    work();
  }, {rootMargin: '200px'});
  const sizes = new ResizeObserver(() => work());
  const watchMode = () => new MutationObserver(work).observe(document.body, {attributes: true, attributeFilter: ['class']});
  document.body ? watchMode() : document.addEventListener('DOMContentLoaded', watchMode);
  addEventListener('beforeprint', () => { for (const chart of all.values()) if (isShown(chart) && isStale(chart)) draw(chart); });

  /* --- drawing ------------------------------------------------------------------------------------------------------ */
  async function draw(chart) {
    const {holder, figure} = chart, mode = modeNow(), width = holder.clientWidth, narrow = width < NARROW_PX;
    const known = chart.drawn?.layout.meta, key = figure.layout.meta.key;
    const same = known && narrow === chart.narrow && (figure === chart.drawn || (key && key === known.key));
    const resized = same && width !== chart.width, recoloured = same && mode !== chart.mode;
    const outlined = same && (figure !== chart.drawn || chart.mark !== chart.marked || resized);
    Object.assign(chart, {drawn: figure, mode, width, narrow, marked: chart.mark, template: same ? chart.template : mode});
    try {
      if (isMessage(chart)) return say(chart);
      if (!same) await react(chart);
      if (resized) await Plotly.Plots.resize(holder);
      if (outlined) await outline(chart);
      if (recoloured) await recolour(holder, mode);
    } catch (error) {
      console.error(error);
    }
    if (!holder.dataset.listens) holder.on('plotly_click', event => clicked(chart, event.points[0]));
    holder.dataset.listens = holder.dataset.drawn = 'yes';
    const view = holder.parentElement;  // keys scroll what is higher than its place
    if (view.scrollHeight > view.clientHeight + 1) Object.assign(view, {tabIndex: 0, role: 'group', ariaLabel: nameOf(chart)});
    else for (const name of ['tabindex', 'role', 'aria-label']) view.removeAttribute(name);
  }

  /* A chart's colours and edges refer to each other by address, which plotly notes at the first drawing where the page has a
     <base>. The address changes, and then they are lost: so there is no base while it looks. */
  function react(chart) {
    const {holder, figure} = chart, base = holder._context ? null : document.querySelector('base[href]');
    if (!holder._fullLayout) holder.replaceChildren();
    const address = base?.getAttribute('href');
    base?.removeAttribute('href');
    const drawn = Plotly.react(holder, figure.data, layoutOf(chart), CONFIG);
    base?.setAttribute('href', address);
    return drawn;
  }

  /* A figure without data is a sentence. */
  const isMessage = chart => !chart.figure.data.length;
  function say({holder, figure}) {
    Plotly.purge(holder);
    delete holder.dataset.listens;
    holder.style.height = 'auto';
    holder.replaceChildren(Object.assign(document.createElement('p'), {className: 'note', textContent: figure.layout.meta.description}));
    holder.dataset.drawn = 'yes';
  }

  function clicked(chart, point) {
    if (chart.figure.layout.meta.cells) mark(chart.id, point.x, point.y);
    chart.report({x: point.x, y: point.y, id: point.customdata});
  }

  function layoutOf(chart) {
    const {meta, ...rest} = chart.figure.layout, {holder} = chart;
    const layout = {...structuredClone(rest), template: templates[modeNow()]};
    holder.style.height = layout.height ? `${layout.height}px` : '';
    if (chart.narrow)  // long titles of axes have to fit on a telephone
      for (const axis of [layout.xaxis, layout.yaxis]) if (axis?.title) axis.title.font = {size: 14};
    if (touch.matches) layout.dragmode = false;  // a finger that moves scrolls the page
    fit(layout, meta, holder.clientWidth, holder.clientHeight);
    layout.shapes = shapesOf(chart);
    layout.annotations = annotationsOf(chart);
    return layout;
  }

  const room = (layout, width, height) =>
    Math.min(width - (layout.margin?.l ?? 0) - (layout.margin?.r ?? 0), height - (layout.margin?.t ?? 0) - (layout.margin?.b ?? 0));

  /* Axes of words: as many as have room. */
  function fit(layout, meta, width, height) {
    for (const axis of [layout.xaxis, layout.yaxis]) {
      if (axis?.automargin !== false || !axis.ticktext) continue;
      const step = Math.ceil(LINE_PX * axis.ticktext.length / Math.max(1, room(layout, width, height)));
      axis.ticktext = axis.ticktext.map((word, at) => at % step ? '' : word);
    }
  }

  function annotationsOf(chart) {
    const {meta, annotations = [], ...layout} = chart.figure.layout;
    const small = meta.cells && room(layout, chart.holder.clientWidth, chart.holder.clientHeight) / meta.cells < CELL_PX;
    const narrow = meta.columns && chart.holder.clientWidth / meta.columns < LINE_PX + 2;
    return structuredClone(annotations.filter(one => !(small && one.name === 'cell') && !(narrow && one.name === 'column')));
  }

  function shapesOf(chart) {
    const shapes = structuredClone(chart.figure.layout.shapes ?? []);
    if (!chart.mark) return shapes;
    const {x, y} = chart.mark, box = {type: 'rect', x0: x - 0.5, x1: x + 0.5, y0: y - 0.5, y1: y + 0.5, name: 'mark'};
    return [...shapes, {...box, line: {color: '#000000', width: 7}}, {...box, line: {color: '#ffffff', width: 3}}];
  }

  /* Items one by one: plotly computes all data again when a whole list is replaced. */
  async function outline(chart) {
    const {holder} = chart, lists = {shapes: shapesOf(chart), annotations: annotationsOf(chart)};
    const gone = {}, come = {};
    for (const [name, items] of Object.entries(lists)) {
      const before = holder.layout[name] ?? [];
      if (JSON.stringify(before.map(shown)) === JSON.stringify(items.map(shown))) continue;
      before.forEach((_, at) => { gone[`${name}[${at}]`] = null; });
      items.forEach((item, at) => { come[`${name}[${at}]`] = item; });
    }
    if (Object.keys(gone).length) await Plotly.relayout(holder, gone);
    if (Object.keys(come).length) await Plotly.relayout(holder, come);
    if (Object.keys(come).length && chart.mode !== chart.template) await recolour(holder, chart.mode);
  }
  const shown = ({x, y, x0, y0, x1, y1, text, name, line}) => [x, y, x0, y0, x1, y1, text, name, line?.width];

  /* What the template of a mode says of colours, said to a chart that stands. */
  function recolour(holder, mode) {
    const {font: {color: ink}, xaxis: {gridcolor: grid}, hoverlabel} = templates[mode].layout;
    const layout = {'hoverlabel.bgcolor': hoverlabel.bgcolor, 'hoverlabel.bordercolor': hoverlabel.bordercolor,
      'hoverlabel.font.color': ink, 'legend.font.color': ink};
    for (const name of Object.keys(holder._fullLayout).filter(key => /^[xy]axis\d*$/.test(key)))
      Object.assign(layout, {[`${name}.gridcolor`]: grid, [`${name}.tickfont.color`]: ink, [`${name}.title.font.color`]: ink});
    holder.layout.annotations?.forEach((one, at) => { if (one.name !== 'cell') layout[`annotations[${at}].font.color`] = ink; });
    const style = {};
    const set = (path, at) => { (style[path] ??= Array(holder.data.length).fill(undefined))[at] = ink; };
    holder.data.forEach((trace, at) => {
      for (const [has, path] of [[trace.colorbar, 'colorbar'], [trace.marker?.colorbar, 'marker.colorbar']])
        if (has) { set(`${path}.tickfont.color`, at); set(`${path}.title.font.color`, at); }
      if (trace.textposition === 'outside') set('textfont.color', at);
      if (trace.type === 'bar' && trace.error_x && !ownColour(trace.error_x.color)) set('error_x.color', at);
    });
    return Plotly.update(holder, style, layout);
  }
  const INKS = Object.values(templates).map(template => template.layout.font.color);
  const ownColour = colour => colour && !INKS.includes(colour);

  function mark(id, x, y) {
    const chart = all.get(id);
    if (!chart || (chart.mark?.x === x && chart.mark?.y === y)) return;
    chart.mark = {x, y};
    work();
  }

  /* --- the table behind a chart -------------------------------------------------------------------------------------- */
  const TYPES = {f8: Float64Array, f4: Float32Array, i1: Int8Array, u1: Uint8Array, i2: Int16Array, u2: Uint16Array,
    i4: Int32Array, u4: Uint32Array};
  const bytes = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0)).buffer;
  const listOf = sent => !sent ? [] : sent.bdata ? [...new TYPES[sent.dtype](bytes(sent.bdata))] : [...sent];
  const plain = html => {
    const text = String(html ?? '').replace(/<br\s*\/?>/g, ' ').replace(/<[^>]+>/g, '');
    const box = document.createElement('textarea');
    box.innerHTML = text;
    return box.value;
  };

  /* {columns, rows} of a figure: what it says itself, else what its traces hold. */
  function tableOf(figure) {
    const {meta, xaxis = {}, yaxis = {}} = figure.layout;
    if (meta.table) {
      const columns = Object.keys(meta.table);
      return {columns, rows: meta.table[columns[0]].map((_, at) => columns.map(name => meta.table[name][at]))};
    }
    const traces = figure.data.filter(trace => trace.hoverinfo !== 'skip');
    const lying = traces.some(trace => trace.orientation === 'h');
    const named = traces.some(trace => trace.name), quantity = plain(meta.title) || words.value;
    const across = plain(xaxis.title?.text) || (lying ? quantity : 'x');
    const upright = plain(yaxis.title?.text) || (lying ? words.name : quantity);
    const errors = traces.some(trace => trace.error_x || trace.error_y), notes = traces.some(trace => trace.text);
    const columns = [...(named ? [words.series] : []), across, lying ? words.name : upright,
      ...(errors ? [words.error] : []), ...(notes ? [words.note] : [])];
    const rows = traces.flatMap(trace => {
      const error = listOf((trace.error_y ?? trace.error_x)?.array), text = listOf(trace.text), ys = listOf(trace.y);
      return listOf(trace.x).map((x, at) => [...(named ? [plain(trace.name)] : []), plainText(x), plainText(ys[at]),
        ...(errors ? [error[at] ?? null] : []), ...(notes ? [plain(text[at])] : [])]);
    });
    return {columns, rows};
  }
  const plainText = value => typeof value === 'string' ? plain(value) : value;

  const readable = value => typeof value !== 'number' ? String(value ?? '')
    : (Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(4)))).replace('-', '−');

  function showTable(chart, wanted) {
    const {place} = chart;
    place.hidden = !wanted;
    place.replaceChildren();
    if (!wanted) return;
    const {columns, rows} = tableOf(chart.figure), table = document.createElement('table');
    table.createCaption().textContent = nameOf(chart);
    const head = table.createTHead().insertRow();
    for (const name of columns) head.append(Object.assign(document.createElement('th'), {scope: 'col', textContent: name}));
    const body = table.createTBody();
    for (const row of rows) {
      const line = body.insertRow();
      for (const value of row) line.insertCell().textContent = readable(value);
    }
    place.setAttribute('aria-label', `${words.table}: ${nameOf(chart)}`);
    place.append(table);
  }

  /* --- downloads ------------------------------------------------------------------------------------------------------ */
  const nameOf = chart => plain(chart.figure.layout.meta.title || chart.figure.layout.title?.text || chart.figure.layout.title
    || chart.figure.layout.meta.description);

  function subject(chart) {
    const {meta} = chart.figure.layout, view = window.explorer?.view ?? {};
    const model = meta.model ?? view.model ?? '', plan = meta.plan ?? view.plan ?? '';
    const heads = meta.plan === undefined && view.heads ? ` ${words.heads}` : '';
    return {model: model.split('/').pop(), plan: (plan || 'dense') + heads};
  }

  const slug = text => text.normalize('NFKD').replace(/[^\w.,+-]+/g, '-').replace(/^-+|-+$/g, '').slice(0, 60);
  function fileName(chart, ending) {
    const {model, plan} = subject(chart);
    return `${[nameOf(chart), model, plan].map(slug).filter(Boolean).join('_')}.${ending}`;
  }

  function save(blob, name) {
    const link = Object.assign(document.createElement('a'), {href: URL.createObjectURL(blob), download: name});
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  const sourceOf = chart => [`${program.name} ${program.version}`, chart.figure.layout.meta.source].filter(Boolean).join(': ');

  function csvOf(chart) {
    const {columns, rows} = tableOf(chart.figure), {model, plan} = subject(chart);
    const field = value => /[",\n\r]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value;
    const lines = [[...columns, words.pageModel, words.pagePlan, words.source],
      ...rows.map(row => [...row, model, plan, sourceOf(chart)])];
    return lines.map(line => line.map(value => field(String(value ?? ''))).join(',')).join('\r\n') + '\r\n';
  }

  /* The chart on white, larger than life, with what it is about above it and where its data are from below it. */
  async function svgOf(chart) {
    const {data, layout: {meta, height: own, ...layout}} = chart.figure, {zoom, head, foot} = PICTURE;
    const [width, least] = layout.yaxis?.scaleanchor ? PICTURE.square : PICTURE.wide;
    const height = Math.max(least, own ? Math.round(own * zoom + head + foot) : 0);
    const inner = {width: width / zoom, height: (height - head - foot) / zoom};
    const white = {...structuredClone(layout), template: templates.light, shapes: shapesOf(chart)};
    const drawn = await Plotly.toImage({data, layout: white, config: CONFIG}, {format: 'svg', ...inner, imageDataOnly: true});
    const picture = new DOMParser().parseFromString(drawn, 'image/svg+xml').documentElement;
    const size = {x: 0, y: head, width, height: height - head - foot, viewBox: `0 0 ${inner.width} ${inner.height}`};
    for (const [name, value] of Object.entries(size)) picture.setAttribute(name, value);
    const {model, plan} = subject(chart), safe = text => text.replace(/&/g, '&amp;').replace(/</g, '&lt;');
    const line = (text, y, px, weight, ink) => `<text x="32" y="${y}" font-size="${Math.min(px, 2700 / text.length)}" `
      + `font-weight="${weight}" fill="${ink}">${safe(text)}</text>`;
    return {width, height, text: `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" `
      + `viewBox="0 0 ${width} ${height}" font-family="IBM Plex Sans, Segoe UI, Helvetica, Arial, sans-serif">`
      + `<title>${safe(nameOf(chart))}</title><rect width="100%" height="100%" fill="#ffffff"/>`
      + line(nameOf(chart), 58, 34, 700, '#1b2430')
      + line(`${words.model} ${model} · ${words.plan} ${plan}`, 98, 25, 400, '#55606d')
      + line(sourceOf(chart), height - 22, 21, 400, '#55606d')
      + new XMLSerializer().serializeToString(picture) + '</svg>'};
  }

  async function pngOf(chart) {
    const {width, height, text} = await svgOf(chart), url = URL.createObjectURL(new Blob([text], {type: 'image/svg+xml'}));
    const image = new Image(width, height);
    image.src = url;
    await image.decode();
    const canvas = Object.assign(document.createElement('canvas'), {width, height});
    canvas.getContext('2d').drawImage(image, 0, 0, width, height);
    URL.revokeObjectURL(url);
    return new Promise(done => canvas.toBlob(done, 'image/png'));
  }

  const DEEDS = {
    table: chart => showTable(chart, chart.place.hidden),
    csv: chart => save(new Blob(['\ufeff', csvOf(chart)], {type: 'text/csv'}), fileName(chart, 'csv')),
    png: async chart => save(await pngOf(chart), fileName(chart, 'png')),
    svg: async chart => save(new Blob([(await svgOf(chart)).text], {type: 'image/svg+xml'}), fileName(chart, 'svg')),
    whole: chart => Plotly.react(chart.holder, chart.figure.data, {...layoutOf(chart), uirevision: Math.random()}, CONFIG),
  };

  /* --- the menu -------------------------------------------------------------------------------------------------------- */
  function addMenu(chart, element) {
    const menu = element.querySelector('.chart-menu'), [opener, list] = menu.children, items = [...list.children];
    const open = wanted => {
      list.hidden = !wanted;
      opener.setAttribute('aria-expanded', wanted);
      list.querySelector('[data-do=table]').textContent = chart.place.hidden ? words.table : words.noTable;
    };
    opener.addEventListener('click', () => open(list.hidden));
    menu.addEventListener('focusout', event => { if (!menu.contains(event.relatedTarget)) open(false); });
    menu.addEventListener('keydown', event => {
      const step = {ArrowDown: 1, ArrowUp: -1}[event.key];
      if (event.key === 'Escape' && !list.hidden) {
        open(false);
        opener.focus();
      } else if (step) {
        open(true);
        const at = items.indexOf(document.activeElement);
        items[at < 0 ? (step > 0 ? 0 : items.length - 1) : (at + step + items.length) % items.length].focus();
      } else return;
      event.preventDefault();
      event.stopPropagation();
    });
    list.addEventListener('click', async event => {
      const deed = event.target.closest('[data-do]')?.dataset.do;
      if (!deed || !chart.figure) return;
      open(false);
      opener.focus();
      await DEEDS[deed](chart);
    });
    chart.opener = opener;
  }

  function mount(element, props, watch, report) {
    const holder = element.querySelector('.chart');
    const chart = {id: props.chart_id, holder, report, place: element.querySelector('.chart-table')};
    holder.chart = chart;
    all.set(chart.id, chart);
    addMenu(chart, element);
    const take = () => {
      if (!props.value) return;
      chart.figure = JSON.parse(props.value);
      delete holder.dataset.drawn;
      const {title, description} = chart.figure.layout.meta;
      element.querySelector('figcaption').textContent = plain(title);
      holder.setAttribute('aria-label', description);
      chart.opener.hidden = isMessage(chart);  // there is nothing to take away
      chart.opener.setAttribute('aria-label', `${words.menu}: ${nameOf(chart)}`);
      if (!chart.place.hidden) showTable(chart, true);
      work();
    };
    take();
    watch('value', take);
    sight.observe(holder);
    sizes.observe(holder);
  }

  return {mount, mark};
})();
