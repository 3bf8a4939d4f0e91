"""The report is one page, one card and the figures of a finished run.

Every string is text, every picture is inside the page; nothing in it runs or loads.
It uses gate, evaluation and images; it hands out `RunRecord` (record), `render` (page) and the
card.
"""
