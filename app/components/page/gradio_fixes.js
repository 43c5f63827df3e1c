// What gradio's own components lack for keyboards, screen readers and paper, mended from outside. `words`: text.GRADIO_FIXES.
