"""Weights in fewer bits: a second model on the same storage whose linear layers hold integers.

optimum-quanto packs two 4-bit numbers into a byte on every device, where torchao's weights of a CPU take a whole one. Not
quantized are embeddings, norms and the head that turns states into words: where it is tied to the embedding, it would take
memory of its own.
"""

from contextlib import redirect_stdout
from io import StringIO
from typing import TypeVar

from torch import nn
from transformers import PreTrainedModel

from core.gguf_source import quantization_of
from core.quantization.quanto import without_compiling
from core.sharing.storage import twin_of

Model = TypeVar("Model", bound=PreTrainedModel)


def with_weights(model: Model, weights: str) -> Model:
    """A model like `model`, which stays as it is, with the weights of its linear layers held as `weights` says: `full`,
    `int8` or `int4`.

    Raises ValueError, in one sentence, for a model whose weights were quantized before, one without linear layers, and
    where optimum-quanto is missing.
    """
    if weights == "full":
        return model
    if (before := quantization_of(model)) or getattr(model.config, "quantization_config", None):
        raise ValueError(
            f"The weights of this model were quantized before ({before or 'its configuration says how'}), and quantized "
            "twice they would not be those of any format: leave --weights out, or give the original weights."
        )
    without_compiling(f"Holding weights in {weights}")
    twin = twin_of(model)
    names = _linear_layers(twin)
    if not names:
        raise ValueError(
            f"This model ({model.config.model_type}) has no linear layers that could be quantized: leave --weights out."
        )
    from optimum.quanto import freeze, qint4, qint8, quantize

    with redirect_stdout(StringIO()):
        quantize(twin, weights={"int8": qint8, "int4": qint4}[weights], include=names)
        freeze(twin)
    return twin


def _linear_layers(model: PreTrainedModel) -> list[str]:
    head = model.get_output_embeddings()
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and module is not head]
