"""What the service and the web app take at most."""

MAX_UPLOAD = 20_000_000
"""Bytes of an uploaded file."""
MAX_PROMPT = 300
"""Characters of a prompt: twice the longest training caption. One long prompt slows the whole batch it is in."""
MAX_SECONDS = 600
"""Seconds of a motion that is given or asked for, whatever the model could do."""
MAX_FINISHED = 20_000
"""Frames of one request that are finished, at the frame rate of the result: about a minute of work at worst."""
MAX_FPS = 240
"""Frames per second that can be asked for."""
