"""What the step kernels compute, in plain torch: takes their place where there is no GPU."""

import torch


def _probabilities(query, keys, end, scaling):
    keys = keys.repeat_interleave(query.shape[1] // keys.shape[1], 1)
    scores = query @ keys.transpose(2, 3) * scaling
    visible = torch.arange(keys.shape[2], device=keys.device) < end
    return scores.masked_fill(~visible, -torch.inf).softmax(-1)


def attend(query, keys, values, end, scaling):
    heads = torch.arange(query.shape[1])
    return weighted_values(_probabilities(query, keys, end, scaling), values, end, heads)


def attention_weights(query, keys, end, scaling):
    return _probabilities(query, keys, end, scaling)


def weighted_values(weights, values, end, heads):
    return weights[:, heads] @ values.repeat_interleave(weights.shape[1] // values.shape[1], 1)
