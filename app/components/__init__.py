"""Parts of the page that gradio does not have: a chart that keeps its zoom, the current view, safe HTML pieces."""
