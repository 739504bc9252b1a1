"""Work that outlives a page: the job table, the queue, the worker and the service in front.

Knows medvae and huey; knows nothing of gradio. Importing it starts neither torch nor a queue.
"""
