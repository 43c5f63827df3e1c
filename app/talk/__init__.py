"""The talk: a dozen slides built on the page's model and plan, one idea each, for whoever stands in front of people.

`slides` says which there are and in what order, `content` what each shows of a model and a plan, `records` what has been
measured of it, `drawing` how it is drawn. Numbers are from records, from formulas or computed while the talk is given, and
say which; what is in no record is said to be in none. `app.panels.talk` puts the slides on the page.
"""
