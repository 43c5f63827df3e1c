"""Accelerators and CPUs by their data sheets: memory, bandwidth, matrix multiplication rates, price where it is public."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType


@dataclass(frozen=True)
class Device:
    """An accelerator or a CPU with its memory, by its data sheet.

    flops_per_s: dense matrix multiplication by number format (no structured sparsity; sums in float32; float32 itself
    without TF32). A format that is missing has no published rate. `cuda_name` is what torch calls the device.
    """

    name: str
    memory_bytes: int
    bandwidth_bytes_per_s: float
    source: str
    flops_per_s: Mapping[str, float] = field(default_factory=dict)
    usd_per_hour: float | None = None
    price_source: str = ""
    cuda_name: str = ""

    def times(self, count: int) -> "Device":
        """`count` of these with the layers spread over them: a step runs through one device after the other, so there
        is more memory but no more bandwidth. The time that data takes from one to the next is ignored."""
        if count == 1:
            return self
        price = None if self.usd_per_hour is None else count * self.usd_per_hour
        name = f"{count} {self.name}"
        return replace(self, name=name, memory_bytes=count * self.memory_bytes, usd_per_hour=price)


def _device(name: str, gigabytes: float, gb_per_s: float, source: str, tflops: dict | None = None, **more) -> Device:
    """tflops: by number format; `half` stands for bfloat16 and float16."""
    rates = dict(tflops or {})
    rates |= dict.fromkeys(("bfloat16", "float16"), rates.pop("half")) if "half" in rates else {}
    flops = MappingProxyType({dtype: rate * 1e12 for dtype, rate in rates.items()})
    return Device(name, int(gigabytes * 1e9), gb_per_s * 1e9, source, flops, **more)


_SPACES = "https://huggingface.co/docs/hub/spaces-gpus"
_RUNPOD = "https://www.runpod.io/pricing (read 2026-11-09)"
_APPLE = "https://www.apple.com/newsroom"
_A100 = "NVIDIA A100 data sheet, https://www.nvidia.com/en-us/data-center/a100/"
_DEVICES = (
    _device(
        "NVIDIA H200", 141, 4800, "https://www.nvidia.com/en-us/data-center/h200/",
        {"half": 989.5, "float8": 1979, "float32": 67}, cuda_name="NVIDIA H200",
    ),
    _device(
        "NVIDIA H100 SXM", 80, 3350, "https://www.nvidia.com/en-us/data-center/h100/",
        {"half": 989.5, "float8": 1979, "float32": 67}, usd_per_hour=3.99, price_source=_RUNPOD,
        cuda_name="NVIDIA H100 80GB HBM3",
    ),
    _device(
        "NVIDIA H100 PCIe", 80, 2000, "https://www.nvidia.com/en-us/data-center/h100/",
        {"half": 756.5, "float8": 1513, "float32": 51}, usd_per_hour=2.89, price_source=_RUNPOD,
        cuda_name="NVIDIA H100 PCIe",
    ),
    _device(
        "NVIDIA A100 80 GB", 80, 2039, _A100, {"half": 312, "float32": 19.5}, usd_per_hour=1.79, price_source=_RUNPOD,
        cuda_name="NVIDIA A100-SXM4-80GB",
    ),
    _device(
        "NVIDIA A100 40 GB", 40, 1555, _A100, {"half": 312, "float32": 19.5}, cuda_name="NVIDIA A100-SXM4-40GB",
    ),
    _device(
        "NVIDIA L40S", 48, 864, "https://www.nvidia.com/en-us/data-center/l40s/",
        {"half": 362.05, "float8": 733, "float32": 91.6}, usd_per_hour=1.8, price_source=_SPACES,
        cuda_name="NVIDIA L40S",
    ),
    _device(
        "NVIDIA L4", 24, 300, "https://www.nvidia.com/en-us/data-center/l4/",
        {"half": 121, "float8": 242.5, "float32": 30.3}, usd_per_hour=0.8, price_source=_SPACES, cuda_name="NVIDIA L4",
    ),
    _device(
        "NVIDIA A10G", 24, 600, "https://www.baseten.co/blog/nvidia-a10-vs-a10g-for-ml-model-inference/",
        usd_per_hour=1.0, price_source=_SPACES, cuda_name="NVIDIA A10G",
    ),
    _device(
        "NVIDIA T4", 16, 320, "https://www.nvidia.com/en-us/data-center/tesla-t4/", {"float16": 65, "float32": 8.1},
        usd_per_hour=0.4, price_source=_SPACES, cuda_name="Tesla T4",
    ),
    _device(
        "NVIDIA RTX 4090", 24, 1008, "NVIDIA Ada GPU architecture white paper, appendix A",
        {"half": 165.2, "float8": 330.3, "float32": 82.6}, cuda_name="NVIDIA GeForce RTX 4090",
    ),
    _device(
        "NVIDIA RTX 3090", 24, 936, "NVIDIA Ampere GA102 GPU architecture white paper, appendix A",
        {"half": 71, "float32": 35.6}, cuda_name="NVIDIA GeForce RTX 3090",
    ),
    _device(
        "AMD Instinct MI300X", 192, 5300, "https://www.amd.com/en/products/accelerators/instinct/mi300/mi300x.html",
        {"half": 1307.4, "float8": 2614.9, "float32": 163.4}, cuda_name="AMD Instinct MI300X",
    ),
    _device("Apple M4 Max, 128 GB", 128, 546, f"{_APPLE}/2024/10/apple-introduces-m4-pro-and-m4-max/"),
    _device("Apple M2 Ultra, 192 GB", 192, 800, f"{_APPLE}/2023/06/apple-introduces-m2-ultra/"),
    _device("Server CPU: AMD EPYC 9004, 384 GB", 384, 460.8, "AMD EPYC 9004: 12 channels of DDR5-4800, 8 bytes each"),
    _device("Laptop CPU: DDR5-5600, 32 GB", 32, 89.6, "two channels of DDR5-5600, 8 bytes each"),
)  # fmt: skip
DEVICES: Mapping[str, Device] = MappingProxyType({device.name: device for device in _DEVICES})
"""Accelerators and CPUs by name. Gigabytes are 10⁹ bytes."""
