"""Export hands a champion and a run's picks to other tools: runtimes, the Hub, datasets.

It uses gate (which model is trusted), training (how it is read), sources (its images) and store;
the commands `dcd export` and `dcd publish` use it.
"""
