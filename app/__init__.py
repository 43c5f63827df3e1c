"""The dashboard: one page that shows what attention sharing saves, says and costs. Start it with `python -m app`."""
