"""The demonstration: real images, a noisy pool, failures that train never saw.

`case` writes a case and its config, and has what all cases share; `digits` and `clothes` make one
each. Uses config and errors, as a user's config does.
Hands out `write_demo` and `CASES`, from `dcd.demo.case`.
"""
