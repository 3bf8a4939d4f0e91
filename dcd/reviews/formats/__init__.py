"""The forms in which images go out to annotators and come back, one module a tool.

Each writes a hand-off and reads what the tool exports. It uses `dcd.reviews.hand_off`; it hands
out `written` and `answers` of each tool.
"""
