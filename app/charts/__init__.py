"""Charts: pure functions from data to a plotly Figure, all in one look; nothing to show draws a figure that says so.

`app.charts.style` holds the look and imports no other chart; the other files follow the parts of the page.
"""
