"""Where there is Hugging Face's ZeroGPU, functions that compute borrow a GPU for the length of a call."""

try:
    from spaces import GPU as on_gpu
except ImportError:

    def on_gpu(function):
        """The function as it is. (Under ZeroGPU: runs in a forked process, so arguments must be small and picklable.)"""
        return function


__all__ = ["on_gpu"]
