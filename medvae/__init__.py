"""Learns healthy chest X-rays from normal images alone and shows where another one differs.

The science: data, model and engine. Knows torch; knows nothing of queues, databases or pages.
"""

__version__ = "0.1.0"
