"""The short way in: plain requests for runs and with events, answered without Django's middlewares."""
