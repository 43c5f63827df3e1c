"""One visitor against all others, on a real server: what they ask for is answered, or refused in one sentence, in time."""

import pytest

from tests.benchmarks import attack, memory
from tests.support.browser import free_port

pytestmark = pytest.mark.browser


def test_others_get_their_savings_while_one_asks_45_times_for_ten_million_layers():
    found = attack.measure(free_port(), 45, 10**7)
    assert sum(found["answers"].values()) == 45
    assert all("it must be from 1 to 1,000 layers" in answer for answer in found["answers"])
    # 2 s on two cores of one's own; where others compute on them too, a call alone takes longer as well
    assert found["others_slowest_s"] < max(attack.LIMIT_S, 40 * found["alone_median_s"])
    assert found["server_mb_after"] < found["server_mb_before"] + 150


def test_memory_is_flat_over_mixed_calls():
    found = memory.measure(free_port(), 120, 60, 3)
    assert found["growth"] < 3 * memory.GROWTH  # of so few calls; the command makes 2,000
    assert all(answer.endswith(("answered", "refused")) for answer in found["answers"])
