"""The report: one page, one card and the figures of a finished run.

Every string is text, every picture is inside the page; nothing runs or loads.
Uses gate, evaluation and sources; hands out `RunRecord` (record), `render` (page) and the card.
"""
