"""The page. Knows jobs.service and medvae's public classes; nothing of torch, huey or tables.

Importing it, or `ui.app`, starts neither torch nor a server.
"""

import os

# Before anybody imports gradio: a page of medical images tells nobody that it was opened.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
