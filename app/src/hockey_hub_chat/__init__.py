"""Hockey Hub Chat: the chat application of the appliance.

Layers, imports pointing one way: ``web → services → {storage, realtime} → {events, errors, config}``.
``compose`` is the one composition root; nothing below it knows which database or bus it runs on.
"""

__version__ = "0.1.0"
