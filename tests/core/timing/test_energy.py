"""core.timing.energy: joules per token from a card's counter, with a counter that is made up."""

from types import SimpleNamespace

import pytest
import torch

from core.decoding.graph import GraphDecoder
from core.timing import energy

CARD = torch.device("cuda", 0)


class Nvml:
    """A driver whose one card has drawn `millijoules`. fault: what it answers instead."""

    def __init__(self, millijoules=0, fault=0):
        self.millijoules, self.fault, self.asked = millijoules, fault, []

    def nvmlDeviceGetHandleByUUID(self, uuid, handle):
        self.asked.append(uuid.value)
        return 0 if uuid.value == b"GPU-some" else 6

    def nvmlDeviceGetTotalEnergyConsumption(self, handle, millijoules):
        if not self.fault:
            millijoules._obj.value = self.millijoules
        return self.fault


class Steps(GraphDecoder):
    """A decoder that draws 3 J a step, and notes where it stands."""

    def __init__(self, nvml):
        self.model, self.nvml, self.length, self.longest = SimpleNamespace(), nvml, 0, 0

    def rewind(self, tokens):
        self.length = tokens

    def step_greedily(self, tokens):
        self.nvml.millijoules += 3000
        self.length += 1
        self.longest = max(self.longest, self.length)
        return torch.zeros(len(tokens), dtype=torch.long)


@pytest.fixture
def driver(monkeypatch):
    nvml = Nvml(millijoules=10**9)
    monkeypatch.setattr(energy, "_nvml", lambda: nvml)
    monkeypatch.setattr(energy, "MEASURED_S", 0.01)
    monkeypatch.setattr(energy, "gpus_of", lambda model: {CARD})
    monkeypatch.setattr(energy, "wait", lambda model: None)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="some"))
    return nvml


def test_it_is_what_the_counter_moved_by_for_each_token_of_each_row(driver):
    decoder = Steps(driver)
    assert energy.joules_per_token(decoder, torch.zeros(4, dtype=torch.long), 100, 5) == pytest.approx(3 / 4)
    assert decoder.longest == 105 and decoder.length == 100  # the same five steps each time
    assert set(driver.asked) == {b"GPU-some"}


def test_cards_without_a_counter_and_machines_without_the_library_have_none(driver, monkeypatch):
    driver.fault = 3  # not supported
    assert energy.energy_counter(CARD) is None
    assert energy.joules_per_token(Steps(driver), torch.zeros(1, dtype=torch.long), 1, 1) is None
    driver.fault = 0
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="other"))
    assert energy.energy_counter(CARD) is None
    monkeypatch.setattr(energy, "_nvml", lambda: None)
    assert energy.energy_counter(CARD) is None


def test_steps_that_are_not_recorded_and_models_on_a_cpu_have_none(driver, monkeypatch):
    assert energy.joules_per_token(SimpleNamespace(model=None), torch.zeros(1, dtype=torch.long), 1, 1) is None
    monkeypatch.setattr(energy, "gpus_of", lambda model: set())
    assert energy.joules_per_token(Steps(driver), torch.zeros(1, dtype=torch.long), 1, 1) is None


def test_a_machine_without_the_driver_has_no_library(monkeypatch):
    def missing(name):
        raise OSError(name)

    monkeypatch.setattr(energy, "CDLL", missing)
    assert energy._nvml.__wrapped__() is None
