"""Live progress: who works tells of it, who shows it listens.

It uses nothing of dcd. `live` hands out what every room calls while it works, `pace` turns counts
and times into a rate, the time left, and a line for people.
"""
