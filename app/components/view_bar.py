"""The bar on top of the page. It also holds the view: which model and which plan the whole page is about.

The view lives in the browser, not on the server: two tabs have two views, and a restarted server finds it again. The
bar writes it into the address, so that a link shows the same view.
"""

from html import escape

import gradio as gr

from app import text

_TEMPLATE = f"""
<div class="bar">
  <a class="brand" href="#top">{text.LOGO}<span>{escape(text.TITLE)}</span></a>
  <nav aria-label="Parts of the page">
    {"".join(f'<a href="#{name}">{escape(title)}</a>' for name, title in text.SECTIONS.items())}
  </nav>
  <span class="chip"></span>
  <button class="mode" type="button" aria-label="Switch between light and dark">◐</button>
</div>
"""

_SCRIPT = """
const chip = element.querySelector('.chip');
function show() {
  const view = props.value;
  if (!view || !view.model) return;
  chip.textContent = view.model.split('/').pop() + ' · ' + view.plan + (view.heads ? ' · head-mapped' : '');
  chip.title = view.model + ' with plan ' + view.plan;
  const url = new URL(window.location);
  url.searchParams.set('model', view.model);
  url.searchParams.set('plan', view.plan);
  if (view.heads) url.searchParams.set('heads', view.heads);
  else url.searchParams.delete('heads');
  history.replaceState(history.state, '', url);
}
show();
watch('value', show);
const calm = matchMedia('(prefers-reduced-motion: reduce)').matches;
for (const link of element.querySelectorAll('a'))
  link.addEventListener('click', event => {
    event.preventDefault();
    const target = document.getElementById(link.getAttribute('href').slice(1));
    if (target) target.scrollIntoView({behavior: calm ? 'auto' : 'smooth'});
  });
const KEY = 'shared-attention-mode';
const kept = localStorage.getItem(KEY);
if (kept && !new URLSearchParams(location.search).has('__theme'))
  document.body.classList.toggle('dark', kept === 'dark');
element.querySelector('.mode').addEventListener('click', () => {
  localStorage.setItem(KEY, document.body.classList.toggle('dark') ? 'dark' : 'light');
});
"""


def view_bar() -> gr.HTML:
    """The bar; its value is the view, `{"model": name, "plan": plan text}`, as input and as output of events.

    `heads`, where it is there, is the head map of the plan as JSON: {follower: leader head of each head}.
    """
    return gr.HTML({}, html_template=_TEMPLATE, js_on_load=_SCRIPT, apply_default_css=False, elem_id="bar")
