"""The HTTP service and what it shares with the web app. They call the public API and nothing deeper."""
