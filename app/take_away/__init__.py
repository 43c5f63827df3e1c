"""What a visitor takes with them: the present comparison as one HTML file that asks nobody for anything.

`comparison` gathers it, `page` writes it; `figures`, `tables` and `citation` are what it is made of.
"""
