"""Export hands champions, picks and finished runs to other tools: runtimes, the Hub, MLflow.

It uses gate (which model is trusted), runs (what is finished), training (how a model is read),
sources (its images) and store; `dcd export` and `dcd publish` use it, and MLflow's part the tasks.
"""
