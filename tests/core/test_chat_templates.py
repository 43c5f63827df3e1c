"""Chat templates end: what they may do is bounded, and what those of real models do is left as it was."""

import time
from datetime import datetime

import pytest
from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

import core.models
from core.admission.templates import BoundedEnvironment
from core.decoding.chat import chat_ids
from tests.support.tokenizers import byte_tokenizer

MESSAGES = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Who are you?"}]
BOMBS = {
    "a loop": "{% for i in range(10**12) %}x{% endfor %}",
    "loops in loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "loops over lists": "{% set x = [1] * 9000 %}" + "{% for i in x %}" * 5 + "{% endfor %}" * 5,
    "a product": "{{ 'a' * 10**10 }}",
    "a product the other way": "{{ 10**10 * 'a' }}",
    "lists of lists": "{% set x = [1] %}" + "{% set x = [x] * 1000 %}" * 6 + "{{ x }}",
    "doubled lists": "{% set x = [1] %}" + "{% set x = [x, x] %}" * 60 + "{{ x|length }}",
    "doubled pairs": "{% set x = (1,) %}" + "{% set x = (x, x) %}" * 60 + "{{ x == x }}",
    "doubled objects": "{% set x = {} %}" + "{% set x = {'a': x, 'b': x} %}" * 60 + "{{ x|tojson }}",
    "doubled texts": "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}",
    "added texts": "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}{{ n.x }}",
    "replaced texts": "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = n.x|replace('a', 'aa') %}{% endfor %}",
    "a method that replaces": "{% set n = namespace(x='a') %}{% for i in range(60) %}"
    "{% set n.x = n.x.replace('a', 'aaaa') %}{% endfor %}",
    "texts joined": "{% set n = namespace(x='aaaa') %}{% for i in range(60) %}{% set n.x = [n.x, n.x]|join(n.x) %}{% endfor %}",
    "a method that joins": "{% set n = namespace(x='aaaa') %}{% for i in range(60) %}{% set n.x = n.x.join([n.x, n.x]) %}{% endfor %}",
    "a power": "{{ 10**(10**10) }}",
    "powers of powers": "{% set n = namespace(x=10) %}{% for i in range(60) %}{% set n.x = n.x * n.x %}{% endfor %}{{ n.x }}",
    "a centre": "{{ 'a'|center(10**10) }}",
    "a method of width": "{{ 'a'.ljust(10**10) }}",
    "an indent": "{{ ('a\n' * 10000)|indent(90000) }}",
    "JSON indented": "{{ [[1]]|tojson(indent=10**9) }}",
    "a format": "{{ '{:>9999999999}'.format(1) }}",
    "a format by a number": "{{ '{:>{w}}'.format(1, w=10**10) }}",
    "a format of old": "{{ '%9999999999d' % 1 }}",
    "a filter that formats": "{{ '%09999999999d'|format(1) }}",
    "a format by a star": "{{ '%*d' % (10**9, 1) }}",
    "a macro": "{% macro f(n) %}{{ f(n) }}{{ f(n) }}{% endmacro %}{{ f(1) }}",
    "a tree of macros": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "a date": "{{ strftime_now('%1000000000Y') }}",
    "words of nobody": "{{ lipsum(n=10**6) }}",
    "much output": "{% set x = 'a' * 1000000 %}{% for i in range(99999) %}{{ x }}{% endfor %}",
    "output kept": "{% set x = 'a' * 1000000 %}{% set y %}{% for i in range(99999) %}{{ x }}{% endfor %}{% endset %}",
    "filters in a row": "{{ range(99999)|map('center', 99999)|list|length }}",
}
ORDINARY = (
    ("{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] | trim + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"),
    ("{%- set ns = namespace(found=false, n=0) -%}{%- for m in messages[::-1] -%}{%- set i = (messages|length - 1) - loop.index0 %}"
    "{%- if m.role == 'user' and not ns.found %}{% set ns.found = true %}{% set ns.n = i %}{% endif -%}{{ loop.last ~ loop.length }}"
    "{%- endfor %}{{ ns.n }}{{ messages|selectattr('role', 'equalto', 'user')|list|length }}{{ messages|tojson(indent=4) }}"),
    ("{% macro turn(m, end='.') %}{{ m.role|title }}: {{ m.content.split(' ')[-1] }}{{ end }}{% endmacro %}"
    "{% for m in messages %}{{ turn(m) }}{{ turn(m, end='!') }}{% endfor %}{{ '%s has %d' % ('a', 2) }}{{ '{:.2f}'.format(1.5) }}"),
    "{% for key, value in messages[0]|dictsort %}{{ key }}={{ value }};{% endfor %}{{ ['a', 'b']|join(', ') }}{{ [1, 2] + [3] }}",
    ("{% for m in messages if m.role != 'system' %}{{ loop.index }}{{ m['content'].strip()|replace('you', 'we') }}{% else %}none"
    "{% endfor %}{{ {'a': (1, 2)} }}{{ messages|map(attribute='role')|join('+') }}{{ 'x' is string }}{{ 2 ** 10 }}{{ 7 % 3 }}"),
)  # fmt: skip


def strftime_now(form: str) -> str:
    """As transformers has it."""
    return datetime.now().strftime(form)


@pytest.mark.parametrize("name", BOMBS)
def test_a_template_ends(name):
    environment = BoundedEnvironment(extensions=["jinja2.ext.loopcontrols"])
    environment.globals["strftime_now"] = strftime_now
    start = time.monotonic()
    with pytest.raises((TemplateError, OverflowError)):
        environment.from_string(BOMBS[name]).render(messages=MESSAGES)
    assert time.monotonic() - start < 15


@pytest.mark.parametrize("words", ORDINARY)
def test_what_templates_do_stays_as_it_was(words):
    given = {"messages": MESSAGES, "add_generation_prompt": True}
    plain = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(words).render(**given)
    assert BoundedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(words).render(**given) == plain != ""


def test_a_long_conversation_is_rendered():
    """A prompt of a million letters, in a template that looks at every turn several times."""
    messages = [{"role": "user", "content": "word " * 2000}, {"role": "assistant", "content": "x" * 1000}] * 100
    environment = BoundedEnvironment()
    for words in ORDINARY[:3]:
        assert len(environment.from_string(words).render(messages=messages, add_generation_prompt=True)) > 1000


def test_transformers_renders_in_it():
    """So that lm-eval and every other caller of the tokenizer has the bounds too."""
    assert core.models.BoundedEnvironment is BoundedEnvironment
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    with pytest.raises(ValueError, match="The chat template of this model refuses this conversation .it takes longer"):
        chat_ids(tokenizer, "Hello")
    tokenizer.chat_template = ORDINARY[0]
    assert "Hello" in tokenizer.decode(chat_ids(tokenizer, "Hello")[0])
