"""Texts that visitors wait for: one computation for all who ask for the same, a turn for each other, no thread for a wait."""

import asyncio
import threading
from itertools import count

import pytest

import core.decoding.generation
from app import line, services, settings
from app.line import Line, LineFull
from app.visitors import Visitor
from app.writings import Texts, Writings
from tests.support.page import PROMPT, pair_progress
from tests.support.streams import items

STEPS = 6


@pytest.fixture
def begun(monkeypatch) -> list:
    """The prompts of all computations that began; each writes `STEPS` letters, as fast as `Gate.opened` lets it."""
    begun, closed = [], []

    def letters(model, plan, prompt, *how):
        begun.append(prompt)
        try:
            for step in range(STEPS):
                progress = pair_progress(prompt + "x" * step, "", None, finished=step == STEPS - 1)
                progress.parting = "here" if step >= 2 else None
                yield progress
        finally:
            closed.append(prompt)

    monkeypatch.setattr(services, "generate", letters)
    begun.append(closed)
    return begun


def texts(prompt: str = "a") -> Texts:
    return Texts("demo", "2-4", prompt, 5, 0.0, 0)


def one(name: str) -> Visitor:
    return Visitor(name, name)


async def read(writings: Writings, asked: Texts, who: Visitor, seen: list | None = None) -> str:
    reader = writings.reader(asked)
    try:
        async for _ in reader.waiting(who):
            pass
        async for progress in reader.progress():
            (seen if seen is not None else []).append(progress.dense.text)
            last = progress.dense.text
        return last
    finally:
        await reader.leave()


def test_who_asks_for_the_same_reads_the_same_computation_and_nobody_of_them_waits(begun):
    writings = Writings(Line(1))

    async def a_class():
        with_others = [read(writings, texts(), one(f"v{number}")) for number in range(50)]
        return await asyncio.wait_for(asyncio.gather(*with_others), 10)

    assert asyncio.run(a_class()) == ["a" + "x" * (STEPS - 1)] * 50
    assert begun[1:] == ["a"] and not writings._known and not writings.line._places


def test_other_texts_wait_for_their_turn(begun):
    writings = Writings(Line(1))

    async def three():
        await asyncio.gather(*(read(writings, texts(name), one(name)) for name in "abc"))

    asyncio.run(three())
    assert begun[1:] == ["a", "b", "c"] and begun[0] == ["a", "b", "c"]


def test_who_comes_late_reads_from_the_beginning_and_sees_where_the_texts_parted(begun):
    writings = Writings(Line(1))

    async def late():
        first = writings.reader(texts())
        async for _ in first.waiting(one("a")):
            pass
        seen = first.progress()
        for _ in range(5):
            await anext(seen)
        second = writings.reader(texts())
        async for _ in second.waiting(one("b")):
            raise AssertionError("nobody waits for what is written already")
        found = [progress.dense.text async for progress in second.progress()]
        await first.leave(), await second.leave()
        return found

    assert asyncio.run(late()) == ["axx", "axxxx", "axxxxx"] and begun[1:] == ["a"]


def test_when_the_one_whose_turn_it_is_leaves_the_others_read_on_and_the_turn_is_theirs(begun):
    writings = Writings(Line(1))

    async def leave():
        first, second = writings.reader(texts()), writings.reader(texts())
        for reader, name in ((first, "a"), (second, "b")):
            async for _ in reader.waiting(one(name)):
                pass
        await anext(first.progress())
        await first.leave()
        [place] = writings.line._places
        assert place.visitor == one("b")
        rest = [progress.dense.text async for progress in second.progress()]
        assert not writings.line._places
        await second.leave()
        return rest

    assert asyncio.run(leave())[-1] == "axxxxx" and begun[1:] == ["a"]


def test_what_nobody_reads_any_more_ends(begun):
    writings = Writings(Line(1))

    async def leave():
        reader = writings.reader(texts())
        async for _ in reader.waiting(one("a")):
            pass
        await anext(reader.progress())
        await reader.leave()

    asyncio.run(leave())
    assert begun[0] == ["a"] and not writings._known and not writings.line._places


def test_who_pauses_gives_the_turn_back_and_reads_on_later(begun):
    writings = Writings(Line(1))

    async def pause():
        reader = writings.reader(texts())
        async for _ in reader.waiting(one("a")):
            pass
        await anext(reader.progress())
        await reader.pause()
        assert not writings.line._places
        other = await read(writings, texts("b"), one("b"))
        async for _ in reader.waiting(one("a")):
            pass
        rest = [progress.dense.text async for progress in reader.progress()]
        await reader.leave()
        return other, rest[-1]

    assert asyncio.run(pause()) == ("bxxxxx", "axxxxx") and begun[1:] == ["a", "b"]


def test_a_failure_reaches_everyone_who_reads_and_the_next_one_tries_again(monkeypatch):
    tries = count()

    def fails(*what):
        next(tries)
        raise ValueError("No.")
        yield

    monkeypatch.setattr(services, "generate", fails)
    writings = Writings(Line(1))

    async def both():
        return await asyncio.gather(*(read(writings, texts(), one(name)) for name in "ab"), return_exceptions=True)

    assert [str(problem) for problem in asyncio.run(both())] == ["No.", "No."] and next(tries) == 1
    assert [str(problem) for problem in asyncio.run(both())] == ["No.", "No."] and next(tries) == 3


def test_a_wait_takes_no_thread_and_a_full_line_is_one_sentence(begun):
    writings = Writings(Line(1, longest=100))

    async def many():
        before = threading.active_count()
        with writings.line.place():
            tasks = [asyncio.create_task(read(writings, texts(f"p{n}"), one(f"v{n}"))) for n in range(100)]
            await asyncio.sleep(0.1)
            assert threading.active_count() == before and len(writings.line) == 100
            with pytest.raises(LineFull, match="The line for texts is full, 100 wait already"):
                await read(writings, texts("more"), one("more"))
        return await asyncio.wait_for(asyncio.gather(*tasks), 20)

    assert len(asyncio.run(many())) == 100 and len(begun) == 101


def test_who_has_gone_is_noticed_while_waiting(begun, monkeypatch):
    """gradio closes the generator of a tab that is gone when it next yields."""
    monkeypatch.setattr(line, "TELL_S", 0.01)
    writings = Writings(Line(1))

    async def gone():
        with writings.line.place():
            reader = writings.reader(texts())
            waiting = reader.waiting(one("a"))
            assert (await anext(waiting)).ahead == 1 and len(writings.line) == 1
            await waiting.aclose()
            await reader.leave()
            assert not len(writings.line) and not writings._known

    asyncio.run(gone())
    assert begun[1:] == []


# What may be asked


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"prompt": "x" * 101}, "prompt has 101 characters: give at most 100"),
        ({"system": "x" * 101}, "system has 101 characters"),
        ({"max_new_tokens": 21}, "max_new_tokens is 21: give a whole number from 1 to 20"),
        ({"max_new_tokens": 10**18}, "give a whole number from 1 to 20"),
        ({"max_new_tokens": 2.5}, "whole number"),
        ({"temperature": 10.5}, "temperature is 10.5: give a number from 0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": -0.1}, "from 0 "),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**63}, "seed is 9223372036854775808"),
        ({"chat": "yes"}, "chat is 'yes': give true or false"),
        ({"prompt": "\ud800"}, "lone surrogate"),
        ({"plan": "1" * 5000}, "plan has 5,000 characters"),
    ],
)
def test_limits_hold_where_the_work_is_done(change, told, monkeypatch):
    """Whoever calls: the page, a program or a link. Nothing is loaded or tokenized for what is refused."""
    monkeypatch.setattr(settings.server, "max_prompt_characters", 100)
    monkeypatch.setattr(settings.server, "max_new_tokens", 20)
    monkeypatch.setattr(services, "get_model", None)
    asked = texts()._replace(**change)
    with pytest.raises(ValueError, match=told):
        next(services.generate(*asked))
    with pytest.raises(ValueError, match=told):
        Writings(Line(1)).reader(asked)


def test_a_long_text_is_refused_before_its_attention_is_looked_at(monkeypatch):
    monkeypatch.setattr(settings.server, "max_prompt_characters", 100)
    monkeypatch.setattr(services, "get_model", None)
    for call in (
        lambda: services.similarity("demo", "x" * 101, "head_mean"),
        lambda: services.token_ids("demo", "x" * 101, 5),
    ):
        with pytest.raises(ValueError, match="text has 101 characters: give at most 100"):
            call()


def test_what_is_asked_is_not_written_by_real_models_unless_all_of_it_is_the_same(view, monkeypatch):
    asked, real = [], core.decoding.generation.generate_pair

    def counted(*arguments, **how):
        asked.append(arguments[3])
        return real(*arguments, **how)

    monkeypatch.setattr(core.decoding.generation, "generate_pair", counted)
    monkeypatch.setattr(services, "writes_together", lambda *models: False)
    writings = Writings(Line(2))
    same = Texts(view["model"], view["plan"], PROMPT, 5, 0.7, 1)
    others = [same._replace(seed=2), same._replace(temperature=0.0), same._replace(max_new_tokens=4)]

    async def both():
        wanted = [same, same, *others]
        return await asyncio.gather(*(read(writings, one_of, one(f"v{n}")) for n, one_of in enumerate(wanted)))

    found = asyncio.run(both())
    assert len(asked) == 4 and found[0] == found[1]
    alone = [list(services.generate(*one_of))[-1].dense.text for one_of in (same, *others)]
    assert found[1:] == alone


def test_the_page_and_programs_say_in_one_sentence_that_the_line_is_full(view, monkeypatch):
    import gradio as gr

    from app import api
    from app.panels import generate_run

    monkeypatch.setattr(settings.server, "texts_waiting", 1)
    with services.texts_line.place(), services.texts_line.place(), services.texts_line.place():
        value, error, *_ = list(items(generate_run.run(view, PROMPT, 5, 0.0, 0)))[-1]
        assert value == {"state": "failed"} and "The line for texts is full, 1 wait already" in error
        with pytest.raises(gr.Error, match="The line for texts is full, 1 wait already"):
            list(items(api.generate_endpoint(PROMPT, view["model"], "2-4", 4)))
    last = list(items(api.generate_endpoint(PROMPT, view["model"], "2-4", 4)))[-1]
    assert last["dense"]["tokens"] == 4 and last["line"] == ""


def test_a_program_in_the_line_is_told_so(view):
    from app import api

    with services.texts_line.place(), services.texts_line.place() as second:
        told = items(api.generate_endpoint(PROMPT, view["model"], "2-4", 4))
        first = next(told)
        assert "2 others are before you" in first["line"] and first["dense"]["text"] == "" and second.has_turn
        told.close()
    assert not services.texts_line._places


# Together


@pytest.fixture
def batches(monkeypatch, begun) -> list:
    """What was written together; each text as `begun` writes it."""
    found = []

    def together(model, plan, heads, wanted, dropped, against):
        found.append([one.prompt for one in wanted])
        steps = [services.generate(model, plan, one.prompt) for one in wanted]
        for _ in range(STEPS):
            for place, one_of in enumerate(steps):
                if place not in dropped:
                    yield place, ValueError("No.") if wanted[place].prompt == "bad" else next(one_of)

    monkeypatch.setattr(services, "generate_together", together)
    monkeypatch.setattr(services, "writes_together", lambda model, plan, heads, against: plan == "2-4")
    return found


def test_who_waits_for_texts_of_the_same_models_is_written_with_the_first_of_them(batches):
    writings = Writings(Line(1))

    async def many():
        others = texts("other")._replace(plan="3-5")
        with writings.line.place():
            asked = [*(texts(f"p{number}") for number in range(10)), others]
            tasks = [asyncio.create_task(read(writings, a, one(f"v{n}"))) for n, a in enumerate(asked)]
            await asyncio.sleep(0.05)
        return await asyncio.wait_for(asyncio.gather(*tasks), 10)

    assert asyncio.run(many()) == [f"p{number}xxxxx" for number in range(10)] + ["otherxxxxx"]
    assert batches == [[f"p{number}" for number in range(8)], ["p8", "p9"]]
    assert not writings.line._places and not writings._known


def test_of_one_visitor_one_text_is_in_a_batch(batches):
    writings = Writings(Line(1))

    async def tabs():
        with writings.line.place():
            tasks = [asyncio.create_task(read(writings, texts(f"p{n}"), one("a"))) for n in range(3)]
            tasks.append(asyncio.create_task(read(writings, texts("q"), one("b"))))
            await asyncio.sleep(0.05)
        await asyncio.wait_for(asyncio.gather(*tasks), 10)

    asyncio.run(tabs())
    assert batches[0] == ["p0", "q"] and not writings.line._places


def test_who_leaves_a_batch_ends_only_their_own_text_and_a_bad_one_fails_alone(batches):
    writings = Writings(Line(1))

    async def leave():
        with writings.line.place():
            leaving = writings.reader(texts("gone"))

            async def first_word():
                async for _ in leaving.waiting(one("a")):
                    pass
                await anext(leaving.progress())
                await leaving.leave()

            tasks = [asyncio.create_task(first_word())]
            tasks += [asyncio.create_task(read(writings, texts(name), one(name))) for name in ("bad", "good")]
            await asyncio.sleep(0.05)
        return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)

    _, problem, good = asyncio.run(leave())
    assert str(problem) == "No." and good == "goodxxxxx" and batches == [["gone", "bad", "good"]]
    assert not writings.line._places and not writings._known


def test_real_texts_written_together_are_those_written_alone(view):
    asked = [
        Texts(view["model"], view["plan"], PROMPT[: 3 + 4 * number], 6, 0.7 * (number % 2), number)
        for number in range(5)
    ]
    alone = [list(services.generate(*one_of))[-1] for one_of in asked]
    assert services.writes_together(*asked[0].models)
    writings = Writings(Line(1))

    async def both():
        with writings.line.place():
            tasks = [asyncio.create_task(read(writings, a, one(f"v{n}"))) for n, a in enumerate(asked)]
            await asyncio.sleep(0.05)
        return await asyncio.gather(*tasks)

    assert asyncio.run(both()) == [end.dense.text for end in alone]
